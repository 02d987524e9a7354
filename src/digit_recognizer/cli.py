"""The command line: one command per stage. Modules that import heavy packages are imported inside commands."""

import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from digit_recognizer import pipeline
from digit_recognizer.competition.submission import is_unfinished, read_record
from digit_recognizer.config import ANNOTATED, REFUSE, make_config
from digit_recognizer.console import make_console, say, show_steps, track
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import metrics
from digit_recognizer.files import write_text
from digit_recognizer.training import environment, run_folder

MAX_NAMES = 10  # of files that are not read
DATA, DEMO = Path("data"), Path("demo")
MODELS, PREDICTIONS, REPORTS, SUBMISSIONS = map(Path, ("models", ANNOTATED, "reports", "submissions"))
PATH = click.Path(path_type=Path)

_console = make_console()
_progress = Console(stderr=True)  # stdout carries results only

# Options that several commands share; those of one command are decorators.
SETTINGS = (
    click.Option(["--preset"], default="single", help="fast (seconds), single (one network), best (20), max (GPUs)."),
    click.Option(["--folds"], type=int, help="1: one hold-out; k: stratified k-fold; 0: train on all rows."),
    click.Option(["--members"], type=int, help="Networks per fold, with different seeds."),
    click.Option(["--validation"], type=float, help="Fraction of the rows held out, with one fold."),
    click.Option(["--epochs"], type=int, help="Passes over the training rows."),
    click.Option(["--seed"], type=int, help="Same seed, same machine: same weights."),
    click.Option(["--augment/--no-augment"], default=None, help="Augment the training images."),
    click.Option(["--precision"], show_default="what the hardware computes in", help="Keras dtype policy."),
)
DATA_DIR = click.Option(["--data-dir"], type=PATH, default=DATA, help="Folder of train.csv and test.csv.")
RUN = click.Option(["--run"], show_default="the latest", help="Name of the run.")
AS_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON on stdout and nothing else.")
REFUSAL = click.Option(["--refuse"], type=click.FloatRange(0, 1), default=REFUSE, help="Omit less probable digits.")


@click.group(context_settings={"show_default": True})
def app() -> None:
    """Kaggle's Digit Recognizer, from the download to the score on the leaderboard."""


@app.command(params=[DATA_DIR])
def doctor(data_dir: Path) -> None:
    """Check all that the other commands need, and name remedies."""
    from digit_recognizer import doctor

    status = 0
    for finding in doctor.diagnose(data_dir, MODELS, SUBMISSIONS):
        step = f"\n{'':<20}next: {finding.next}" if finding.next else ""
        print(f"{finding.status:<8}{finding.check:<12}{finding.found}{step}", flush=True)
        status |= finding.status == doctor.FAULT
    sys.exit(status)


@app.command(params=[DATA_DIR])
@click.option("--force", is_flag=True, help="Download again what is there already.")
def download(data_dir: Path, force: bool) -> None:
    """Download the competition's files with the Kaggle client."""
    from digit_recognizer.competition.download import download

    download(data_dir, force=force, say=say)


@app.command(params=[*SETTINGS, DATA_DIR])
@click.option("--run", show_default="made of the settings", help="Name of the run.")
@click.option("--cluster", help="Train on a Ray cluster: auto, or the head's HOST:PORT.")
def train(run: str | None, data_dir: Path, cluster: str | None, **settings: Any) -> None:
    """Train the networks of a run. Finished members of an interrupted run with the same settings are kept."""
    config, started = make_config(**settings), environment.now()
    if run is not None and (run != Path(run).name or run.startswith(".")):
        raise UserError(f"expected a name of a folder as RUN=, received {run!r}; use letters, digits and hyphens")
    run_dir, record = pipeline.train(config, data_dir, MODELS, _progress, run=run, cluster=cluster)
    for warning in record["warnings"]:
        say(f"warning: {warning}", error=True)
    if rows := record["scores"]["validation_rows"]:
        correct = round(record["scores"]["validation_accuracy"] * rows)
        say(f"Validation accuracy {metrics.proportion(correct, rows)}")
    action = "Trained" if record["finished_at"] >= started else f"Finished on {record['finished_at']}, trained"
    say(f"{action} in {record['training_seconds']:,.0f} s: {run_dir}")


@app.command(params=[RUN, DATA_DIR, AS_JSON])
def evaluate(run: str | None, data_dir: Path, as_json: bool) -> None:
    """Print the scores of a run by digit, and draw its figures."""
    from digit_recognizer.evaluation import report

    result = report.evaluate(report.load_run(_find_run(data_dir, run), data_dir))
    if as_json:
        _print_json(result)
        return
    say(f"{result['run']}: validation accuracy {metrics.Accuracy(**result['accuracy'])}")
    _console.print(*report.to_tables(result))
    figures = [Path(path) for path in result["figures"]]
    say(f"Figures in {figures[0].parent}: {', '.join(path.name for path in figures)}")


@app.command(params=[RUN, DATA_DIR])
def report(run: str | None, data_dir: Path) -> None:
    """Write reports/<run>/report.html and report.md. The first is one file to read, print and share."""
    run_dir = _find_run(data_dir, run)
    with show_steps(_progress) as step:
        paths = pipeline.report(run_dir, data_dir, SUBMISSIONS, REPORTS, step, partial(_note, []))
    say(f"Wrote {' and '.join(map(str, paths))}")


@app.command(params=[AS_JSON])
@click.argument("names", nargs=-1)
def compare(names: tuple[str, ...], as_json: bool) -> None:
    """Compare the validation accuracies of runs. NAMES can be patterns such as 'single-*'."""
    from digit_recognizer.evaluation.comparison import compare_runs

    folders = run_folder.find_runs(MODELS, names)
    if len(folders) < 2:
        raise UserError(f"name two or more runs to compare, not {len(folders)}: make compare RUNS='fast-* single-*'")
    comparison = compare_runs(folders)
    if as_json:
        _print_json(comparison._asdict())
    else:
        _console.print(*comparison.to_tables())


@app.command(params=[RUN, DATA_DIR])
@click.option("--test-file", type=PATH, show_default="test.csv", help="Images to predict.")
def submission(run: str | None, test_file: Path | None, data_dir: Path) -> None:
    """Predict test.csv and write the submission of a run. It is submissions/<run>/submission.csv."""
    run_dir = run_folder.find_run(MODELS, run)
    with show_steps(_progress) as step:
        folder = pipeline.write_submission(run_dir, test_file or data_dir, SUBMISSIONS, step)
    for warning in read_record(folder).get("warnings", []):
        say(f"warning: {warning}", error=True)
    say(f"Wrote {folder / 'submission.csv'}")


@app.command(params=[RUN, DATA_DIR])
@click.option("--message", show_default="run and accuracy", help="Description on Kaggle.")
@click.option("--force", is_flag=True, help="Submit also what is not plausible, or again.")
def submit(run: str | None, message: str | None, force: bool, data_dir: Path) -> None:
    """Upload the submission and wait for its public score. The submission is written first if there is none."""
    from digit_recognizer.competition import submit

    run_dir = run_folder.find_run(MODELS, run)
    folder = SUBMISSIONS / run_dir.name
    if not is_unfinished(folder):  # otherwise go on with that upload
        with show_steps(_progress) as step:
            folder = pipeline.write_submission(run_dir, data_dir, SUBMISSIONS, step)
    record = submit.submit(folder, message=message, force=force, say=say)
    accuracy = record["validation_accuracy"]
    score = "none" if record["public_score"] is None else f"{record['public_score']:.5f}"
    validation = "" if accuracy is None else f", validation accuracy {accuracy:.4f}"
    say(f"Public score {score} (submission {record['submission_id']}{validation})")


@app.command("kernel")
def build_kernel() -> None:
    """Build the notebook for Kaggle from this package's source."""
    from digit_recognizer.competition import kernel, notebook

    write_text(kernel.NOTEBOOK, notebook.build())
    say(f"Wrote {kernel.NOTEBOOK}")


@app.command(params=[*SETTINGS])
def push(**settings: Any) -> None:
    """Run the notebook on Kaggle and fetch its output. The output is compared with the local run."""
    from digit_recognizer.competition import kernel

    kernel.push(settings, SUBMISSIONS, say=say)


@app.command("kernel-output")
def fetch_kernel_output() -> None:
    """Fetch the output of the notebook's latest version. The output is compared with the local run."""
    from digit_recognizer.competition import kernel

    kernel.fetch_output(SUBMISSIONS, say=say)


@app.command(params=[RUN, REFUSAL, AS_JSON])
@click.argument("files", nargs=-1, type=PATH)
@click.option("--expect", help="Label of all files, to score the predictions.")
@click.option("--labels", type=PATH, help="CSV file path,label; by default a folder's labels.csv.")
def predict(
    files: tuple[Path, ...], run: str | None, expect: str | None, labels: Path | None, refuse: float, as_json: bool
) -> None:
    """Read handwritten digits in photos, scans and drawings. FILES are image files, or folders of these."""
    from digit_recognizer.handwriting import image_files, reader, transcription

    skipped: list[Path] = []
    listed = image_files.list_pictures(files, labels, on_skip=skipped.append)
    if skipped:
        names = ", ".join(path.name for path in skipped[:MAX_NAMES]) + ", ..." * (len(skipped) > MAX_NAMES)
        say(f"skipped {len(skipped):,} files that are not images: {names}", error=True)
    if not listed:
        raise UserError("no image files to read; name files or folders (make predict IMAGES=)")
    if expect is not None:
        listed = [file._replace(label=expect) for file in listed]
    errors: list[UserError] = []
    on_error = partial(_note, errors)
    run_dir = reader.choose_networks(MODELS, run)
    read, networks = reader.make_reader(reader.load_classifier(run_dir), refuse), reader.name_networks(run_dir)
    reading = transcription.transcribe(listed, read, on_error=on_error)
    transcripts = list(track(reading, "reading", len(listed), _progress))
    if as_json:
        _print_json(transcription.to_json(transcripts, networks))
    elif transcripts:
        _console.print(transcription.tabulate(transcripts))
        if accuracy := transcription.score(transcripts):
            say(f"Accuracy {accuracy}")
        say(f"Read by {networks}")
        paths = transcription.draw_transcripts(transcripts, PREDICTIONS, on_error=on_error)
        say(f"Annotated images of {len(paths)} of {len(transcripts)} files: {PREDICTIONS}")
    if errors:
        sys.exit(1)


def _note(errors: list[UserError], error: UserError) -> None:
    """Print the error of one file, and append it to those of the others."""
    errors.append(error)
    say(f"digit-recognizer: {error}", error=True)


@app.command(params=[RUN, REFUSAL, DATA_DIR])
@click.option("--port", type=click.IntRange(0, 65_535), default=8028, help="Port on this computer; 0: any free one.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
def draw(run: str | None, port: int, no_browser: bool, refuse: float, data_dir: Path) -> None:
    """Open a page to draw digits on, or to drop images on. Corrected digits are saved to DATA_DIR/handwriting/."""
    from digit_recognizer.handwriting import reader
    from digit_recognizer.web import server

    run_dir = reader.choose_networks(MODELS, run)

    def load() -> tuple[reader.Read, reader.Classify]:
        classify = reader.load_classifier(run_dir)
        return reader.make_reader(classify, refuse), classify

    name, folder = reader.name_networks(run_dir), data_dir / "handwriting"
    server.serve(load, folder, name=name, port=port, browser=not no_browser, say=say)


@app.command(params=[RUN])
@click.argument("folder", type=PATH, default="page")
def export(folder: Path, run: str | None) -> None:
    """Write the page as static files into a folder. The networks run in the browser, from any web server."""
    from digit_recognizer.handwriting import reader
    from digit_recognizer.web.export import export_page

    run_dir = reader.choose_networks(MODELS, run)
    export_page(run_dir, folder)
    say(f"Read by {reader.name_networks(run_dir)}")
    say(f"Wrote {folder}; try it with: python3 -m http.server --bind 127.0.0.1 --directory {folder}")


@app.command()
@click.pass_context
def demo(context: click.Context) -> None:
    """Run all stages without an account, in the folder demo/."""
    from digit_recognizer.data.demo import write_demo_data
    from digit_recognizer.handwriting.sample_digits import write_digits

    _console.print(
        "Demo: 1,797 handwritten digits that scikit-learn ships, enlarged from 8x8. These are not the competition's "
        f"data: the scores do not apply to it. All files are in {DEMO}/, and none can be submitted.\n"
    )
    DEMO.mkdir(exist_ok=True)
    with contextlib.chdir(DEMO):
        write_demo_data(DATA)
        write_digits(DATA / "handwriting")
        context.invoke(train, preset="fast", epochs=20, augment=True, validation=0.2)
        context.invoke(evaluate)
        context.invoke(submission)
        context.invoke(predict, files=[DATA / "handwriting"])
        context.invoke(report)
        name = run_folder.find_run(MODELS, None).name
    say(f"Open {DEMO / REPORTS / name / 'report.html'} in a browser.")
    say("Your own digits: `make draw`, and `make predict IMAGES=photo.jpg`.")
    say("With an account: `make download train submit`.")


def _find_run(data_dir: Path, run: str | None) -> Path:
    """Return the folder of a run; go to the demo's folder if nothing but the demo was trained."""
    runs = f"{MODELS}/*/run.json"
    if data_dir == DATA and not any(Path().glob(runs)) and any(DEMO.glob(runs)):
        say(f"there is no other run than that of {DEMO}/, where paths begin", error=True)
        os.chdir(DEMO)
    return run_folder.find_run(MODELS, run)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2), flush=True)  # in ASCII; at exit, a closed pipe would be a message

"""The command line: one command per stage. Heavy packages are imported inside commands, so that `--help` is fast."""

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from digit_recognizer.config import REFUSE, make_config
from digit_recognizer.console import make_console, make_table, printable, show_steps, track
from digit_recognizer.errors import UserError, describe_os_error

if TYPE_CHECKING:
    from digit_recognizer.handwriting.image_files import Listed
    from digit_recognizer.handwriting.transcription import Transcript

app = typer.Typer(
    help="Kaggle's Digit Recognizer, from the download to the score on the leaderboard.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

USAGE_ERROR: Any = typer.BadParameter.__base__  # of the click that typer has with it, or of the package click
ENDING = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
MAX_NAMES = 10  # of files that are not read
MAX_SEEDS = 500

_console = make_console()
_progress = Console(stderr=True)  # stdout carries results only

Preset = Annotated[str, typer.Option(help="fast (seconds), single (one network), best (ten) or max (for GPUs).")]
Folds = Annotated[int | None, typer.Option(help="1: one hold-out; k: stratified k-fold; 0: train on all rows.")]
Members = Annotated[int | None, typer.Option(help="Networks per fold, with different seeds.")]
Validation = Annotated[float | None, typer.Option(help="Fraction of the rows held out, with one fold.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training rows.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same machine: same weights.")]
Precision = Annotated[
    str | None, typer.Option(help="Keras dtype policy.", show_default="what the hardware computes in")
]
Augment = Annotated[bool | None, typer.Option(help="Augment the training images.")]
DataDir = Annotated[Path, typer.Option(help="Folder of train.csv, test.csv and sample_submission.csv.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run.", show_default="the latest")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Refuse = Annotated[float, typer.Option(min=0, max=1, help="Leave out digits that are less probable.")]
TestFile = Annotated[Path | None, typer.Option(help="Images to predict.", show_default="test.csv in the data folder")]

DATA, DEMO = Path("data"), Path("demo")
MODELS, PREDICTIONS, REPORTS, SUBMISSIONS = map(Path, ("models", "predictions", "reports", "submissions"))


@app.command()
def doctor(data_dir: DataDir = DATA, as_json: AsJson = False) -> None:
    """Check everything that the other commands need, and print what to do about each fault."""
    from digit_recognizer import doctor

    findings = []
    for finding in doctor.diagnose(data_dir, MODELS, SUBMISSIONS):
        findings.append(finding._asdict())
        if not as_json:
            step = f"\n{'':<20}next: {finding.next}" if finding.next else ""
            print(f"{finding.status:<8}{finding.check:<12}{finding.found}{step}", flush=True)
    if as_json:
        _print_json(findings)
    if any(finding["status"] == doctor.FAULT for finding in findings):
        raise typer.Exit(1)


@app.command()
def download(
    data_dir: DataDir = DATA,
    force: Annotated[bool, typer.Option("--force", help="Download again what is there already.")] = False,
) -> None:
    """Download the competition's files with the official Kaggle client."""
    from digit_recognizer.competition.download import download

    download(data_dir, force=force, say=_say)


@app.command()
def train(
    preset: Preset = "single",
    folds: Folds = None,
    members: Members = None,
    validation: Validation = None,
    epochs: Epochs = None,
    seed: Seed = None,
    augment: Augment = None,
    precision: Precision = None,
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="made of the settings")] = None,
    data_dir: DataDir = DATA,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write <run>/tensorboard/ as well.")] = False,
    seeds: Annotated[str | None, typer.Option(help="Train one run for each seed: 0-9, or 1,4,7.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Train on a Ray cluster: auto, or the head's HOST:PORT.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train the CNN; finished members of an interrupted run with the same settings are kept."""
    from digit_recognizer import pipeline
    from digit_recognizer.evaluation import metrics
    from digit_recognizer.training import environment

    settings: dict[str, Any] = {"folds": folds, "members": members, "validation": validation, "epochs": epochs}
    config = make_config(preset, **settings, seed=seed, augment=augment, precision=precision)
    if tensorboard and (cluster or importlib.util.find_spec("tensorboard") is None):
        raise UserError(
            "--tensorboard needs the package tensorboard and trains on this machine; run `make train TENSORBOARD=1` "
            "without CLUSTER=, or pip install '.[tensorboard]'"
        )
    if seeds and (run or seed is not None):
        raise UserError("expected either --seeds, or --seed and --run, received both")
    if run is not None and (run != Path(run).name or run.startswith(".")):
        raise UserError(f"expected a name of a folder as RUN=, received {run!r}; use letters, digits and hyphens")
    records = []
    for config_of_run in [replace(config, seed=number) for number in parse_seeds(seeds)] if seeds else [config]:
        started = environment.now()
        run_dir, record = pipeline.train(
            config_of_run, data_dir, MODELS, _progress, run=run, log=tensorboard, cluster=cluster
        )
        records.append(record)
        for warning in record["warnings"]:
            _say(f"warning: {warning}", error=True)
        if not as_json:
            if rows := record["scores"]["validation_rows"]:
                correct = round(record["scores"]["validation_accuracy"] * rows)
                _print(f"Validation accuracy {metrics.proportion(correct, rows)}")
            action = "Trained" if record["finished_at"] >= started else f"Finished on {record['finished_at']}, trained"
            _print(f"{action} in {record['training_seconds']:,.0f} s: {run_dir}")
    if as_json:
        _print_json(records if seeds else records[0])


@app.command()
def evaluate(*, run: RunName = None, data_dir: DataDir = DATA, as_json: AsJson = False) -> None:
    """Print accuracy, scores by digit and confusions on the validation rows, and draw the figures."""
    from digit_recognizer import pipeline
    from digit_recognizer.evaluation import metrics

    result = pipeline.evaluate(_find_run(data_dir, run), data_dir)
    if as_json:
        _print_json(result)
        return
    _print(f"{result['run']}: validation accuracy {metrics.Accuracy(**result['accuracy'])}")
    formats = "{digit}", "{precision:.2%}", "{recall:.2%}", "{f1:.2%}", "{support:,}"
    scores = [[text.format_map(row) for text in formats] for row in result["classes"]]
    _console.print(make_table("By digit", ("digit", "precision", "recall", "F1", "images"), scores))
    confusions = [list(map(str, pair.values())) for pair in result["confusions"][:10]]
    _console.print(make_table("Most frequent confusions", ("digit", "predicted", "images"), confusions))
    figures = [Path(path) for path in result["figures"]]
    _print(f"Figures in {figures[0].parent}: {', '.join(path.name for path in figures)}")


@app.command()
def report(run: RunName = None, data_dir: DataDir = DATA) -> None:
    """Write reports/<run>/report.html, one file to read, print and share, and report.md with its pictures."""
    from digit_recognizer import pipeline

    run_dir = _find_run(data_dir, run)
    with show_steps(_progress) as step:
        on_error = partial(_note, [])  # of a drawing that cannot be read
        paths = pipeline.report(run_dir, data_dir, SUBMISSIONS, REPORTS, step, on_error)
    _print(f"Wrote {' and '.join(map(str, paths))}")


@app.command()
def compare(
    names: Annotated[list[str] | None, typer.Argument(help="Names of runs, or patterns such as 'single-*'.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: settings, validation accuracies, the spread over seeds, McNemar's test of two runs."""
    from digit_recognizer.evaluation.comparison import compare_runs
    from digit_recognizer.training import run_folder

    folders = run_folder.find_runs(MODELS, names or [])
    if len(folders) < 2:
        raise UserError(f"name two or more runs to compare, not {len(folders)}: make compare RUNS='fast-* single-*'")
    comparison = compare_runs(folders)
    if as_json:
        _print_json(comparison._asdict())
    else:
        _console.print(*comparison.to_tables())


@app.command()
def submission(run: RunName = None, test_file: TestFile = None, data_dir: DataDir = DATA) -> None:
    """Predict test.csv with the saved networks and write submissions/<run>/submission.csv."""
    from digit_recognizer import pipeline
    from digit_recognizer.competition.submission import read_record
    from digit_recognizer.training import run_folder

    run_dir = run_folder.find_run(MODELS, run)
    with show_steps(_progress) as step:
        folder = pipeline.write_submission(run_dir, test_file or data_dir, SUBMISSIONS, step)
    for warning in read_record(folder).get("warnings", []):
        _say(f"warning: {warning}", error=True)
    _print(f"Wrote {folder / 'submission.csv'}")


@app.command()
def submit(
    run: RunName = None,
    message: Annotated[str | None, typer.Option(help="Description on Kaggle.", show_default="run and accuracy")] = None,
    force: Annotated[bool, typer.Option("--force", help="Submit also what is not plausible, or again.")] = False,
    kernel: Annotated[bool, typer.Option("--kernel", help="Submit what `push` or `kernel-output` fetched.")] = False,
    data_dir: DataDir = DATA,
    as_json: AsJson = False,
) -> None:
    """Upload the submission, written first if it does not exist, and wait for its public score."""
    from digit_recognizer import pipeline
    from digit_recognizer.competition import kernel as kernels
    from digit_recognizer.competition import submit
    from digit_recognizer.competition.submission import is_pending
    from digit_recognizer.training import run_folder

    if kernel:
        folder = kernels.make_submission(SUBMISSIONS)
    else:
        run_dir = run_folder.find_run(MODELS, run)
        folder = SUBMISSIONS / run_dir.name
        if not is_pending(folder):  # otherwise wait for the score of that upload
            with show_steps(_progress) as step:
                folder = pipeline.write_submission(run_dir, data_dir, SUBMISSIONS, step)
    # Progress goes to stdout, so that a failure is the only line on stderr; with --json it goes to stderr.
    record = submit.submit(folder, message=message, force=force, say=partial(_say, error=as_json))
    if as_json:
        _print_json(record)
        return
    accuracy = record["validation_accuracy"]
    score = "none" if record["public_score"] is None else f"{record['public_score']:.5f}"
    validation = "" if accuracy is None else f", validation accuracy {accuracy:.4f}"
    _say(f"Public score {score} (submission {record['submission_id']}{validation})")


@app.command("kernel")
def build_kernel() -> None:
    """Build kernel/digit-recognizer.ipynb, the notebook for Kaggle, from this package's source."""
    from digit_recognizer.competition import kernel

    kernel.build()
    _print(f"Wrote {kernel.NOTEBOOK}")


@app.command()
def push(
    preset: Preset = "single",
    folds: Folds = None,
    members: Members = None,
    validation: Validation = None,
    epochs: Epochs = None,
    seed: Seed = None,
    augment: Augment = None,
    precision: Precision = None,
    hours: Annotated[float | None, typer.Option(help="Time limit for the training.", show_default="11")] = None,
) -> None:
    """Run the notebook on Kaggle, wait until it ends, fetch its output and compare it with the local run."""
    from digit_recognizer.competition import kernel

    settings = {"preset": preset, "folds": folds, "members": members, "validation": validation, "epochs": epochs}
    settings |= {"seed": seed, "augment": augment, "precision": precision, "hours": hours}
    kernel.push(settings, SUBMISSIONS, say=_say)


@app.command("kernel-status")
def show_kernel_status() -> None:
    """Print the status of the notebook's latest version on Kaggle."""
    from digit_recognizer.competition import kernel

    kernel.show_status(say=_say)


@app.command("kernel-output")
def fetch_kernel_output() -> None:
    """Fetch the output of the notebook's latest version, and compare it with the local run."""
    from digit_recognizer.competition import kernel

    kernel.fetch_output(SUBMISSIONS, say=_say)


@app.command()
def predict(
    files: Annotated[list[Path] | None, typer.Argument(help="Image files, and folders of image files.")] = None,
    run: RunName = None,
    expect: Annotated[str | None, typer.Option(help="Label of all files, to score the predictions.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV file path,label; by default a folder's labels.csv.")] = None,
    refuse: Refuse = REFUSE,
    as_json: AsJson = False,
) -> None:
    """Read handwritten digits in photos, scans and drawings."""
    from digit_recognizer.handwriting import image_files, transcription

    skipped: list[Path] = []
    listed = image_files.list_pictures(files or [], labels, on_skip=skipped.append)
    if skipped:
        names = ", ".join(path.name for path in skipped[:MAX_NAMES]) + ", ..." * (len(skipped) > MAX_NAMES)
        _say(f"skipped {len(skipped):,} files that are not images: {names}", error=True)
    if not listed:
        raise UserError("no image files to read; name files or folders (make predict IMAGES=)")
    if expect is not None:
        listed = [file._replace(label=expect) for file in listed]
    transcripts, errors = _transcribe(listed, run, refuse, as_json=as_json)
    if not as_json:
        paths = transcription.draw_transcripts(transcripts, PREDICTIONS, on_error=partial(_note, errors))
        _print(f"Annotated images of {len(paths)} of {len(transcripts)} files: {PREDICTIONS}")
        if (PREDICTIONS / transcription.MISTAKES).exists():
            _print(f"The mistakes in one image: {PREDICTIONS / transcription.MISTAKES}")
    if errors:
        raise typer.Exit(1)


@app.command()
def handwriting(run: RunName = None, data_dir: DataDir = DATA, as_json: AsJson = False) -> None:
    """List the drawings that the page has saved in DATA_DIR/handwriting/, with what a run reads, and score it."""
    from digit_recognizer.handwriting import image_files

    table = data_dir / "handwriting" / image_files.LABELS
    if not table.exists():
        raise UserError(f"no drawings with labels in {table.parent}; save some with `make draw`")
    _, errors = _transcribe(image_files.read_table(table), run, REFUSE, as_json=as_json)
    if errors:
        raise typer.Exit(1)


def _transcribe(
    files: "list[Listed]", run: str | None, refuse: float, *, as_json: bool
) -> "tuple[list[Transcript], list[UserError]]":
    """Read files and print the digits in each; return their transcripts, and the errors of the others."""
    from digit_recognizer.handwriting import reader, transcription

    run_dir, errors = reader.choose_networks(MODELS, run), list[UserError]()
    read, networks = reader.load_reader(run_dir, refuse), reader.name_networks(run_dir)
    found = transcription.transcribe(files, read, on_error=partial(_note, errors))
    transcripts = list(track(found, "reading", len(files), _progress))
    if as_json:
        _print_json(transcription.to_json(transcripts, networks))
        return transcripts, errors
    if transcripts:
        _console.print(transcription.tabulate(transcripts))
    if accuracy := transcription.score(transcripts):
        _print(f"Accuracy {accuracy}")
    _print(f"Read by {networks}")
    return transcripts, errors


def _note(errors: list[UserError], error: UserError) -> None:
    """Print the error of one file, and append it to those of the others."""
    errors.append(error)
    _say(f"digit-recognizer: {error}", error=True)


@app.command()
def draw(
    run: RunName = None,
    port: Annotated[int, typer.Option(help="Port of the page on this computer; 0 for any free port.")] = 8028,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address only.")] = False,
    refuse: Refuse = REFUSE,
    data_dir: DataDir = DATA,
) -> None:
    """Open a page to draw digits on, or to drop images on; corrected digits are saved to DATA_DIR/handwriting/."""
    from digit_recognizer.handwriting import reader
    from digit_recognizer.web import server

    run_dir = reader.choose_networks(MODELS, run)

    def load() -> tuple[reader.Read, reader.Classify]:
        classify = reader.load_classifier(run_dir)
        return reader.make_reader(classify, refuse), classify

    name, folder = reader.name_networks(run_dir), data_dir / "handwriting"
    server.serve(load, folder, name=name, port=port, browser=not no_browser, say=_say)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder for the page.")] = Path("page"),
    run: RunName = None,
) -> None:
    """Write the page as static files, with the networks in the browser, for any web server."""
    from digit_recognizer.handwriting import reader
    from digit_recognizer.web.export import export_page

    run_dir = reader.choose_networks(MODELS, run)
    export_page(run_dir, folder)
    _print(f"Read by {reader.name_networks(run_dir)}")
    _print(f"Wrote {folder}; try it with: python3 -m http.server --bind 127.0.0.1 --directory {folder}")


@app.command()
def demo() -> None:
    """Run all stages without an account, on digits that scikit-learn ships, in the folder demo/."""
    from digit_recognizer.data.demo import write_demo_data
    from digit_recognizer.handwriting.sample_digits import write_digits

    _console.print(
        "Demo: 1,797 handwritten digits that scikit-learn ships, enlarged from 8x8. These are not the competition's "
        f"data: the scores do not apply to it. All files are in {DEMO}/, and none can be submitted.\n"
    )
    DEMO.mkdir(exist_ok=True)
    with contextlib.chdir(DEMO):
        write_demo_data(DATA)
        write_digits(Path("drawings"))
        train(preset="fast", epochs=20, augment=True, validation=0.2)
        evaluate()
        submission()
        predict([Path("drawings")])
        report()
        (path,) = REPORTS.glob(f"{_find_run(DATA, None).name}/*.html")
    _print(f"\nOpen {DEMO / path} in a browser.")
    _print("Your own digits: `make draw`, and `make predict IMAGES=photo.jpg`.")
    _print("With an account: `make download train submit`.")


def _find_run(data_dir: Path, run: str | None) -> Path:
    """Return the folder of a run; go to the demo's folder if nothing but the demo was trained."""
    from digit_recognizer.training import run_folder

    runs = f"{MODELS}/*/run.json"
    if data_dir == DATA and not any(Path().glob(runs)) and any(DEMO.glob(runs)):
        _say(f"there is no other run than that of {DEMO}/, where paths begin", error=True)
        os.chdir(DEMO)
    return run_folder.find_run(MODELS, run)


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a text such as "0-9" or "1,4-6", in ascending order."""
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MAX_SEEDS:
            raise UserError(f"expected seeds such as 0-9 or 1,4,7, at most {MAX_SEEDS:,}, got {text[:100]!r}")
        seeds.update(range(first, last + 1))
    return sorted(seeds)


def _print(line: str) -> None:
    _console.print(printable(line), soft_wrap=True, markup=False)


def _say(line: str, *, error: bool = False) -> None:
    """Print a line of progress; through `sys.stdout`, so that rich puts it above a live display."""
    print(printable(line), file=sys.stderr if error else sys.stdout, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2), flush=True)  # in ASCII; at exit, a closed pipe would be a message


def main() -> None:
    """Run the command line; a `UserError`, or one of the operating system, becomes one line on stderr and status 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, such as lines of tables in ASCII
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it cannot cache fonts, and works
    sys.argv += ["--help"] * (len(sys.argv) == 1)
    received: list[int] = []

    def interrupt(number: int, _: Any) -> None:  # so that workers and temporary files go, too
        received.append(number)
        raise KeyboardInterrupt

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
            signal.signal(number, interrupt)
    try:
        status = app(standalone_mode=False)  # 130 after a KeyboardInterrupt
    except BaseException as error:  # native code can make any exception of an interruption
        status = 1
        if received:
            pass
        elif isinstance(error, USAGE_ERROR):
            _say(f"digit-recognizer: {error.format_message()} (see --help)", error=True)
        elif isinstance(error, UserError | OSError):
            message = describe_os_error(error) if isinstance(error, OSError) else error
            _say(f"digit-recognizer: {message}", error=True)
        else:
            raise
    if received and status:
        name = signal.Signals(received[0]).name
        _say(f"digit-recognizer: ended by {name}; run the same command again to go on from there", error=True)
        status = 128 + received[0]
    sys.exit(status or 0)

"""The command line: one subcommand a stage.

Heavy packages (TensorFlow, pandas, the Kaggle client) are imported inside the commands that use them, so that
`--help` answers at once.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from digit_recognizer.config import COMPETITION, Config, make_config
from digit_recognizer.errors import UserError

app = typer.Typer(
    help="Kaggle's Digit Recognizer, from the download to the score on the leaderboard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130  # exit status

_console = Console()
_progress = Console(stderr=True)  # so that what is piped on is the result alone

Preset = Annotated[str, typer.Option(help="fast (seconds), single (one good network) or best (ten).")]
Folds = Annotated[int | None, typer.Option(help="1: one hold-out; k: stratified k-fold; 0: train on all rows.")]
Members = Annotated[int | None, typer.Option(help="Networks a fold, with different seeds; without folds on all rows.")]
Validation = Annotated[float | None, typer.Option(help="Share of the rows held out, with one fold.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training rows.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same machine: same weights.")]
Augment = Annotated[bool | None, typer.Option(help="Distort the training images.")]
DataDir = Annotated[Path, typer.Option(help="Folder of train.csv, test.csv and sample_submission.csv.")]
ModelsDir = Annotated[Path, typer.Option(help="Folder that holds one folder a run.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run.", show_default="the latest")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
ReportsDir = Annotated[Path, typer.Option(help="Folder that holds one folder a report.")]
SubmissionsDir = Annotated[Path, typer.Option(help="Folder that holds one folder a submission, and ledger.csv.")]


@app.command()
def download(
    *,
    data_dir: DataDir = Path("data"),
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is there already.")] = False,
) -> None:
    """Fetch the competition's files through the official Kaggle client."""
    from digit_recognizer.competition import download

    download.download(data_dir, force=force, say=_say)


@app.command()
def train(
    *,
    preset: Preset = "single",
    folds: Folds = None,
    members: Members = None,
    validation: Validation = None,
    epochs: Epochs = None,
    seed: Seed = None,
    augment: Augment = None,
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="made of the settings")] = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write <run>/tensorboard/ as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the CNN; what an interrupted run of the same settings has finished is kept."""
    config = make_config(
        preset, folds=folds, members=members, validation=validation, epochs=epochs, seed=seed, augment=augment
    )
    _train(config, run=run, data_dir=data_dir, models_dir=models_dir, as_json=as_json, log=tensorboard)


@app.command()
def evaluate(
    *,
    run: RunName = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Print accuracy, a table by digit and the confusions on the held out rows, and draw the figures."""
    from digit_recognizer import pipeline
    from digit_recognizer.training import runs

    result = pipeline.evaluate(runs.find_run(models_dir, run), data_dir)
    if as_json:
        _print_json(result.to_dict())
        return
    pipeline.print_evaluation(result, _console)
    names = ", ".join(path.name for path in result.figures)
    _console.print(f"Figures in {result.figures[0].parent}: {names}", soft_wrap=True)


@app.command()
def report(
    *,
    run: RunName = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    submissions_dir: SubmissionsDir = Path("submissions"),
    reports_dir: ReportsDir = Path("reports"),
) -> None:
    """Write reports/<run>/report.html, one file to read, print and share, and report.md with its pictures."""
    from digit_recognizer import console
    from digit_recognizer.evaluation import documents
    from digit_recognizer.evaluation.report import make_report
    from digit_recognizer.training import runs

    run_dir = runs.find_run(models_dir, run)
    with console.show_steps(_progress) as step:
        document = make_report(run_dir, data_dir, submissions_dir, step)
        paths = documents.write_document(document, reports_dir / run_dir.name, step)
    _console.print(f"Wrote {' and '.join(map(str, paths))}", soft_wrap=True)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Name of a run.")],
    second: Annotated[str, typer.Argument(help="Name of another; what it has right alone is called fixed.")],
    *,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    reports_dir: ReportsDir = Path("reports"),
    as_json: AsJson = False,
) -> None:
    """Put two runs side by side: settings, accuracy on the same rows with McNemar's test, curves, changed images."""
    from digit_recognizer import console
    from digit_recognizer.evaluation import comparison, documents, tables
    from digit_recognizer.training import runs

    result = comparison.compare_runs(runs.find_run(models_dir, first), runs.find_run(models_dir, second))
    with console.show_steps(_progress) as step:
        document = comparison.make_comparison(result, models_dir, data_dir, step)
        paths = documents.write_document(document, reports_dir / f"compare-{first}-{second}", step)
    if as_json:
        _print_json(result.to_dict() | {"reports": [str(path) for path in paths]})
        return
    _console.print(tables.settings_table(result.settings, result.names))
    _console.print(tables.accuracies_table(result.names, result.accuracies, result.test))
    _console.print(f"Wrote {' and '.join(map(str, paths))}", soft_wrap=True)


@app.command("submission")
def write_submission(
    *,
    run: RunName = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    submissions_dir: SubmissionsDir = Path("submissions"),
) -> None:
    """Predict test.csv and write submissions/<run>/submission.csv."""
    from digit_recognizer.training import runs
    from digit_recognizer.training.prediction import make_submission

    folder = make_submission(runs.find_run(models_dir, run), submissions_dir, data_dir)
    _console.print(f"Wrote {folder / 'submission.csv'}", soft_wrap=True)


@app.command()
def submit(
    *,
    run: RunName = None,
    message: Annotated[
        str | None, typer.Option(help="Description on Kaggle.", show_default="run, model, validation accuracy")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Submit predictions that were submitted before.")] = False,
    kernel: Annotated[bool, typer.Option("--kernel", help="Submit what `push` or `kernel-output` fetched.")] = False,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    submissions_dir: SubmissionsDir = Path("submissions"),
    as_json: AsJson = False,
) -> None:
    """Upload the submission, written first if it is not there, and wait for its public score."""
    from digit_recognizer.competition import kernel_output, submit
    from digit_recognizer.competition.record import is_pending
    from digit_recognizer.training import runs
    from digit_recognizer.training.prediction import make_submission

    if kernel and run:
        raise UserError(f"expected either the kernel's output or a run to submit, received both and the run {run!r}")
    if kernel:
        folder = kernel_output.make_submission(submissions_dir)
    else:
        run_dir = runs.find_run(models_dir, run)
        folder = submissions_dir / run_dir.name
        if not is_pending(folder):  # otherwise wait for that score
            folder = make_submission(run_dir, submissions_dir, data_dir)
    # Progress goes to stdout, so that a failure is one line on stderr; JSON takes its place there.
    record = submit.submit(folder, message=message, force=force, say=partial(_say, error=as_json))
    if as_json:
        _print_json(record)
        return
    accuracy = record["validation_accuracy"]
    score = "none given" if record["public_score"] is None else f"{record['public_score']:.5f}"
    typer.echo(
        f"Public score {score} (submission {record['submission_id']}"
        + ("" if accuracy is None else f", validation accuracy {accuracy:.4f}")
        + ")"
    )


@app.command("kernel")
def build_kernel() -> None:
    """Build kernel/digit-recognizer.ipynb, the notebook for Kaggle, from this package's source."""
    from digit_recognizer.competition import kernel

    kernel.build()
    _console.print(f"Wrote {kernel.NOTEBOOK}")


@app.command()
def push(
    *,
    preset: Preset = "single",
    folds: Folds = None,
    members: Members = None,
    validation: Validation = None,
    epochs: Epochs = None,
    seed: Seed = None,
    augment: Augment = None,
    hours: Annotated[float | None, typer.Option(help="Time for the training.", show_default="11")] = None,
    submissions_dir: SubmissionsDir = Path("submissions"),
) -> None:
    """Run the notebook at Kaggle, wait for its end, fetch its output and compare it with the local run."""
    from digit_recognizer.competition import kernel

    settings = {"preset": preset, "folds": folds, "members": members, "validation": validation, "epochs": epochs}
    settings |= {"seed": seed, "augment": augment, "hours": hours}
    kernel.push(settings, submissions_dir, say=typer.echo)


@app.command("kernel-status")
def show_kernel_status() -> None:
    """Print what Kaggle says of the notebook's latest version."""
    from digit_recognizer.competition import kernel

    kernel.show_status(say=typer.echo)


@app.command("kernel-output")
def fetch_kernel_output(*, submissions_dir: SubmissionsDir = Path("submissions")) -> None:
    """Fetch what the notebook's latest version has made, and compare it with the local run."""
    from digit_recognizer.competition import kernel

    kernel.fetch_output(submissions_dir, say=typer.echo)


@app.command()
def predict(
    files: Annotated[list[Path] | None, typer.Argument(help="Pictures, and folders of pictures.")] = None,
    *,
    run: RunName = None,
    expect: Annotated[str | None, typer.Option(help="What is on all of them: score the answers.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table path,label: score the answers.", show_default="a folder's labels.csv")
    ] = None,
    models_dir: ModelsDir = Path("models"),
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for annotated pictures.", show_default="predictions; none with --json")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read handwritten digits in photos, scans and drawings."""
    from digit_recognizer.console import track
    from digit_recognizer.evaluation import tables
    from digit_recognizer.handwriting import image_files, transcription
    from digit_recognizer.training import runs

    listed = image_files.list_pictures(files or [], labels)
    if not listed:
        raise UserError("expected pictures to read, received none; name files or folders (make predict IMAGES=)")
    if expect is not None:
        listed = [file._replace(label=expect) for file in listed]
    run_dir = runs.find_run(models_dir, run)
    runs.read_finished_record(run_dir)
    read = transcription.load_reader(run_dir)
    refused: list[UserError] = []
    found = track(transcription.transcribe(listed, read, refuse=refused.append), "reading", len(listed), _progress)
    transcripts = list(found)
    folder = output_dir or (None if as_json else Path("predictions"))
    drawn = transcription.draw_transcripts(transcripts, folder) if folder else 0
    for error in refused:
        _say(f"digit-recognizer: {error}", error=True)
    if as_json:
        _print_json([transcription.describe(transcript) for transcript in transcripts])
    else:
        _console.print(tables.readings_table([transcription.summarise(transcript) for transcript in transcripts]))
        scores = transcription.score(transcripts)
        if scores:
            _console.print(f"Accuracy {scores['']}", soft_wrap=True)
        if len(scores) > 1:
            _console.print(tables.kinds_table(scores))
        _console.print(f"Annotated pictures of {drawn} of {len(transcripts)} files: {folder}", soft_wrap=True)
    if refused:
        raise typer.Exit(1)


@app.command()
def draw(
    *,
    run: RunName = None,
    port: Annotated[int, typer.Option(help="Of the page on this computer; 0 for any that is free.")] = 8028,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address only.")] = False,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
) -> None:
    """Open a page to draw digits on, or to drop pictures on; "it was a ..." saves into DATA_DIR/handwriting/."""
    from digit_recognizer.training import runs

    try:
        from digit_recognizer.web import server
    except ModuleNotFoundError as error:
        raise UserError(
            f"expected the packages of the page, found no {error.name}; run `make draw`, or pip install '.[draw]'"
        ) from None
    run_dir = runs.find_run(models_dir, run)
    runs.read_finished_record(run_dir)
    server.serve(run_dir, data_dir / "handwriting", port=port, browser=not no_browser, say=_say)


@app.command()
def demo(*, folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo")) -> None:
    """Do all of it without an account, on digits that scikit-learn ships."""
    from digit_recognizer.data.demo import write_demo_data

    _console.print(
        "Demo: 1,797 handwritten digits that scikit-learn ships, enlarged from 8x8. These are not the competition's "
        f"data; the scores say nothing about it, and nothing in {folder}/ can be submitted.\n"
    )
    data_dir, models_dir, submissions_dir = folder / "data", folder / "models", folder / "submissions"
    write_demo_data(data_dir)
    config = make_config("fast", epochs=20, augment=True, validation=0.2)
    _train(config, run=None, data_dir=data_dir, models_dir=models_dir, as_json=False)
    evaluate(data_dir=data_dir, models_dir=models_dir)
    write_submission(data_dir=data_dir, models_dir=models_dir, submissions_dir=submissions_dir)
    _console.print("\nWith an account: `make download train submit`.")


def _train(
    config: Config, *, run: str | None, data_dir: Path, models_dir: Path, as_json: bool, log: bool = False
) -> None:
    """Trains a run and prints what came out."""
    from digit_recognizer import pipeline
    from digit_recognizer.data import demo as demo_data

    competition = demo_data.COMPETITION if (data_dir / demo_data.MARKER).exists() else COMPETITION
    run_dir, record = pipeline.train(config, data_dir, models_dir, _progress, run=run, competition=competition, log=log)
    if as_json:
        _print_json(record)
        return
    pipeline.print_training(run_dir, record, _console)


def _say(line: str, *, error: bool = False) -> None:
    """Prints a line of progress; rich puts it above a live display when it goes through the present `sys.stdout`."""
    print(line, file=sys.stderr if error else sys.stdout, flush=True)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def main() -> None:
    """Runs the command line; a `UserError` becomes one line on stderr and exit status 1."""
    try:
        app()
    except UserError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"digit-recognizer: {error}")
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer makes it of a KeyboardInterrupt, and says nothing
            print("digit-recognizer: interrupted; what was finished is kept", file=sys.stderr)
        raise

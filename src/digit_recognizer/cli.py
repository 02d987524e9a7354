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

GALLERY_SIZE = 40  # of the worst mistakes

app = typer.Typer(
    help="Kaggle's Digit Recognizer, from the download to the score on the leaderboard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_console = Console()
_progress = Console(stderr=True)  # so that what is piped on is the result alone

DataDir = Annotated[Path, typer.Option(help="Folder of train.csv, test.csv and sample_submission.csv.")]
ModelsDir = Annotated[Path, typer.Option(help="Folder that holds one folder a run.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run.", show_default="the latest")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
SubmissionsDir = Annotated[Path, typer.Option(help="Folder that holds one folder a submission, and ledger.csv.")]


@app.command()
def download(
    *,
    data_dir: DataDir = Path("data"),
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is there already.")] = False,
) -> None:
    """Fetch the competition's files through the official Kaggle client."""
    from digit_recognizer import competition

    competition.download(data_dir, force=force, say=typer.echo)


@app.command()
def train(
    *,
    preset: Annotated[str, typer.Option(help="fast (about a minute) or single (one good model).")] = "single",
    folds: Annotated[int | None, typer.Option(help="1: one hold-out; k: stratified k-fold, a member a fold.")] = None,
    validation: Annotated[float | None, typer.Option(help="Share of the rows held out, with one fold.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same machine: same weights.")] = None,
    augment: Annotated[bool | None, typer.Option(help="Distort the training images.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="made of the settings")] = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Train the CNN; what an interrupted run of the same settings has finished is kept."""
    config = make_config(preset, folds=folds, validation=validation, epochs=epochs, seed=seed, augment=augment)
    _train(config, run=run, data_dir=data_dir, models_dir=models_dir, as_json=as_json)


@app.command()
def evaluate(
    *,
    run: RunName = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Print accuracy, a table by digit and the confusions on the held out rows, and draw the figures."""
    from digit_recognizer import evaluation, figures, runs, tables
    from digit_recognizer.data import load_train

    run_dir = runs.find_run(models_dir, run)
    record = runs.finished_record(run_dir)
    answers = runs.read_answers(run_dir)
    train = load_train(data_dir)
    if train.sha256 != record["data"]["train.csv"]:
        raise UserError(
            f"expected the train.csv of the run {run_dir.name}, found another in {data_dir}; name the run's DATA_DIR="
        )
    accuracy = evaluation.accuracy(answers.labels, answers.probabilities)
    scores = evaluation.class_scores(answers.labels, answers.probabilities)
    confusions = evaluation.confusions(answers.labels, answers.probabilities)
    worst = evaluation.mistakes(answers.labels, answers.probabilities)[:GALLERY_SIZE]

    folder = run_dir / "figures"
    figures.draw_curves([runs.read_history(member) for member in runs.member_dirs(run_dir)], folder / "curves.png")
    figures.draw_confusion_matrix(
        evaluation.confusion_matrix(answers.labels, answers.probabilities), folder / "confusion_matrix.png"
    )
    rows = answers.rows[worst]
    figures.draw_mistakes(
        train.images[rows], answers.labels[worst], answers.probabilities[worst], folder / "mistakes.png", rows=rows
    )
    if as_json:
        _print_json(
            {
                "run": run_dir.name,
                "accuracy": accuracy._asdict(),
                "classes": scores,
                "confusions": [confusion._asdict() for confusion in confusions],
                "figures": [str(path) for path in sorted(folder.glob("*.png"))],
            }
        )
        return
    _console.print(f"{run_dir.name}: validation accuracy {accuracy}", soft_wrap=True)
    _console.print(tables.class_table(scores))
    _console.print(tables.confusion_table(confusions[:10]))
    _console.print(f"Figures: {folder}/curves.png, confusion_matrix.png, mistakes.png", soft_wrap=True)


@app.command("submission")
def write_submission(
    *,
    run: RunName = None,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    submissions_dir: SubmissionsDir = Path("submissions"),
) -> None:
    """Predict test.csv and write submissions/<run>/submission.csv."""
    from digit_recognizer import runs
    from digit_recognizer.prediction import make_submission

    folder = make_submission(runs.find_run(models_dir, run), submissions_dir, data_dir, _progress)
    _console.print(f"Wrote {folder / 'submission.csv'}", soft_wrap=True)


@app.command()
def submit(
    *,
    run: RunName = None,
    message: Annotated[
        str | None, typer.Option(help="Description on Kaggle.", show_default="run, model, validation accuracy")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Submit predictions that were submitted before.")] = False,
    data_dir: DataDir = Path("data"),
    models_dir: ModelsDir = Path("models"),
    submissions_dir: SubmissionsDir = Path("submissions"),
    as_json: AsJson = False,
) -> None:
    """Upload the submission, written first if it is not there, and wait for its public score."""
    from digit_recognizer import competition, runs
    from digit_recognizer.prediction import make_submission

    folder = make_submission(runs.find_run(models_dir, run), submissions_dir, data_dir, _progress)
    # Progress goes to stdout, so that a failure is one line on stderr; JSON takes its place there.
    record = competition.submit(folder, message=message, force=force, say=partial(typer.echo, err=as_json))
    if as_json:
        _print_json(record)
        return
    score = "none given" if record["public_score"] is None else f"{record['public_score']:.5f}"
    typer.echo(
        f"Public score {score} (submission {record['submission_id']}, validation accuracy "
        f"{record['validation_accuracy']:.4f})"
    )


@app.command()
def demo(*, folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo")) -> None:
    """Do all of it without an account, on digits that scikit-learn ships."""
    from digit_recognizer.demo import write_demo_data

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


def _train(config: Config, *, run: str | None, data_dir: Path, models_dir: Path, as_json: bool) -> None:
    """Trains a run and prints what came out."""
    from digit_recognizer import demo as demo_data
    from digit_recognizer import ensemble, evaluation, runs, tables
    from digit_recognizer.data import load_test, load_train

    train, test = load_train(data_dir), load_test(data_dir)
    run_dir = models_dir / (run or runs.run_name(config, train.sha256))
    competition = demo_data.COMPETITION if (data_dir / demo_data.MARKER).exists() else COMPETITION
    record = ensemble.train_run(
        config,
        train,
        run_dir,
        runs.new_record(
            config,
            run=run_dir.name,
            competition=competition,
            data={"train.csv": train.sha256, "test.csv": test.sha256},
        ),
        _progress,
    )
    if as_json:
        _print_json(record)
        return
    for member in runs.member_dirs(run_dir):
        _console.print(tables.history_table(runs.read_history(member), member.name))
    answers = runs.read_answers(run_dir)
    accuracy = evaluation.accuracy(answers.labels, answers.probabilities)
    _console.print(f"Validation accuracy {accuracy}", soft_wrap=True)
    _console.print(f"Trained in {record['training_seconds']:,.0f} s: {run_dir}", soft_wrap=True)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def main() -> None:
    """Runs the command line; a `UserError` becomes one line on stderr and exit status 1."""
    try:
        app()
    except UserError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"digit-recognizer: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        print("digit-recognizer: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)

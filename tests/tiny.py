"""Runs that train within a second, for tests of the code around the training."""

from rich.console import Console

from digit_recognizer import pipeline
from digit_recognizer.config import Config
from digit_recognizer.data.folds import make_folds
from digit_recognizer.training import ensemble, run_folder

TINY = Config(preset="tiny", epochs=2, channels=(4, 8), batch_size=32, augment=False, validation=0.2)
QUIET = Console(quiet=True)


def train(config, rows, run_dir, *, console=QUIET, **options):
    data = {"train.csv": rows.sha256, "test.csv": None}
    record = run_folder.new_record(config, run=run_dir.name, competition="demo", data=data)
    record = ensemble.train_members(config, rows, run_dir, record, console, **options)
    return pipeline.finish_run(run_dir, record, rows.labels)


def train_member(config, rows, *, precision="float32", augmented=(), report=lambda *_: None, **options):
    """Train the first member of a run without the code around it."""
    from digit_recognizer.training import member  # imports TensorFlow

    folds = make_folds(rows.labels, folds=config.folds, validation=config.validation, seed=0)
    options |= {"precision": precision, "augmented": iter(augmented), "report": report}
    return member.train_member(config, rows, folds, 0, **options)

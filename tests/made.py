"""Finished runs with made-up predictions, for tests that only read run_folder."""

import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from digit_recognizer.config import Config
from digit_recognizer.data import demo
from digit_recognizer.data.csv_files import load_test, load_train
from digit_recognizer.data.folds import Predictions, make_folds
from digit_recognizer.files import write_json
from digit_recognizer.training import run_folder

CONFIG = Config(preset="made", epochs=3, channels=(4, 8), augment=False, validation=0.2)
HISTORY = {
    "accuracy": [0.5, 0.75, 0.875],
    "loss": [1.5, 0.5, 0.25],
    "val_accuracy": [0.5, 0.625, 0.8125],
    "val_loss": [1.5, 0.75, 0.5],
    "learning_rate": [0.01, 0.005, 0.0],
    "seconds": [3.0, 2.0, 1.0],
}


def make_probabilities(digits, random):
    """Make probabilities, float32 [n, 10], that predict the given digits with 50% to 95%."""
    confidence = random.uniform(0.5, 0.95, len(digits)).astype(np.float32)[:, np.newaxis]
    return np.where(np.arange(10) == digits[:, np.newaxis], confidence, (1 - confidence) / 9)


def write_run(run_dir, data_dir, *, mistakes=20, networks=False, **settings):
    """Write a run on the data of a folder and return its folder.

    Args:
        run_dir: folder to create.
        data_dir: folder of train.csv and test.csv.
        mistakes: wrong out-of-fold predictions of each member.
        networks: whether to save untrained networks; otherwise model.keras is a placeholder, and TensorFlow not needed.
        settings: fields of `Config`.
    """
    train, test = load_train(data_dir), load_test(data_dir)
    config = replace(CONFIG, **settings)
    hashes = {"train.csv": train.sha256, "test.csv": test.sha256}
    record = run_folder.new_record(config, run=run_dir.name, competition=demo.COMPETITION, data=hashes)
    random = np.random.default_rng(config.seed)
    run_dir.mkdir(parents=True)
    folds = make_folds(train.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
    for index, fold in enumerate(folds):
        labels = train.labels[fold.validation]
        wrong = np.zeros(len(labels), bool)
        wrong[random.permutation(len(labels))[:mistakes]] = True
        predictions = Predictions(fold.validation, labels, make_probabilities((labels + wrong) % 10, random))
        contents = make_member(config, index, predictions, networks)
        run_folder.write_member(run_dir / f"member-{index}", contents)
    record["scores"] = {
        "validation_accuracy": 1 - mistakes * len(folds) / len(run_folder.read_predictions(run_dir).rows)
    }
    record |= {
        "training_seconds": 6.0 * len(folds),
        "finished_at": record["started_at"],
        "peak_memory_bytes": 2**30,
    }
    write_json(run_dir / "run.json", record)
    write_json(run_dir.parent / "latest.json", run_dir.name)
    return run_dir


def make_member(config, index, predictions, networks):
    """Make the contents of a member's files."""
    columns = list(HISTORY)
    rows = [",".join(map(str, row)) for row in zip(*HISTORY.values(), strict=True)]
    history = "\n".join([f"epoch,{','.join(columns)}", *(f"{number},{row}" for number, row in enumerate(rows, 1)), ""])
    np.savez(arrays := io.BytesIO(), **predictions._asdict())
    model = _build_model(config, index) if networks else b"-"
    return {"model.keras": model, "history.csv": history.encode(), "validation.npz": arrays.getvalue()}


def _build_model(config, seed):
    from digit_recognizer.console import hide_native_messages

    with hide_native_messages():
        import keras

        from digit_recognizer.model.networks import build_model

    keras.utils.set_random_seed(seed)
    architecture = config.architectures[seed % len(config.architectures)]
    model = build_model(architecture=architecture, channels=config.channels, dropout=config.dropout, folded=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        return (Path(folder) / "model.keras").read_bytes()

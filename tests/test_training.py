"""Members and runs: repeatable, resumable, and never trained on what they are judged by."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from digit_recognizer import data, demo, ensemble, prediction, runs, training
from digit_recognizer.config import Config
from digit_recognizer.errors import UserError

TINY = Config(preset="tiny", epochs=2, channels=(4, 8), batch_size=32, augment=False, validation=0.2)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    demo.write_demo_data(folder)
    return folder


@pytest.fixture(scope="module")
def rows(demo_dir):
    """The first 400 rows of the demo's train.csv."""
    train = data.load_train(demo_dir)
    return data.Dataset(train.images[:400], train.labels[:400], train.sha256)


def new_record(config, rows, name="run"):
    return runs.new_record(config, run=name, competition="demo", data={"train.csv": rows.sha256})


def train(config, rows, run_dir):
    return ensemble.train_run(config, rows, run_dir, new_record(config, rows, run_dir.name), QUIET)


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("models") / "tiny"
    train(TINY, rows, run_dir)
    return run_dir


def test_a_run_holds_what_the_issue_of_its_answers_needs(trained, rows):
    record = runs.finished_record(trained)
    assert record["config"] == TINY.to_dict()
    assert record["data"] == {"train.csv": rows.sha256}
    assert {"python", "keras", "numpy"} < record["versions"].keys()
    assert any(name.startswith("tensorflow") for name in record["versions"])
    history = runs.read_history(trained / "member-0")
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"), 2
    )
    answers = runs.read_answers(trained)
    assert record["scores"]["validation_rows"] == len(answers.rows) == 80
    assert (rows.labels[answers.rows] == answers.labels).all()
    assert record["scores"]["validation_accuracy"] == (answers.probabilities.argmax(1) == answers.labels).mean()
    assert runs.find_run(trained.parent, None) == trained


@pytest.mark.parametrize("augment", [False, True])
def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(rows, tmp_path, augment):
    config = replace(TINY, augment=augment, dropout=0.3)
    for name in ("one", "two"):
        train(config, rows, tmp_path / name)
    train(replace(config, seed=1), rows, tmp_path / "other")
    one, two, other = (runs.read_answers(tmp_path / name).probabilities for name in ("one", "two", "other"))
    assert (one == two).all()
    assert (one != other).any()


def test_no_held_out_row_is_trained_on(rows, monkeypatch, tmp_path):
    """Each image carries its row number in its pixels; the batches that Keras gets are looked at."""
    marked = rows.images.copy()
    marked[:, 0, 0], marked[:, 0, 1] = np.divmod(np.arange(400), 256)
    seen = []
    original = training._Batches.__getitem__

    def spy(self, index):
        batch = original(self, index)
        pixels = (batch[0][:, 0, :2, 0] * 255).round().astype(int)
        seen.extend((pixels[:, 0] * 256 + pixels[:, 1]).tolist())
        return batch

    monkeypatch.setattr(training._Batches, "__getitem__", spy)
    train(TINY, data.Dataset(marked, rows.labels, "0"), tmp_path / "run")
    held_out = set(runs.read_answers(tmp_path / "run").rows.tolist())
    assert len(held_out) == 80
    assert len(set(seen)) > 300  # every row is seen but for those that the last partial batch left out
    assert not held_out & set(seen)


def test_augmented_copies_are_made_of_training_rows_alone(rows, monkeypatch, tmp_path):
    copied = []

    def spy(images, *, epochs, seed):
        copied.append((images, epochs))
        return iter([images] * epochs)

    monkeypatch.setattr(ensemble, "augmented_epochs", spy)
    train(replace(TINY, augment=True, plain_epochs=1), rows, tmp_path / "run")
    ((images, epochs),) = copied
    assert epochs == 1
    held_out = runs.read_answers(tmp_path / "run").rows
    expected = np.delete(rows.images, held_out, axis=0)
    assert (images == expected).all()


def test_an_interrupted_run_trains_only_what_is_missing_and_ends_the_same(rows, monkeypatch, tmp_path):
    config = replace(TINY, folds=3, epochs=1)
    train(config, rows, tmp_path / "whole")

    calls = []
    original = training.train_member

    def interrupted(*arguments, **options):
        calls.append(options["seed"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(training, "train_member", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, rows, tmp_path / "parts")
    assert [path.name for path in runs.member_dirs(tmp_path / "parts")] == ["member-0"]
    assert not list((tmp_path / "parts").glob(".member*"))
    with pytest.raises(UserError, match="interrupted; run `make train` again"):
        runs.finished_record(tmp_path / "parts")
    train(config, rows, tmp_path / "parts")
    assert len(calls) == 4
    assert len(set(calls)) == 3
    whole, parts = (runs.read_answers(tmp_path / name) for name in ("whole", "parts"))
    assert whole.rows.tolist() == parts.rows.tolist() == list(range(400))
    assert (whole.probabilities == parts.probabilities).all()


def test_a_finished_run_is_not_trained_again(trained, rows, monkeypatch):
    monkeypatch.setattr(ensemble, "_train_members", lambda *_: pytest.fail("trained again"))
    before = runs.finished_record(trained)
    assert train(TINY, rows, trained) == before


def test_a_run_of_other_settings_is_not_mixed_with(trained, rows):
    with pytest.raises(UserError, match="differs in epochs"):
        train(replace(TINY, epochs=3), rows, trained)


def test_runs_are_named_after_settings_data_and_code(monkeypatch):
    name = runs.run_name(TINY, "a")
    assert name.startswith("tiny-seed0-")
    assert runs.run_name(TINY, "a") == name
    names = {name, runs.run_name(replace(TINY, epochs=9), "a"), runs.run_name(TINY, "b")}
    monkeypatch.setattr(runs, "SOURCES", runs.SOURCES[:-1])
    assert len(names | {runs.run_name(TINY, "a")}) == 4


def test_a_missing_run_names_those_that_are_there(trained, tmp_path):
    with pytest.raises(UserError, match=r"found none; run `make train`"):
        runs.find_run(tmp_path, None)
    with pytest.raises(UserError, match=r"expected the run .other. in .*, found tiny"):
        runs.find_run(trained.parent, "other")


def test_the_learning_rate_makes_one_cycle(rows, tmp_path):
    train(replace(TINY, epochs=10), rows, tmp_path / "run")
    rates = runs.read_history(tmp_path / "run" / "member-0")["learning_rate"]
    peak = rates.argmax()
    assert rates[peak] == pytest.approx(TINY.learning_rate, rel=0.05)
    assert peak == 1  # the end of the second epoch of ten
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_a_saved_model_answers_the_same_in_a_process_without_this_package(trained, rows, tmp_path):
    answers = runs.read_answers(trained)
    np.save(tmp_path / "images.npy", data.normalise(rows.images[answers.rows]))
    program = """
import sys, numpy, keras
model = keras.models.load_model(sys.argv[1])
numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2]), verbose=0))
assert not any(name.startswith("digit_recognizer") for name in sys.modules)
"""
    paths = [
        str(path) for path in (trained / "member-0" / "model.keras", tmp_path / "images.npy", tmp_path / "out.npy")
    ]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, capture_output=True, cwd=tmp_path)
    assert np.load(tmp_path / "out.npy") == pytest.approx(answers.probabilities, abs=1e-5)


def test_the_answers_of_several_members_are_averaged(rows, tmp_path):
    train(replace(TINY, folds=2, epochs=1), rows, tmp_path / "run")
    together = prediction.predict(tmp_path / "run", rows.images[:20], QUIET)
    import keras

    each = [
        keras.models.load_model(folder / "model.keras").predict(data.normalise(rows.images[:20]), verbose=0)
        for folder in runs.member_dirs(tmp_path / "run")
    ]
    assert together == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3


def test_a_submission_of_other_test_images_is_refused(trained, demo_dir, tmp_path):
    record = json.loads((trained / "run.json").read_text())
    record["data"]["test.csv"] = "0" * 64
    other = tmp_path / "models" / "tiny"
    other.mkdir(parents=True)
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"expected the test.csv that lay beside the run's train.csv"):
        prediction.make_submission(other, tmp_path / "submissions", demo_dir, QUIET)
    assert not (tmp_path / "submissions").exists()

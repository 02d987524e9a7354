"""The answers of saved members."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from tiny import TINY, train

from digit_recognizer.data import csv_files
from digit_recognizer.errors import UserError
from digit_recognizer.training import prediction, runs

BFLOAT16 = 0.03  # by which probabilities differ at most where a run's own were computed in half precision


def test_a_saved_model_answers_the_same_in_a_process_without_this_package(trained, rows, tmp_path):
    answers = runs.read_predictions(trained)
    np.save(tmp_path / "images.npy", csv_files.normalise(rows.images[answers.rows]))
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
    assert np.load(tmp_path / "out.npy") == pytest.approx(answers.probabilities, abs=BFLOAT16)


def test_the_answers_of_several_members_are_averaged(rows, tmp_path):
    train(replace(TINY, folds=2, epochs=1), rows, tmp_path / "run")
    together = prediction.load_classifier(tmp_path / "run")(rows.images[:20])
    each = [
        keras.models.load_model(folder / "model.keras").predict(csv_files.normalise(rows.images[:20]), verbose=0)
        for folder in runs.member_dirs(tmp_path / "run")
    ]
    assert together == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert runs.read_test_answers(tmp_path / "run")[:20] == pytest.approx(together, abs=BFLOAT16)


def test_a_submission_of_other_test_images_is_refused(trained, demo_dir, tmp_path):
    record = json.loads((trained / "run.json").read_text())
    record["data"]["test.csv"] = "0" * 64
    other = tmp_path / "models" / "tiny"
    other.mkdir(parents=True)
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"expected the test.csv that lay beside the run's train.csv"):
        prediction.make_submission(other, tmp_path / "submissions", demo_dir)
    assert not (tmp_path / "submissions").exists()


def test_a_submission_is_made_again_only_when_its_run_or_its_file_changed(rows, demo_dir, tmp_path, monkeypatch):
    run_dir, submissions_dir = tmp_path / "models" / "run", tmp_path / "submissions"
    train(replace(TINY, epochs=1), rows, run_dir)
    record = json.loads((run_dir / "run.json").read_text())
    record["data"]["test.csv"] = csv_files.load_test(demo_dir).sha256
    (run_dir / "run.json").write_text(json.dumps(record))
    made = []

    def read_test_answers(_):
        made.append(1)
        return np.eye(10, dtype=np.float32)[np.zeros(360, int)]

    monkeypatch.setattr(runs, "read_test_answers", read_test_answers)
    for change in (None, "nothing", "run", "file"):
        if change == "run":
            (run_dir / "run.json").write_text(json.dumps(record | {"finished_at": "later"}))
        elif change == "file":
            (submissions_dir / "run" / "submission.csv").write_text("ImageId,Label\n")
        folder = prediction.make_submission(run_dir, submissions_dir, demo_dir)
        assert len((folder / "submission.csv").read_bytes().splitlines()) == 361
    assert made == [1] * 3  # at first, after the run changed, after the file changed

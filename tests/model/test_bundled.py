"""The network that the package ships."""

import hashlib

from digit_recognizer.data.csv_files import load_train
from digit_recognizer.model import bundled
from digit_recognizer.model.prediction import make_predictor


def test_weights_are_those_of_the_record():
    record = bundled.read_bundled_record()
    assert record["weights_sha256"] == hashlib.sha256(bundled.WEIGHTS.read_bytes()).hexdigest()
    assert record["config"]["preset"] == "single"
    assert record["validation_accuracy"] > 0.99
    assert {"seed", "epochs"} < record["config"].keys()
    assert all(record[name] for name in ("data", "code", "versions", "finished_at", "git_commit"))


def test_the_network_reads_digits_of_other_people(demo_dir):  # enlarged from 8x8, not in MNIST's format
    train = load_train(demo_dir)
    predictions = make_predictor([bundled.load_bundled()])(train.images)
    assert (predictions.argmax(axis=1) == train.labels).mean() > 0.75
    assert abs(predictions.sum(axis=1) - 1).max() < 1e-5

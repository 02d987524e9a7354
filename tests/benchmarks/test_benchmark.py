"""The benchmark's statistics, its tables in the documents, and other people's recipes."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import benchmark, tables
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.data.folds import Fold, make_folds


def test_the_difference_of_accuracies_is_paired():
    theirs = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool)
    ours = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
    difference = benchmark.compare_paired(theirs, ours)
    assert difference["accuracy"] == pytest.approx(1 / 8)
    assert difference["standard_error"] == pytest.approx(np.std([0, 0, 0, 1, 1, -1, 0, 0], ddof=1) / 8**0.5)


def test_ensembles_are_scored_on_the_held_out_rows_of_their_fold():
    labels = np.array([0, 1, 0, 1], np.uint8)
    folds = [Fold(np.array([1, 3]), np.array([0, 2])), Fold(np.array([0, 2]), np.array([1, 3]))]
    ones = [(0.1, 0.6), (0.2, 0.3), (0.9, 0.4), (0.8, 0.1)]  # of two networks for rows 0, 2, and of two for rows 1, 3
    networks = [np.array([[1 - p, p, *[0] * 8] for p in pair], np.float32) for pair in ones]
    assert benchmark.score_folds(labels, folds, networks) == {"accuracy": 0.75, "right": [1, 1, 1, 0]}


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_tables_in_the_documents_show_the_stored_results(name):
    text = (tables.ROOT / name).read_text()
    assert text.count("<!-- table: ") == text.count("<!-- end of table -->")
    assert tables.update_document(text, tables.read_results()) == text, "run python -m benchmarks.tables"


def test_after_a_mean_comes_its_standard_error():
    values = {"repetitions": 4, "seconds": {"mean": 10.0, "deviation": 3.0}}
    assert tables._mean(values, "seconds", ",.1f", " s") == "10.0 s ± 1.5 s"


def test_finished_parts_are_not_measured_again(monkeypatch, tmp_path):
    measured = []
    parts = {name: lambda _, name=name: measured.append(name) or {"of": name} for name in ("engine", "small")}
    monkeypatch.setattr(benchmark, "PARTS", parts)
    monkeypatch.setattr(benchmark, "describe_machine", dict)
    folders = benchmark.Folders(Path("data"), tmp_path)
    assert benchmark.measure(folders, ["small"]) == {"machine": {}, "small": {"of": "small"}}
    both = {"machine": {}, "engine": {"of": "engine"}, "small": {"of": "small"}}
    assert benchmark.measure(folders, ["engine", "small"]) == both
    assert measured == ["small", "engine"]


@pytest.mark.benchmarks
def test_other_networks_have_the_published_size_and_train(demo_dir):
    from benchmarks import peers

    assert peers.build_deotte(fused=False).count_params() == peers.build_deotte(fused=True).count_params() == 327_242
    assert peers.build_small_cnn().count_params() == 225_034
    rows = load_train(demo_dir)
    (fold,) = make_folds(rows.labels, folds=1, validation=0.2, seed=0)
    accuracy, _ = peers.train_small_cnn(rows, fold, seed=0)
    assert accuracy > 0.7
    probabilities = peers.train_deotte(rows, fold, seed=0, precision="float32", epochs=1)
    assert probabilities.shape == (len(fold.validation), 10)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)

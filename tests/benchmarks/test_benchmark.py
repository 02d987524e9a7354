"""The benchmark's arithmetic, the tables made of it, and the recipes it measures."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import benchmark
from digit_recognizer.data import csv_files

ROOT = Path(__file__).parents[2]


def test_a_difference_is_paired():
    theirs = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool)
    ours = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
    found = benchmark._difference(theirs, ours)
    assert (found["rows"], found["only_ours_right"], found["only_theirs_right"]) == (8, 2, 1)
    assert found["accuracy"] == pytest.approx(1 / 8)
    assert found["standard_error"] == pytest.approx(np.std([0, 0, 0, 1, 1, -1, 0, 0], ddof=1) / 8**0.5)


def test_the_networks_of_a_fold_answer_together_what_it_holds_out():
    labels = np.array([0, 1, 0, 1], np.uint8)
    folds = [csv_files.Fold(np.array([1, 3]), np.array([0, 2])), csv_files.Fold(np.array([0, 2]), np.array([1, 3]))]

    def sure(*chances_of_one):
        return np.array([[1 - chance, chance, *[0] * 8] for chance in chances_of_one], np.float32)

    each = [sure(0.1, 0.6), sure(0.2, 0.3), sure(0.9, 0.4), sure(0.8, 0.1)]  # rows 0 and 2, again, 1 and 3, again
    found = benchmark._fold_scores(labels, folds, each)
    assert found["right"] == [1, 1, 1, 0]
    assert found["accuracy"] == 0.75
    assert found["alone"] == {"mean": pytest.approx(0.625), "deviation": pytest.approx(0.25)}


def test_the_tables_of_the_readme_are_those_of_the_measured_values():
    result = json.loads((ROOT / "docs" / "benchmark.json").read_text())
    assert benchmark.to_markdown(result) in (ROOT / "README.md").read_text()


def test_the_table_of_the_ablation_is_that_of_the_measured_values():
    result = json.loads((ROOT / "docs" / "ablation.json").read_text())
    assert list(result["variations"]) == list(benchmark.VARIATIONS)
    assert benchmark.ablation_to_markdown(result) in (ROOT / "docs" / "ablation.md").read_text()


def test_an_ablation_is_a_table():
    difference = {"accuracy": -0.0001, "standard_error": 0.00026}
    values = {"accuracy": 0.99456, "difference": difference, "together": 0.995, "processor_seconds": 90.0, "kept": "no"}
    text = benchmark.ablation_to_markdown({"rows": 21000, "variations": {"6 epochs": values}})
    assert text.splitlines()[-1] == "| 6 epochs | 99.456% | -0.010 ± 0.026 points | 99.500% | 1.5 min | no |"


def test_the_networks_of_others_are_theirs():
    from benchmarks import peers

    assert peers.build_deotte(fast=False).count_params() == peers.build_deotte(fast=True).count_params() == 327_242
    assert peers.build_predecessor().count_params() == 225_034


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")  # Keras' old generator does
def test_the_recipes_of_others_run(demo_dir):
    from benchmarks import peers

    rows = csv_files.load_train(demo_dir)
    (fold,) = csv_files.make_folds(rows.labels, folds=1, validation=0.2, seed=0)
    accuracy, measured = peers.train_predecessor(rows, fold, seed=0)
    assert accuracy > 0.7
    assert measured.images == 5 * len(fold.train)
    assert peers.time_deotte(rows, fold, steps=2).images == 2 * 64
    answers = peers.train_deotte(rows, fold, seed=0, precision="float32", epochs=1)
    assert answers.shape == (len(fold.validation), 10)
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)

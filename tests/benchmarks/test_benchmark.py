"""The benchmark's statistics and tables, and other people's recipes."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmarks import benchmark, tables
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.data.folds import Fold, make_folds

ROOT = Path(__file__).parents[2]


def test_the_difference_of_accuracies_is_paired():
    theirs = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool)
    ours = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
    found = benchmark.compare_paired(theirs, ours)
    assert (found["rows"], found["only_ours_right"], found["only_theirs_right"]) == (8, 2, 1)
    assert found["accuracy"] == pytest.approx(1 / 8)
    assert found["standard_error"] == pytest.approx(np.std([0, 0, 0, 1, 1, -1, 0, 0], ddof=1) / 8**0.5)


def test_ensembles_are_scored_on_the_held_out_rows_of_their_fold():
    labels = np.array([0, 1, 0, 1], np.uint8)
    folds = [Fold(np.array([1, 3]), np.array([0, 2])), Fold(np.array([0, 2]), np.array([1, 3]))]

    def predict(*probabilities_of_one):
        return np.array([[1 - one, one, *[0] * 8] for one in probabilities_of_one], np.float32)

    networks = [
        predict(0.1, 0.6),
        predict(0.2, 0.3),
        predict(0.9, 0.4),
        predict(0.8, 0.1),
    ]  # rows 0, 2 twice; 1, 3 twice
    found = benchmark.score_folds(labels, folds, networks)
    assert found["right"] == [1, 1, 1, 0]
    assert found["accuracy"] == 0.75
    assert found["alone"] == {"mean": pytest.approx(0.625), "deviation": pytest.approx(0.25)}


def read_results():
    return [json.loads((ROOT / "docs" / f"{name}.json").read_text()) for name in ("benchmark", "ablation")]


@pytest.mark.parametrize(
    ("name", "count"),
    [("README.md", 1), ("docs/benchmark.md", 3), ("docs/ablation.md", 1)],
    ids=lambda value: str(value),
)
def test_tables_in_the_documents_show_the_stored_results(name, count):
    text = (ROOT / name).read_text()
    assert text.count("<!-- table: ") == text.count("<!-- end of table -->") == count
    assert tables.update_document(text, *read_results()) == text, "run python -m benchmarks.tables"


def test_the_readme_table_has_at_most_eight_rows_and_both_ratios():
    header, _, *rows = tables.readme_table(read_results()[0]).splitlines()
    assert len(rows) <= 8
    assert {row.count("|") for row in rows} == {header.count("|")}
    assert "5.9x (30x) less | 5.3x (27x) less" in rows[-1]


def test_costs_are_extrapolated_to_a_number_of_networks():
    result = {"deotte_stock": {"processor_seconds": 1500.0, "seconds": 750.0}}
    assert tables._deotte_costs(result, 3) == (300, 150)
    assert tables._deotte_costs(result, 15) == (1500, 750)


def test_stored_ablation_has_all_variations():
    assert list(read_results()[1]["variations"]) == list(benchmark.VARIATIONS)


def test_ablation_table():
    difference = {"accuracy": -0.0001, "standard_error": 0.00026}
    values = {"accuracy": 0.99456, "difference": difference, "together": 0.995, "processor_seconds": 90.0, "kept": "no"}
    text = tables.ablation_table({"rows": 21000, "variations": {"6 epochs": values}})
    assert text.splitlines()[-1] == "| 6 epochs | 99.456% | -0.010 ± 0.026 points | 99.500% | 1.5 min | no |"


def test_bench_options_reach_the_benchmark(monkeypatch, tmp_path):
    received = {}

    def measure(data_dir, work_dir, **options):
        options.pop("say")("benchmark: engine")
        received.update(options, data_dir=data_dir)
        return {"machine": {}}

    monkeypatch.setattr(benchmark, "measure", measure)
    app = typer.Typer()
    app.command()(benchmark.main)
    arguments = ["--data-dir=d", f"--work-dir={tmp_path}", "--networks=1", "--members=2", "--rival-epochs=3", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, json.loads(result.stdout), result.stderr) == (0, {"machine": {}}, "benchmark: engine\n")
    assert received == {"data_dir": Path("d"), "networks": 1, "members": 2, "rival_epochs": 3}
    assert json.loads((tmp_path / "benchmark-result.json").read_text()) == {"machine": {}}


@pytest.mark.slow
def test_peer_networks_have_the_published_number_of_parameters():
    from benchmarks import peers

    assert peers.build_deotte(fast=False).count_params() == peers.build_deotte(fast=True).count_params() == 327_242
    assert peers.build_predecessor().count_params() == 225_034


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")  # by Keras' generator
def test_peer_recipes_train(demo_dir):
    from benchmarks import peers

    rows = load_train(demo_dir)
    (fold,) = make_folds(rows.labels, folds=1, validation=0.2, seed=0)
    accuracy, measured = peers.train_predecessor(rows, fold, seed=0)
    assert accuracy > 0.7
    assert measured.images == 5 * len(fold.train)
    assert peers.time_deotte(rows, fold, steps=2).images == 2 * 64
    probabilities = peers.train_deotte(rows, fold, seed=0, precision="float32", epochs=1)
    assert probabilities.shape == (len(fold.validation), 10)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)

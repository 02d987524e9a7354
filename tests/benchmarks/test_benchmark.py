"""The benchmark's statistics and tables, and other people's recipes."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from tiny import QUIET, TINY
from typer.testing import CliRunner

from benchmarks import ablation, benchmark, tables
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError

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


@pytest.mark.parametrize(
    ("name", "count"),
    [("README.md", 2), ("docs/benchmark.md", 2), ("docs/ablation.md", 1), ("docs/handwriting.md", 1)],
    ids=lambda value: str(value),
)
def test_tables_in_the_documents_show_the_stored_results(name, count):
    text = (ROOT / name).read_text()
    assert text.count("<!-- table: ") == text.count("<!-- end of table -->") == count
    assert tables.update_document(text, *tables.read_results()) == text, "run python -m benchmarks.tables"


def test_stored_results_name_what_they_depend_on():
    benchmarks, ablations, handwriting = tables.read_results()
    for result in [*benchmarks, *ablations, *handwriting]:
        machine = result["machine"]
        assert machine["features"] and machine["precision"] and machine["versions"]["keras"]
        assert {"processor", "onednn", "cores", "git_commit", "measured_on"} <= set(machine)
    assert set(benchmark.PARTS) <= set(benchmarks[0])
    assert all(part["engine"]["repetitions"] >= 2 for part in benchmarks)


def test_no_ratio_is_made_of_an_extrapolated_cost():
    benchmarks, *_ = tables.read_results()
    for text in (tables.accuracy_table(benchmarks[0]), tables.ensemble_table(benchmarks[0])):
        rows = [line for line in text.splitlines() if "stock" in line]
        assert all(cell.strip() == "" or "." not in cell for row in rows for cell in row.split("|")[2:4])
        assert all(row.count("(extrapolated)") == 2 for row in rows)


def test_after_a_mean_comes_its_standard_error():
    values = {"repetitions": 4, "seconds": {"mean": 10.0, "deviation": 3.0}}
    assert tables._mean(values, "seconds", tables._seconds) == "10.0 s ± 1.5 s"


def test_stored_ablation_has_all_variations():
    stored = {name: None for result in tables.read_results()[1] for name in result["variations"]}
    assert list(stored) == list(ablation.VARIATIONS)


def test_ablation_table():
    difference = {"accuracy": -0.0001, "standard_error": 0.00026}
    values = {"basis": "as it is", "accuracy": 0.99456, "difference": difference, "processor_seconds": 90.0}
    machine = {"processor": "Intel", "features": ["AVX2"], "precision": "float32", "limited": False}
    text = tables.ablation_tables([{"machine": machine, "variations": {"as it is": values, "6 epochs": values}}])
    assert text.splitlines()[-4:] == [
        "| as it is | 99.456% |  |  | 1.5 min |",
        "| 6 epochs | 99.456% | -0.010 ± 0.026 points | as it is | 1.5 min |",
        "",
        "Measured on Intel with AVX2; float32.",
    ]


def test_bench_options_reach_the_parts_that_are_named_and_results_are_kept(monkeypatch, tmp_path):
    received = []
    monkeypatch.setattr(benchmark, "describe_machine", dict)
    parts = {name: lambda options, name=name: received.append((name, options)) or {} for name in ("engine", "small")}
    monkeypatch.setattr(benchmark, "PARTS", parts)
    app = typer.Typer()
    app.command()(benchmark.main)
    arguments = ["--data-dir=d", f"--work-dir={tmp_path}", "--networks=1", "--members=2", "--rival-epochs=3", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--parts=small"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"machine": {}, "small": {}})
    assert result.stderr == "benchmark: small\n"
    assert received == [("small", benchmark.Options(Path("d"), tmp_path, 1, 2, 3))]
    assert json.loads((tmp_path / "benchmark.json").read_text()) == {"machine": {}, "small": {}}
    CliRunner().invoke(app, [*arguments, "--parts=engine small"])
    assert [name for name, _ in received] == ["small", "engine"]
    assert isinstance(CliRunner().invoke(app, [*arguments, "--parts=x"]).exception, UserError)


@pytest.mark.slow
def test_variations_change_the_training(demo_dir):
    """Each patch is applied during the training, and undone after it."""
    import keras
    from keras import layers

    from digit_recognizer.training.optimizer import Muon

    targets = [(Muon, "update_step"), (Muon, "finish"), (layers, "GlobalAveragePooling2D"), (keras.Model, "compile")]
    targets.append((layers.Conv2D, "__init__"))
    before, changed = [getattr(*target) for target in targets], 0
    for variation in ablation.VARIATIONS.values():
        with variation.patch():
            different = [getattr(*target) is not value for target, value in zip(targets, before, strict=True)]
        assert sum(different) == (variation.patch is not contextlib.nullcontext)
        changed += sum(different)
        assert [getattr(*target) for target in targets] == before
    assert changed >= 6


@pytest.mark.slow
def test_an_ablation_keeps_its_networks_and_compares_them_with_the_first(demo_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(ablation.PRESETS, "single", TINY)
    some = dict(list(ablation.VARIATIONS.items())[:2])
    monkeypatch.setattr(ablation, "VARIATIONS", some)
    monkeypatch.setattr(ablation, "run_tasks", run_here)
    result = ablation.measure(demo_dir, tmp_path, QUIET)
    assert result["rows"] == 1437
    first, other = result["variations"].values()
    assert first["difference"]["accuracy"] == 0 < first["accuracy"]
    assert other["accuracy"] == pytest.approx(first["accuracy"] + other["difference"]["accuracy"])
    monkeypatch.setattr(ablation, "run_tasks", lambda _, tasks, *__, **___: list(tasks))
    assert ablation.measure(demo_dir, tmp_path, QUIET)["variations"] == result["variations"]


@pytest.mark.slow
def test_an_ablation_of_one_basis_averages_the_networks_of_its_variations(demo_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(ablation.PRESETS, "single", TINY)
    monkeypatch.setattr(ablation, "BASIS", {})
    some = {"former": ablation.Variation({}), "present": ablation.Variation({}, basis="former")}
    some["pair"] = ablation.Variation({"members": 2, "epochs": 1}, basis="present")
    monkeypatch.setattr(ablation, "VARIATIONS", some)
    monkeypatch.setattr(ablation, "run_tasks", run_here)
    result = ablation.measure(demo_dir, tmp_path, QUIET, "present")["variations"]
    assert list(result) == ["present", "pair"]
    assert [one["basis"] for one in result.values()] == ["present", "present"]
    assert 0.2 < result["pair"]["accuracy"] < 1


def run_here(function, tasks, *_, **__):
    for task in tasks:
        yield function(task, None)


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

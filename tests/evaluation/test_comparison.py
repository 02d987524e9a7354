"""Comparison of runs, and the command `compare`."""

import json
import shutil
import statistics

import made
import numpy as np
import pytest

from digit_recognizer.data.folds import Predictions
from digit_recognizer.evaluation import metrics
from digit_recognizer.evaluation.comparison import compare_runs, paired_test
from digit_recognizer.training import run_folder

MISTAKES = {"a-0": 20, "a-1": 26, "a-2": 30, "b-0": 10, "b-1": 16}  # of 288 images; the number is the seed


@pytest.fixture(scope="module")
def models(demo_dir, tmp_path_factory):
    """Three runs of one setting, two of another."""
    folder = tmp_path_factory.mktemp("models")
    for name, mistakes in MISTAKES.items():
        settings = {"dropout": 0.25, "channels": (4, 16)} if name[0] == "b" else {}
        made.write_run(folder / name, demo_dir, mistakes=mistakes, seed=int(name[2:]), **settings)
    return folder


@pytest.fixture
def changed(models, tmp_path):
    """Copy the run a-1 with another value in its record; a slash separates the names of nested dictionaries."""

    def copy(name, value):
        run_dir = shutil.copytree(models / "a-1", tmp_path / "changed")
        record = json.loads((run_dir / "run.json").read_text())
        place, _, last = name.rpartition("/")
        (record[place] if place else record)[last] = value
        (run_dir / "run.json").write_text(json.dumps(record))
        return run_dir

    return copy


def test_each_run_has_its_accuracy_and_the_settings_that_differ(models):
    first, second = compare_runs([models / "a-0", models / "b-1"]).runs
    assert first == {
        "run": "a-0",
        "settings": {"seed": 0, "channels": [4, 8], "dropout": 0.0},
        "accuracy": metrics.proportion(268, 288)._asdict(),
        "training_seconds": 6.0,
    }
    assert second["settings"] == {"seed": 1, "channels": [4, 16], "dropout": 0.25}


def test_runs_that_differ_in_their_seeds_only_have_mean_and_deviation(models):
    a, b = compare_runs([models / name for name in MISTAKES]).groups
    assert (a["runs"], b["runs"]) == (["a-0", "a-1", "a-2"], ["b-0", "b-1"])
    assert a["settings"] == {"channels": [4, 8], "dropout": 0.0}
    assert b["settings"] == {"channels": [4, 16], "dropout": 0.25}
    assert (a["mean"], b["mean"]) == (pytest.approx(1 - 76 / 3 / 288), pytest.approx(1 - 13 / 288))
    assert a["deviation"] == pytest.approx(statistics.stdev([20, 26, 30]) / 288)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code", "0" * 64),
        ("precision", "mixed_bfloat16"),
        ("onednn", None),
        ("versions/keras", "3.13.2"),
        ("data/train.csv", "0" * 64),
        ("config/dropout", 0.5),
    ],
)
def test_a_run_that_differs_in_more_than_its_seed_is_no_repetition(models, changed, name, value):
    comparison = compare_runs([models / "a-0", models / "a-1", changed(name, value)])
    assert [group["runs"] for group in comparison.groups] == [["a-0", "a-1"]]
    assert name.rpartition("/")[2] in comparison.runs[2]["settings"]


def test_mcnemars_test_is_on_the_rows_that_both_held_out():
    digits = [3] * 18 + [5] * 2  # 18 of 20 are correct
    first = Predictions(np.arange(20), np.full(20, 3), np.eye(10)[digits])
    second = Predictions(np.arange(2, 40), np.full(38, 3), np.eye(10)[[3] * 9 + [5] * 7 + [3, 5] + [5] * 20])
    assert paired_test(first, second) == {
        "rows": 18,
        "both_correct": 9,
        "both_wrong": 1,
        "fixed": [18],
        "broken": list(range(11, 18)),
        "p_value": pytest.approx(2 * (1 + 8) / 2**8),  # at most one of eight, in either direction
    }
    assert paired_test(first, first)["p_value"] == 1
    assert paired_test(first, first._replace(rows=np.arange(20, 40))) is None


def test_runs_of_different_files_have_no_test(models, changed):
    assert compare_runs([models / "a-0", changed("data/train.csv", "0" * 64)]).paired_test is None


def test_a_run_trained_on_all_rows_has_no_accuracy(models, tmp_path):
    run_dir = shutil.copytree(models / "a-1", tmp_path / "all")
    empty = run_folder.read_member_predictions(run_dir / "member-0")
    np.savez(run_dir / "member-0" / "validation.npz", **{name: values[:0] for name, values in empty._asdict().items()})
    comparison = compare_runs([models / "a-0", run_dir])
    assert (comparison.runs[1]["accuracy"], comparison.groups, comparison.paired_test) == (None, [], None)
    comparison.to_tables()


def test_compare_prints_what_its_json_has(models, run, tmp_path):
    (tmp_path / "models").symlink_to(models)
    command = ["compare", "b-0", "a-*", "b-0"]
    values = json.loads(run(*command, "--json").stdout)
    assert [row["run"] for row in values["runs"]] == ["b-0", "a-0", "a-1", "a-2"]
    lines = [" ".join(line.split()) for line in run(*command).stdout.splitlines()]
    low, high = (values["runs"][0]["accuracy"][name] for name in ("low", "high"))
    assert f"b-0 96.53% {low:.2%} to {high:.2%} 288 6 seed 0; channels 4, 16; dropout 0.25" in lines
    group = values["groups"][0]
    assert f"channels 4, 8; dropout 0.0 3 {group['mean']:.3%} {group['deviation']:.3%}" in lines
    command = ["compare", "a-0", "b-0"]
    test = json.loads(run(*command, "--json").stdout)["paired_test"]
    assert (
        f"Of 288 images that both held out, {len(test['broken'])} are correct only with a-0, {len(test['fixed'])} only "
        f"with b-0: p = {test['p_value']:.2g} (McNemar's exact test)"
    ) in " ".join(run(*command).stdout.split())

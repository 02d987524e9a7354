"""Comparison of runs, and the command `compare`."""

import json
import shutil
import statistics

import made
import numpy as np
import pytest
from scipy.stats import binomtest

from digit_recognizer.evaluation import metrics
from digit_recognizer.evaluation.comparison import compare_runs
from digit_recognizer.training import runs

MISTAKES = {"a-0": 20, "a-1": 26, "a-2": 30, "b-0": 10, "b-1": 16}  # the number is the seed
ROWS = 288


@pytest.fixture(scope="module")
def models(demo_dir, tmp_path_factory):
    """Three runs of one setting, two of another, and one with three folds."""
    folder = tmp_path_factory.mktemp("models")
    for name, mistakes in MISTAKES.items():
        settings = {"dropout": 0.25, "channels": (4, 16)} if name[0] == "b" else {}
        made.write_run(folder / name, demo_dir, mistakes=mistakes, seed=int(name[2:]), **settings)
    made.write_run(folder / "folds", demo_dir, folds=3)
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
        "accuracy": metrics.proportion(ROWS - 20, ROWS)._asdict(),
        "training_seconds": 6.0,
    }
    assert second["settings"] == {"seed": 1, "channels": [4, 16], "dropout": 0.25}


def test_runs_that_differ_in_their_seeds_only_have_mean_and_deviation(models):
    groups = compare_runs([models / name for name in MISTAKES]).groups
    assert [group["runs"] for group in groups] == [["a-0", "a-1", "a-2"], ["b-0", "b-1"]]
    assert [group["settings"] for group in groups] == [
        {"channels": [4, 8], "dropout": 0.0},
        {"channels": [4, 16], "dropout": 0.25},
    ]
    assert [group["mean"] for group in groups] == pytest.approx([1 - mean / ROWS for mean in (76 / 3, 13)])
    assert groups[0]["deviation"] == pytest.approx(statistics.stdev([20, 26, 30]) / ROWS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code", "0" * 64),
        ("precision", "mixed_bfloat16"),
        ("onednn", None),
        ("versions/keras", "3.13.2"),
        ("data/train.csv", "0" * 64),
        ("data/extra", {"images": 9}),
        ("config/dropout", 0.5),
    ],
)
def test_a_run_that_differs_in_more_than_its_seed_is_no_repetition(models, changed, name, value):
    comparison = compare_runs([models / "a-0", models / "a-1", changed(name, value)])
    assert [group["runs"] for group in comparison.groups] == [["a-0", "a-1"]]
    assert name.rpartition("/")[2] in comparison.runs[2]["settings"]


def test_mcnemars_test_is_on_the_rows_that_both_held_out(models):
    test = compare_runs([models / "folds", models / "b-0"]).paired_test
    folds, single = (runs.read_predictions(models / name) for name in ("folds", "b-0"))
    wrong = [set(run.rows[run.probabilities.argmax(axis=1) != run.labels].tolist()) for run in (folds, single)]
    wrong[0] &= set(single.rows.tolist())
    fixed, broken = wrong[0] - wrong[1], wrong[1] - wrong[0]
    assert (set(test["fixed"]), set(test["broken"])) == (fixed, broken)
    assert (test["both_correct"], test["both_wrong"]) == (ROWS - len(wrong[0] | wrong[1]), len(wrong[0] & wrong[1]))
    assert test["p_value"] == binomtest(len(fixed), len(fixed | broken)).pvalue


def test_a_run_does_not_differ_from_itself(models):
    test = compare_runs([models / "a-0", models / "a-0"]).paired_test
    assert (test["rows"], test["fixed"], test["broken"], test["p_value"]) == (ROWS, [], [], 1)


def test_two_runs_without_common_rows_or_of_different_files_have_no_test(models, changed, tmp_path):
    assert compare_runs([models / "a-0", changed("data/train.csv", "0" * 64)]).paired_test is None
    other = shutil.copytree(models / "a-0", tmp_path / "other")
    predictions = runs.read_member_predictions(other / "member-0")
    rest = np.setdiff1d(np.arange(1437), predictions.rows)[:ROWS]
    np.savez(other / "member-0" / "validation.npz", **predictions._replace(rows=rest)._asdict())
    assert compare_runs([models / "a-0", other]).paired_test is None


def test_a_run_trained_on_all_rows_has_no_accuracy(models, tmp_path):
    run_dir = shutil.copytree(models / "a-1", tmp_path / "all")
    empty = runs.read_member_predictions(run_dir / "member-0")
    np.savez(run_dir / "member-0" / "validation.npz", **{name: values[:0] for name, values in empty._asdict().items()})
    comparison = compare_runs([models / "a-0", run_dir])
    assert (comparison.runs[1]["accuracy"], comparison.groups, comparison.paired_test) == (None, [], None)
    comparison.to_tables()


def test_compare_prints_what_its_json_has(models, run):
    command = ["compare", "b-0", "a-*", "b-0", f"--models-dir={models}"]
    values = json.loads(run(*command, "--json").stdout)
    assert [row["run"] for row in values["runs"]] == ["b-0", "a-0", "a-1", "a-2"]
    lines = [" ".join(line.split()) for line in run(*command).stdout.splitlines()]
    low, high = (values["runs"][0]["accuracy"][name] for name in ("low", "high"))
    assert f"b-0 seed 0; channels 4, 16; dropout 0.25 96.53% {low:.2%} to {high:.2%} 288 6" in lines
    group = values["groups"][0]
    assert f"channels 4, 8; dropout 0.0 3 {group['mean']:.3%} {group['deviation']:.3%}" in lines
    command = ["compare", "a-0", "b-0", f"--models-dir={models}"]
    test = json.loads(run(*command, "--json").stdout)["paired_test"]
    assert (
        f"Of 288 images that both held out, {len(test['broken'])} are correct only with a-0, {len(test['fixed'])} only "
        f"with b-0: p = {test['p_value']:.2g} (McNemar's exact test)"
    ) in " ".join(run(*command).stdout.split())


@pytest.mark.parametrize("names", [[], ["a-0"]])
def test_fewer_than_two_runs_are_one_line(models, run, names):
    answer = run("compare", *names, f"--models-dir={models}")
    line = (
        f"digit-recognizer: name two or more runs to compare, not {len(names)}: make compare RUNS='fast-* single-*'\n"
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", line)

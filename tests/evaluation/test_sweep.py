"""Several runs in one table, and the command `compare` with more than two."""

import json
import statistics

import made
import pytest
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from digit_recognizer import cli
from digit_recognizer.evaluation import metrics, sweep
from digit_recognizer.training import runs

MISTAKES = {"a-0": 20, "a-1": 26, "a-2": 30, "b-0": 10, "b-2": 16, "b-7": 11}  # of 288 images; the number is the seed
ROWS = 288


@pytest.fixture(scope="module")
def models(demo_dir, tmp_path_factory):
    """Three runs of one setting, three of another, which have two seeds in common."""
    folder = tmp_path_factory.mktemp("models")
    for name, mistakes in MISTAKES.items():
        made.write_run(
            folder / name, demo_dir, mistakes=mistakes, seed=int(name[2:]), dropout=0.5 if name[0] == "b" else 0.0
        )
    return folder


def accuracy(name):
    return 1 - MISTAKES[name] / ROWS


def test_runs_that_differ_in_their_seeds_are_one_line_with_mean_deviation_and_a_paired_test(models):
    table = sweep.tabulate_runs([models / name for name in MISTAKES])
    assert table.rows == ROWS
    first, second = table.settings
    assert (first.settings, second.settings) == ({"dropout": 0.0}, {"dropout": 0.5})
    assert (first.runs, second.runs) == (3, 3)
    assert first.mean == pytest.approx((accuracy("a-0") + accuracy("a-1") + accuracy("a-2")) / 3)
    assert second.deviation == pytest.approx(statistics.stdev([10, 16, 11]) / ROWS)
    assert (first.difference, first.p_value) == (None, None)
    one, two = ([accuracy(f"{group}-{seed}") for seed in (0, 2)] for group in "ab")
    assert second.difference == pytest.approx(12 / ROWS)
    assert second.p_value == pytest.approx(ttest_rel(two, one).pvalue)


def test_each_run_is_tested_against_the_first_one(models):
    table = sweep.tabulate_runs([models / name for name in MISTAKES])
    assert [row.run for row in table.runs] == list(MISTAKES)
    one, other = (runs.read_predictions(models / name) for name in ("a-0", "b-7"))
    assert table.runs[0].p_value is None
    assert table.runs[-1].p_value == metrics.paired_test(one.labels, one.probabilities, other.probabilities).p_value
    assert table.runs[-1].accuracy.value == pytest.approx(accuracy("b-7"))


def test_one_run_of_a_setting_has_no_deviation_and_the_same_differences_have_no_test(models):
    table = sweep.tabulate_runs([models / name for name in ("a-0", "b-0", "b-7")])
    assert table.settings[0].deviation is None
    assert table.settings[1].difference == pytest.approx(10 / ROWS)
    assert table.settings[1].p_value is None
    same = sweep.tabulate_runs([models / "a-0", models / "a-1", models / "a-2"])
    assert [row.settings for row in same.settings] == [{}]


@pytest.mark.parametrize(("differences", "p_value"), [([0.0, 0.0], 1.0), ([0.25, 0.25], 0.0)])
def test_differences_without_variance_are_certain(differences, p_value):
    assert sweep.test_mean(differences) == p_value


def test_compare_prints_one_table_of_more_than_two_runs_given_by_names_and_patterns(models):
    command = ["compare", "b-0", "a-*", "b-0", f"--models-dir={models}"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "On the same 288 images" in lines[0]
    cells = [line.split() for line in lines if line.strip()]
    assert [row[0] for row in cells[3:7]] == ["b-0", "a-0", "a-1", "a-2"]
    assert any(line.split()[:3] == ["dropout", "0.0", "3"] for line in lines)
    values = json.loads(CliRunner().invoke(cli.app, [*command, "--json"]).stdout)
    assert [row["run"] for row in values["runs"]] == ["b-0", "a-0", "a-1", "a-2"]
    assert values["settings"][1]["runs"] == 3


def test_one_run_alone_is_refused(models):
    result = CliRunner().invoke(cli.app, ["compare", "a-0", f"--models-dir={models}"])
    assert "expected two or more runs to compare, received 1" in str(result.exception)

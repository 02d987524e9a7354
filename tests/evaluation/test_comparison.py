"""Two runs side by side: on the same rows, or not at all."""

import json
import shutil

import made
import numpy as np
import pytest
from typer.testing import CliRunner

from digit_recognizer import cli
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import comparison, metrics
from digit_recognizer.training import runs


@pytest.fixture(scope="module")
def models(demo_dir, tmp_path_factory):
    """Two runs on one split, one of three folds, and one on another split."""
    folder = tmp_path_factory.mktemp("models")
    made.write_run(folder / "one", demo_dir, mistakes=20)
    made.write_run(folder / "two", demo_dir, mistakes=8, seed=1, dropout=0.25)
    made.write_run(folder / "folds", demo_dir, folds=3)
    return folder


@pytest.fixture(scope="module")
def compare(models, demo_dir, tmp_path_factory):
    """Runs the command; gives its output and the folder of the reports."""
    reports = tmp_path_factory.mktemp("reports")

    def run(*arguments):
        options = ["--models-dir", models, "--data-dir", demo_dir, "--reports-dir", reports]
        answer = CliRunner().invoke(cli.app, ["compare", *arguments, *map(str, options)])
        assert answer.exit_code == 0, answer.output
        return answer.stdout, reports

    return run


def test_json_has_the_settings_the_accuracies_and_what_changed(models, compare):
    output, reports = compare("one", "two", "--json")
    result = json.loads(output)
    assert result["runs"] == ["one", "two"]
    assert result["settings"] == {"seed": [0, 1], "dropout": [0.0, 0.25]}
    assert result["rows"] == 288
    assert [accuracy["value"] for accuracy in result["accuracy"]] == [1 - 20 / 288, 1 - 8 / 288]
    one, two = (runs.read_predictions(models / name) for name in ("one", "two"))
    wrong = [set(side.rows[side.probabilities.argmax(axis=1) != side.labels].tolist()) for side in (one, two)]
    assert (set(result["fixed"]), set(result["broken"])) == (wrong[0] - wrong[1], wrong[1] - wrong[0])
    assert result["both_wrong"] == len(wrong[0] & wrong[1])
    assert result["both_right"] == 288 - len(wrong[0] | wrong[1])
    assert result["p_value"] == metrics.paired_test(one.labels, one.probabilities, two.probabilities).p_value
    assert result["reports"] == [str(reports / "compare-one-two" / name) for name in ("report.html", "report.md")]


def test_the_report_and_the_terminal_say_the_same(compare):
    output, reports = compare("one", "two")
    result = json.loads(compare("one", "two", "--json")[0])
    text = (reports / "compare-one-two" / "report.md").read_text()
    assert "| one | 93.06% |" in text
    assert f"it has {len(result['fixed'])} fixed and {len(result['broken'])} broken" in text
    assert f"with probability {result['p_value']:.2g}" in text
    assert "**two is 4.17 points better.**" in text
    assert "| dropout | 0.0 | 0.25 |" in text
    words = output.split()
    assert {"93.06%", "97.22%", "dropout", "0.25", f"{result['p_value']:.2g}"} <= set(words)
    page = (reports / "compare-one-two" / "report.html").read_text()
    assert page.count("<svg ") == page.count('role="img"') == 4
    assert sorted(path.stem for path in (reports / "compare-one-two").glob("*.png")) == [
        "accuracy",
        "broken",
        "fixed",
        "loss",
    ]


def test_a_run_beside_itself_has_no_difference(compare):
    _, reports = compare("one", "one")
    text = (reports / "compare-one-one" / "report.md").read_text()
    assert "exactly as good" in text
    assert "All settings, versions and machines are the same." in text
    assert "chance alone could explain" in text
    assert text.count("\n\nNone.") == 2


def test_folds_and_a_hold_out_are_compared_on_the_rows_of_the_hold_out(models):
    result = comparison.compare_runs(models / "folds", models / "one")
    held_out = runs.read_predictions(models / "one").rows
    assert [side.rows.tolist() for side in result.answers] == [held_out.tolist()] * 2
    assert (result.answers[0].labels == result.answers[1].labels).all()
    every = runs.read_predictions(models / "folds")
    assert (result.answers[0].probabilities == every.probabilities[held_out]).all()


def test_runs_without_common_rows_are_refused(models, tmp_path):
    other = shutil.copytree(models / "one", tmp_path / "other")
    answers = runs.read_member_predictions(other / "member-0")
    rest = np.setdiff1d(np.arange(1437), answers.rows)[: len(answers.rows)]
    np.savez(other / "member-0" / "validation.npz", **answers._replace(rows=rest)._asdict())
    with pytest.raises(UserError, match="found none in one and other; compare runs with the same split_seed"):
        comparison.compare_runs(models / "one", other)


def test_runs_on_other_data_are_refused(models, tmp_path):
    other = shutil.copytree(models / "one", tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["data"]["train.csv"] = "0" * 64
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"expected two runs on one train.csv, found one and other"):
        comparison.compare_runs(models / "one", other)

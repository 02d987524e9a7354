"""Comparison of two runs, and the command `compare`."""

import json
import re
import shutil

import made
import numpy as np
import pages
import pytest
from typer.testing import CliRunner

from digit_recognizer import cli
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import comparison, metrics
from digit_recognizer.training import runs


@pytest.fixture(scope="module")
def models(demo_dir, tmp_path_factory):
    """The folder of two runs with the same split and one with three folds."""
    folder = tmp_path_factory.mktemp("models")
    made.write_run(folder / "one", demo_dir, mistakes=20)
    made.write_run(folder / "two", demo_dir, mistakes=8, seed=1, dropout=0.25, plain_epochs=1, channels=(4, 16))
    made.write_run(folder / "folds", demo_dir, folds=3)
    return folder


@pytest.fixture(scope="module")
def reports(models, demo_dir, tmp_path_factory):
    """Run the command with and without --json; return both outputs and the folder of the documents."""
    folder = tmp_path_factory.mktemp("reports")
    options = ["--models-dir", models, "--data-dir", demo_dir, "--reports-dir", folder]
    outputs = []
    for arguments in (["one", "two"], ["one", "two", "--json"]):
        result = CliRunner().invoke(cli.app, ["compare", *arguments, *map(str, options)])
        assert result.exit_code == 0, result.output
        outputs.append(result.stdout)
    return *outputs, folder / "compare-one-two"


@pytest.fixture
def other(models, tmp_path):
    """A copy of the first run, under another name."""
    return shutil.copytree(models / "one", tmp_path / "other")


def test_json_has_settings_accuracies_and_changed_images(models, reports):
    _, output, folder = reports
    result = json.loads(output)
    one, two = (runs.read_predictions(models / name) for name in ("one", "two"))
    wrong = [set(run.rows[run.probabilities.argmax(axis=1) != run.labels].tolist()) for run in (one, two)]
    assert {name: set(result.pop(name)) for name in ("fixed", "broken")} == {
        "fixed": wrong[0] - wrong[1],
        "broken": wrong[1] - wrong[0],
    }
    assert result == {
        "runs": ["one", "two"],
        "settings": {"seed": [0, 1], "channels": [[4, 8], [4, 16]], "dropout": [0.0, 0.25], "plain_epochs": [0, 1]},
        "rows": 288,
        "accuracy": [metrics.proportion(correct, 288)._asdict() for correct in (268, 280)],
        "both_right": 288 - len(wrong[0] | wrong[1]),
        "both_wrong": len(wrong[0] & wrong[1]),
        "p_value": metrics.paired_test(one.labels, one.probabilities, two.probabilities).p_value,
        "reports": [str(folder / name) for name in ("report.html", "report.md")],
    }


def test_table_document_and_json_agree(reports):
    output, as_json, folder = reports
    result = json.loads(as_json)
    text = (folder / "report.md").read_text()
    assert "| one | 93.06% |" in text
    assert f"two fixes {len(result['fixed'])} and breaks {len(result['broken'])}" in text
    assert f"p = {result['p_value']:.2g}" in text
    assert "**The accuracy of two is 4.17 points higher.**" in text
    assert "| dropout | 0.0 | 0.25 |" in text
    assert "| plain epochs | 0 | 1 |" in text
    assert "4, 8   4, 16" in output
    for name, only_correct in (("one", result["broken"]), ("two", result["fixed"])):
        assert re.search(rf"^ +{name} .* {len(only_correct)} *$", output, re.MULTILINE)
    assert {"93.06%", "97.22%", "dropout", "0.25", f"{result['p_value']:.2g}"} <= set(output.split())
    page = pages.read((folder / "report.html").read_text())
    assert len(page.named("img")) == 4
    assert {path.stem for path in folder.glob("*.png")} == {"accuracy", "broken", "fixed", "loss"}


def test_a_run_has_no_difference_from_itself(models, demo_dir):
    same = comparison.compare_runs(models / "one", models / "one")
    document = comparison.make_comparison(same, models, demo_dir, lambda *_: None)
    assert "**The accuracy of one is the same.**" in document.markdown
    assert "All settings, package versions and machines are the same." in document.markdown
    assert "not significant" in document.markdown
    assert document.markdown.count("0 images predicted incorrectly only by one.") == 2
    assert document.figures.keys() == {"accuracy", "loss"}


def test_folds_and_a_hold_out_are_compared_on_the_rows_of_the_hold_out(models):
    result = comparison.compare_runs(models / "folds", models / "one")
    held_out, every = runs.read_predictions(models / "one"), runs.read_predictions(models / "folds")
    assert [run.rows.tolist() for run in result.predictions] == [held_out.rows.tolist()] * 2
    assert (result.predictions[0].labels == result.predictions[1].labels).all()
    assert (result.predictions[0].probabilities == every.probabilities[held_out.rows]).all()


def test_a_setting_that_an_older_run_lacks_is_not_recorded(models, demo_dir, other):
    record = json.loads((other / "run.json").read_text())
    del record["config"]["seed"]
    (other / "run.json").write_text(json.dumps(record))
    shutil.copytree(models / "one", other.parent / "one")
    result = comparison.compare_runs(other, other.parent / "one")
    assert result.settings == [("seed", None, 0)]
    document = comparison.make_comparison(result, other.parent, demo_dir, lambda *_: None)
    assert "| seed | not recorded | 0 |" in document.markdown


def test_runs_without_common_rows_are_refused(models, other):
    predictions = runs.read_member_predictions(other / "member-0")
    rest = np.setdiff1d(np.arange(1437), predictions.rows)[: len(predictions.rows)]
    np.savez(other / "member-0" / "validation.npz", **predictions._replace(rows=rest)._asdict())
    with pytest.raises(UserError, match="no common row for one and other; compare runs with the same split_seed"):
        comparison.compare_runs(models / "one", other)


def test_runs_trained_on_different_files_are_refused(models, other):
    record = json.loads((other / "run.json").read_text())
    record["data"]["train.csv"] = "0" * 64
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"the same train.csv, found different files for one and other"):
        comparison.compare_runs(models / "one", other)

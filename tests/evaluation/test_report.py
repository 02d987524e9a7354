"""The report of a run: eight parts, every figure out of the run's files."""

import csv
import json
import re
import shutil
import time
from pathlib import Path

import cv2
import made
import numpy as np
import pages
import pytest
from typer.testing import CliRunner

from digit_recognizer import cli, files
from digit_recognizer.competition import record as submission_record
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import documents, metrics, report
from digit_recognizer.handwriting import reader, sample_digits
from digit_recognizer.handwriting.detector import load_spotter
from digit_recognizer.handwriting.normalisation import make_image
from digit_recognizer.training import runs

BOX = (213, 94, 0)  # RGB
PARTS = [
    "1 Introduction",
    "2 Technologies, time and memory",
    "3 Data set and preprocessing",
    "4 Architecture",
    "5 Training",
    "6 Validation performance",
    "7 Own handwriting",
    "8 Conclusion",
]


@pytest.fixture(scope="module")
def single(demo_dir, tmp_path_factory):
    return made.write_run(tmp_path_factory.mktemp("models") / "single", demo_dir, augment=True)


@pytest.fixture(scope="module")
def folds(demo_dir, tmp_path_factory):
    return made.write_run(tmp_path_factory.mktemp("models") / "folds", demo_dir, folds=3)


@pytest.fixture(scope="module")
def compose(demo_dir):
    """Composes the report of a run, without a ledger or with that of a folder."""

    def run(run_dir, submissions_dir=Path("nowhere")):
        return report.make_report(run_dir, demo_dir, submissions_dir, lambda *_: None)

    return run


@pytest.fixture(scope="module")
def document(single, compose):
    return compose(single)


@pytest.fixture(scope="module")
def changed(single, compose, tmp_path_factory):
    """The report of the single run with other answers, another history and record, and a ledger."""
    models = tmp_path_factory.mktemp("changed")
    copy = shutil.copytree(single, models / "single")
    write_answers(copy / "member-0", one_more_mistake)
    history = copy / "member-0" / "history.csv"
    history.write_text(history.read_text().replace("0.8125", "0.84375"))
    record = json.loads((copy / "run.json").read_text())
    record["versions"]["keras"] = "9.8.7"
    record["machine"] |= {"processor": "Abacus | 3000", "processors": 96, "threads": 48, "gpus": ["Etch-A-Sketch"]}
    record["config"]["dropout"] = 0.123
    record |= {"peak_memory_bytes": 7 * 2**30, "training_seconds": 3725.0, "git_commit": "c0ffee"}
    (copy / "run.json").write_text(json.dumps(record))
    line = {"submitted_at": "2026-01-02", "message": "-", "submission_sha256": "0", "predictions_sha256": "0"}
    scored = {"run": "single", "validation_accuracy": 0.993, "public_score": 0.9875, "submission_id": 1}
    pending = {"run": "other", "validation_accuracy": 0.995, "status": "pending", "submission_id": 2}
    on_all_rows = {"run": "all", "public_score": 0.9917, "submission_id": 3}
    with (models / submission_record.LEDGER_NAME).open("w", newline="") as file:
        writer = csv.DictWriter(file, submission_record.LEDGER_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(
            [line | scored, line | on_all_rows, line | pending, line | scored | {"run": "better", "public_score": 0.99}]
        )
    return copy, compose(copy, models)


@pytest.fixture(scope="module")
def built(document, folds, demo_dir, tmp_path_factory):
    """The folder of both runs' reports, one of them made by the command."""
    reports = tmp_path_factory.mktemp("reports")
    documents.write_document(document, reports / "single", lambda *_: None)
    options = ["--data-dir", demo_dir, "--models-dir", folds.parent, "--reports-dir", reports]
    answer = CliRunner().invoke(cli.app, ["report", *map(str, options)])  # of the latest run
    assert answer.exit_code == 0, answer.output
    folder = reports / "folds"
    assert answer.stdout == f"Wrote {folder / 'report.html'} and {folder / 'report.md'}\n"
    return reports


def parts(document):
    """The Markdown of each part by its title."""
    return {section.title: section.markdown for section in document.sections}


def cells(markdown, first):
    """The cells of the table's row that begins with a text."""
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", markdown, re.MULTILINE)
    return [cell.strip() for cell in line.split("|")]


def write_answers(folder, change):
    """Changes a member's probabilities on disk."""
    answers = runs.read_member_predictions(folder)
    probabilities = answers.probabilities.copy()
    change(probabilities, answers.labels)
    np.savez(folder / "validation.npz", rows=answers.rows, labels=answers.labels, probabilities=probabilities)


def one_more_mistake(probabilities, labels):
    row = np.flatnonzero((labels == 4) & (probabilities.argmax(axis=1) == 4))[0]
    probabilities[row] = np.eye(10)[7]


@pytest.mark.parametrize("run", ["single", "folds"])
def test_a_report_has_eight_parts_in_both_forms(built, run):
    markdown, page = ((built / run / name).read_text() for name in ("report.md", "report.html"))
    assert re.findall(r"^## (.+)$", markdown, re.MULTILINE) == PARTS
    assert re.findall(r"<h2>(.+)</h2>", page) == PARTS
    assert "{{" not in markdown
    assert "\n\n\n" not in markdown


@pytest.mark.parametrize("run", ["single", "folds"])
def test_the_page_needs_no_other_file_and_runs_nothing(built, run):
    page = pages.read((built / run / "report.html").read_text())
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "a":
            assert attributes["href"].startswith(("#", "https://doi.org/", "https://arxiv.org/"))
        else:
            for name in ("src", "href", "xlink:href", "srcset", "data"):
                assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"@import|url\((?!#)", (built / run / "report.html").read_text())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.named("a") if link["href"].startswith("#")} <= set(ids)


@pytest.mark.parametrize("run", ["single", "folds"])
def test_every_picture_has_an_alternative_text_and_a_file(built, run):
    markdown = (built / run / "report.md").read_text()
    shown = re.findall(r"!\[(.*)\]\(([^)]+)\)", markdown)
    assert all(len(alternative) > 15 for alternative, _ in shown)
    assert {name for _, name in shown} == {path.name for path in (built / run).glob("*.png")}
    assert len(shown) == markdown.count("![") == len({name for _, name in shown}) > 12
    page = pages.read((built / run / "report.html").read_text())
    drawn = [*(svg["aria-label"] for svg in page.named("svg")), *(image["alt"] for image in page.named("img"))]
    assert len(drawn) == len(shown)
    assert all(len(alternative) > 15 for alternative in drawn)


def test_the_same_run_gives_the_same_bytes(single, compose, built):
    assert documents.to_html(compose(single), built / "single") == (built / "single" / "report.html").read_text()


def test_the_headline_and_its_interval_are_those_of_the_answers(single, document):
    _, labels, probabilities = runs.read_predictions(single)
    accuracy = metrics.accuracy(labels, probabilities)
    assert accuracy.value == 1 - 20 / 288
    text = parts(document)["1 Introduction"]
    assert f"**{accuracy.value:.2%}**, 95% confidence interval {accuracy.low:.2%} to {accuracy.high:.2%}" in text
    assert "20 answers are wrong" in text
    assert "not the competition's data" in text


def test_changed_answers_change_headline_classes_confusions_and_calibration(document, changed):
    run_dir, after = changed
    assert "21 answers are wrong" in parts(after)["1 Introduction"]
    performance = parts(after)["6 Validation performance"]
    assert cells(performance, "4")[1] < cells(parts(document)["6 Validation performance"], "4")[1]
    assert "267 of 288 images are on the diagonal" in performance
    _, labels, probabilities = runs.read_predictions(run_dir)
    assert f"expected calibration error is {metrics.calibration(labels, probabilities).error:.2%}" in performance
    assert f"{len(metrics.label_issues(labels, probabilities))} labels look wrong" in performance


def test_a_run_without_mistakes_can_be_told_of(single, compose, tmp_path):
    def all_right(probabilities, labels):
        probabilities[:] = np.eye(10)[labels]

    copy = shutil.copytree(single, tmp_path / "single")
    write_answers(copy / "member-0", all_right)
    without = compose(copy)
    text = parts(without)["6 Validation performance"]
    assert "No digit was taken for another." in text
    assert not {"mistakes", "label_issues"} & without.pictures.keys()
    assert "No label looks wrong" in text


def test_a_changed_history_changes_table_and_curves(document, changed):
    _, after = changed
    assert cells(parts(document)["5 Training"], "3")[3] == "81.25%"
    assert cells(parts(after)["5 Training"], "3")[3] == "84.38%"
    assert "84.38%](accuracy.png)" in parts(after)["5 Training"]
    lines = [[line.get_ydata().tolist() for line in d.pictures["accuracy"].axes[0].lines] for d in (document, after)]
    assert lines[0] == [[0.5, 0.75, 0.875], [0.5, 0.625, 0.8125]]
    assert lines[1] == [[0.5, 0.75, 0.875], [0.5, 0.625, 0.84375]]
    assert "ends 3.12 points above validation" in parts(after)["8 Conclusion"]


def test_a_changed_record_changes_versions_machine_and_settings(changed):
    text = parts(changed[1])
    technologies = text["2 Technologies, time and memory"]
    assert cells(technologies, "keras") == ["9.8.7"]
    assert cells(technologies, "this kit, git commit") == ["c0ffee"]
    assert cells(technologies, "Peak memory, largest process") == ["7,168 MiB"]
    assert cells(technologies, "Training")[0] == "62 min 5 s for 1 network, 2.0 s an epoch"
    assert "Abacus \\| 3000" in technologies
    assert cells(technologies, "Processors, threads used") == ["96, 48"]
    assert cells(technologies, "GPU") == ["Etch-A-Sketch"]
    assert cells(text["5 Training"], "dropout") == ["0.123"]


def test_data_are_counted_and_hashed(document, demo_dir):
    train = load_train(demo_dir)
    text = parts(document)["3 Data set and preprocessing"]
    assert cells(text, "train.csv") == ["1,437", f"`{train.sha256}`"]
    assert cells(text, "test.csv") == ["360", f"`{files.sha256(demo_dir / 'test.csv')}`"]
    assert cells(text, "Images") == [str(count) for count in np.bincount(train.labels)]
    assert cells(text, "member-0") == ["1,149", "288"]


def test_the_ledger_is_shown_beside_validation(document, changed):
    assert "No submission has a public score yet" in parts(document)["8 Conclusion"]
    _, after = changed
    assert "public score on Kaggle is **98.75%**" in parts(after)["1 Introduction"]
    conclusion = parts(after)["8 Conclusion"]
    assert cells(conclusion, "single") == ["2026-01-02", "99.30%", "98.750%", "-0.55 points", ""]
    assert cells(conclusion, "other") == ["2026-01-02", "99.50%", "none", "", "pending"]
    assert "public scores of 2 submissions against" in conclusion
    assert after.pictures["ledger"].axes[0].collections[0].get_offsets().tolist() == [[0.993, 0.9875]]


def test_members_are_compared_with_their_ensemble(built):
    text = (built / "folds" / "report.md").read_text()
    assert "An ensemble of 3 small convolutional networks" in text
    assert "**Result.** Out-of-fold accuracy" in text
    assert "cover every row" in text
    assert text.count("| 958 | 479 |") == 3
    assert "on the 360 images of test.csv" in text
    shares = re.findall(r"^\| member-[012] \| ([0-9.]+)% \|$", text, re.MULTILINE)
    assert len(shares) == 3
    assert 0 < max(map(float, shares)) <= 100
    assert "votes for each digit and the ImageId](disagreement.png)" in text


def test_an_old_record_and_a_missing_member_are_told_of(folds, compose, tmp_path):
    run_dir = shutil.copytree(folds, tmp_path / "models" / "folds")
    record = json.loads((run_dir / "run.json").read_text())
    record["machine"] = {"system": "Linux", "processor": ""}
    del record["peak_memory_bytes"]
    (run_dir / "run.json").write_text(json.dumps(record | {"git_commit": None}))
    shutil.rmtree(run_dir / "member-1")
    text = parts(compose(run_dir))
    technologies = text["2 Technologies, time and memory"]
    assert [cells(technologies, name)[0] for name in ("Peak memory, largest process", "Processor", "GPU")] == [
        "not recorded"
    ] * 3
    assert cells(technologies, "Processors, threads used") == ["not recorded, not recorded"]
    assert cells(technologies, "this kit, git commit") == ["unknown"]
    assert "An ensemble of 2 small convolutional networks" in text["1 Introduction"]
    assert "no time for 1 of the 3" in text["1 Introduction"]
    assert "cover every row" not in text["1 Introduction"]


@pytest.mark.parametrize(("run", "augmented"), [("single", True), ("folds", False)])
def test_augmentation_is_shown_where_there_was_some(built, run, augmented):
    text = (built / run / "report.md").read_text()
    assert ("](augmentation.png)" in text) is augmented
    assert ("make train AUGMENT=1" in text) is not augmented


def test_without_handwriting_the_drawings_are_said_to_be_the_programs(document):
    text = parts(document)["7 Own handwriting"]
    assert "**this program has drawn itself**" in text
    assert "of 10 are read rightly" in text


def write_handwriting(folder, lines):
    """Writes what the program draws, as somebody's labelled pictures."""
    folder.mkdir()
    for digit, picture in enumerate(sample_digits.draw_digits()):
        cv2.imwrite(str(folder / f"{digit}.png"), picture[..., ::-1])
    (folder / "labels.csv").write_text("\n".join(["path,label", *lines]) + "\n")


def test_own_handwriting_is_counted_and_shown(tmp_path):
    write_handwriting(tmp_path / "handwriting", ["3.png,3", "7.png,7", "4.png,8"])
    patterns = np.stack(
        [make_image(1 - picture[..., 0].astype(np.float32) / 255).ravel() for picture in sample_digits.draw_digits()]
    ).astype(float)

    def nearest(images):
        distances = ((images.reshape(-1, 1, 784) - patterns) ** 2).sum(axis=2)
        return np.eye(10)[distances.argmin(axis=1)] * 0.8 + 0.02

    facts, drawn = report._handwriting_facts(
        tmp_path / "handwriting", lambda pictures: reader.read_pictures(pictures, nearest, load_spotter())
    )
    assert facts["handwriting"] == {
        "own": True,
        "count": 3,
        "right": 2,
        "shown": 3,
        "wrong": [("4.png", "8", "4", pytest.approx(0.9, abs=0.08))],
    }
    (axes,) = drawn["handwriting"].axes
    said, shares = zip(*(text.get_text().split("\n") for text in axes.texts), strict=True)
    assert said == ("8 read as 4", "3 read as 3", "7 read as 7")
    assert shares[0] == f"{facts['handwriting']['wrong'][0][3]:.0%}"
    assert len(axes.images) == 3
    for image in axes.images:
        assert (image.get_array() == BOX).all(axis=2).sum() > 50


def test_own_handwriting_takes_the_place_of_the_drawings(single, demo_dir, tmp_path):
    data_dir = shutil.copytree(demo_dir, tmp_path / "data")
    write_handwriting(data_dir / "handwriting", ["3.png,3"])
    text = parts(report.make_report(single, data_dir, tmp_path, lambda *_: None))["7 Own handwriting"]
    assert "The picture that labels.csv names" in text
    assert "of 1 are read" in text
    assert "drawn itself" not in text


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_other_data_are_refused(single, demo_dir, tmp_path, name):
    other = shutil.copytree(demo_dir, tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    lines = (other / name).read_bytes().splitlines(keepends=True)
    (other / name).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(UserError, match=f"expected the {name} of the run single, found another in"):
        report.make_report(single, other, tmp_path, lambda *_: None)


@pytest.mark.slow
def test_a_run_of_many_folds_is_reported_in_time_and_size(demo_dir, tmp_path):
    run_dir = made.write_run(tmp_path / "models" / "many", demo_dir, folds=10, channels=(32, 64, 128), augment=True)
    options = ["--data-dir", demo_dir, "--models-dir", run_dir.parent, "--reports-dir", tmp_path / "reports"]
    started = time.process_time()
    assert CliRunner().invoke(cli.app, ["report", *map(str, options)]).exit_code == 0
    assert time.process_time() - started < 60
    assert (tmp_path / "reports" / "many" / "report.html").stat().st_size < 10_000_000
    assert sum(path.stat().st_size for path in (tmp_path / "reports" / "many").glob("*.*")) < 10_000_000

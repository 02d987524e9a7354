"""The report: eight parts, with values from the files of a run and from the arguments."""

import json
import re
import shutil

import made
import numpy as np
import pages
import pytest

from digit_recognizer.data.csv_files import Dataset, load_test, load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import documents, metrics, report
from digit_recognizer.evaluation.report import Handwriting, HandwritingSample
from digit_recognizer.model.summary import Layer
from digit_recognizer.training import runs

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
LAYERS = [
    Layer("input", "InputLayer", (), (28, 28, 1), 0, 0),
    Layer("conv", "Conv2D 3x3", ("input",), (28, 28, 1), 10, 7056),
    Layer("add", "Add", ("conv", "input"), (28, 28, 1), 0, 0),
    Layer("dense", "Dense", ("add",), (10,), 7850, 7840),
]
HOSTILE = "<b>x</b> | *y*"
LEDGER = [
    {
        "run": "single",
        "submitted_at": "2026-01-02",
        "validation_accuracy": "0.993",
        "public_score": "0.9875",
        "status": "",
    },
    {"run": "all", "submitted_at": "2026-01-03", "validation_accuracy": "", "public_score": "0.9917", "status": ""},
    {
        "run": HOSTILE,
        "submitted_at": "2026-01-04",
        "validation_accuracy": "0.995",
        "public_score": "",
        "status": "pending",
    },
]
PICTURE = np.full((30, 20, 3), (213, 94, 0), np.uint8)
DRAWN = Handwriting(own=False, samples=[HandwritingSample("a drawn 3", "3", "3", 0.98, PICTURE)])
OWN = Handwriting(
    own=True,
    samples=[
        HandwritingSample("a.png", "3", "3", 0.98, PICTURE),
        HandwritingSample(f"{HOSTILE}.png", "8", "4", 0.61, PICTURE),
        HandwritingSample("c.png", "7", "", 0.0, PICTURE),
    ],
)


@pytest.fixture(scope="module")
def data(demo_dir):
    return load_train(demo_dir), load_test(demo_dir)


@pytest.fixture(scope="module")
def compose(data):
    """Compose the report of a run; keyword arguments replace those of `make_report`."""

    def run(run_dir, **changes):
        members = len(runs.member_dirs(run_dir))
        random = np.random.default_rng(0)
        digits = np.arange(len(data[1].images)) % 10
        probabilities = [
            made.make_probabilities((digits + (random.random(360) < 0.1)) % 10, random) for _ in range(members)
        ]
        arguments = {
            "layers": [LAYERS],
            "test_probabilities": np.array(probabilities),
            "handwriting": DRAWN,
            "ledger": [],
        }
        return report.make_report(run_dir, *data, step=lambda *_: None, **arguments | changes)

    return run


@pytest.fixture(scope="module")
def single(demo_dir, tmp_path_factory):
    return made.write_run(tmp_path_factory.mktemp("models") / "single", demo_dir, augment=True)


@pytest.fixture(scope="module")
def folds(demo_dir, tmp_path_factory):
    return made.write_run(tmp_path_factory.mktemp("models") / "folds", demo_dir, folds=3)


@pytest.fixture(scope="module")
def document(single, compose):
    """The report of a run with one network, without own handwriting and submissions."""
    return compose(single)


@pytest.fixture(scope="module")
def ensemble(folds, compose):
    """The report of a run with three folds, own handwriting, submissions and hostile names in its record."""
    record = json.loads((folds / "run.json").read_text())
    record["versions"]["keras"] = HOSTILE
    record["machine"] |= {"processor": HOSTILE, "processors": 96, "threads": 48, "gpus": [HOSTILE, "T4"]}
    record |= {"training_seconds": 3725.0, "git_commit": "c0ffee", "competition": "digit-recognizer", "run": HOSTILE}
    (folds / "run.json").write_text(json.dumps(record))
    return compose(
        folds,
        handwriting=OWN,
        ledger=[LEDGER[0] | {"run": HOSTILE, "public_score": "0.98"}, *LEDGER],
        layers=[LAYERS, LAYERS[:2]],
    )


@pytest.fixture(scope="module")
def files(document, ensemble, tmp_path_factory):
    """The folders of both written reports."""
    folder = tmp_path_factory.mktemp("reports")
    for name, written in (("single", document), ("folds", ensemble)):
        documents.write_document(written, folder / name, lambda *_: None)
    return {name: folder / name for name in ("single", "folds")}


def split_parts(document):
    """Return the Markdown of each part by its title."""
    titles, texts = (re.split(r"^## (.+)\n", document.markdown, flags=re.MULTILINE)[start::2] for start in (1, 2))
    return dict(zip(titles, texts, strict=True))


def find_cells(markdown, first):
    """Return the cells of the table row with a text in its first cell."""
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", markdown, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]


@pytest.mark.parametrize("run", ["single", "folds"])
def test_both_forms_have_eight_parts(files, run):
    markdown, html = ((files[run] / name).read_text() for name in ("report.md", "report.html"))
    assert re.findall(r"^## (.+)$", markdown, re.MULTILINE) == PARTS
    assert re.findall(r"<h2 .*>(.+)</h2>", html) == PARTS
    assert not re.search(r"\{\{|\{%|\n\n\n", markdown)


@pytest.mark.parametrize("run", ["single", "folds"])
def test_the_page_is_self_contained_and_has_no_scripts(files, run):
    html = (files[run] / "report.html").read_text()
    page = pages.read(html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "a":
            assert attributes["href"].startswith(("#", "https://doi.org/", "https://arxiv.org/"))
        else:
            assert not {"href", "srcset", "data"} & attributes.keys()
            assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not re.search(r"@import|url\(", html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) == 8
    assert {link["href"][1:] for link in page.named("a") if link["href"].startswith("#")} == set(ids)


@pytest.mark.parametrize("run", ["single", "folds"])
def test_every_picture_has_a_file_and_an_alternative_text(files, run):
    shown = re.findall(r"^!\[(.*)\]\((.+)\)$", (files[run] / "report.md").read_text(), re.MULTILINE)
    assert len({name for _, name in shown}) == len(shown) == 9
    assert {name for _, name in shown} == {path.name for path in files[run].glob("*.png")}
    images = pages.read((files[run] / "report.html").read_text()).named("img")
    assert len(images) == 9
    assert all(len(image["alt"]) > 25 for image in images)


def test_the_same_run_gives_the_same_page(single, compose, files, tmp_path):
    documents.write_document(compose(single), tmp_path, lambda *_: None)
    assert (tmp_path / "report.html").read_bytes() == (files["single"] / "report.html").read_bytes()


def test_hostile_names_are_text(files):
    page = pages.read((files["folds"] / "report.html").read_text())
    assert not page.named("b") + page.named("em")
    assert page.text.count(HOSTILE) == 8  # title twice, version, processor, GPU, ledger twice, handwriting


def test_the_result_is_that_of_the_predictions(single, document, folds, ensemble):
    accuracy = metrics.accuracy(*runs.read_predictions(single)[1:])
    assert accuracy.value == 1 - 20 / 288
    text = split_parts(document)["1 Introduction"]
    interval = f"95% confidence interval {accuracy.low:.2%} to {accuracy.high:.2%}, Wilson"
    assert f"Hold-out accuracy **{accuracy.value:.2%}** ({interval}) on 288 images, with 20 wrong predictions." in text
    assert "not the competition data" in text
    text = split_parts(ensemble)["1 Introduction"]
    assert "An ensemble of 3 small convolutional networks with 7,860 or 10 parameters each" in text
    assert "Out-of-fold accuracy **95.82%**" in text
    assert "The validation sets together cover every row of train.csv." in text
    assert "not the competition data" not in text


def test_members_left_out_and_uncovered_rows_are_mentioned(folds, compose, demo_dir, tmp_path):
    for name, members in (("some", 1), ("one", 2)):
        run_dir = shutil.copytree(folds, tmp_path / name)
        record = json.loads((run_dir / "run.json").read_text())
        record["config"]["members"] = members
        (run_dir / "run.json").write_text(json.dumps(record))
    shutil.rmtree(tmp_path / "some" / "member-1")
    text = split_parts(compose(tmp_path / "some"))["1 Introduction"]
    assert "1 of the 3 planned networks was not trained for lack of time." in text
    assert "cover only 67% of the rows" in text
    text = split_parts(compose(tmp_path / "one"))["1 Introduction"]
    assert "3 of the 6 planned networks were not trained for lack of time." in text
    assert "together cover every row" in text


def test_technologies_and_settings_are_those_of_the_record(document, ensemble):
    text = split_parts(ensemble)["2 Technologies, time and memory"]
    assert find_cells(text, "this kit (git commit)") == ["c0ffee"]
    assert find_cells(text, "Peak memory, largest process") == ["1,024 MiB"]
    assert find_cells(text, "Training time") == ["62 min 5 s for 3 networks, 2.0 s per epoch"]
    assert find_cells(text, "CPU cores, threads used") == ["96, 48"]
    assert find_cells(text, "GPU")[0].endswith("y\\*, T4")
    text = split_parts(document)["5 Training"]
    assert find_cells(text, "channels") == ["4, 8"]
    assert find_cells(text, "augment") == ["yes"]


def test_values_missing_in_an_older_record_are_not_recorded(single, compose, tmp_path):
    run_dir = shutil.copytree(single, tmp_path / "old")
    record = json.loads((run_dir / "run.json").read_text())
    record["machine"] = {"system": "Linux", "processor": ""}
    del record["peak_memory_bytes"]
    (run_dir / "run.json").write_text(json.dumps(record | {"git_commit": None}))
    text = split_parts(compose(run_dir))["2 Technologies, time and memory"]
    for name in ("Peak memory, largest process", "CPU", "GPU"):
        assert find_cells(text, name) == ["not recorded"]
    assert find_cells(text, "CPU cores, threads used") == ["not recorded, not recorded"]
    assert find_cells(text, "this kit (git commit)") == ["unknown"]


def test_data_are_counted_and_hashed(document, data):
    train, test = data
    text = split_parts(document)["3 Data set and preprocessing"]
    assert find_cells(text, "train.csv") == ["1,437", f"`{train.sha256}`"]
    assert find_cells(text, "test.csv") == ["360", f"`{test.sha256}`"]
    count = (train.labels == 3).sum()
    assert find_cells(text, "3") == [str(count), f"{count / 1437:.1%}"]


def test_duplicate_and_blank_images_are_counted():
    images = np.zeros((4, 28, 28), np.uint8)
    images[1:3, 5, 5], images[3, 5, 5] = 1, 2
    train = Dataset(images, np.array([0, 0, 1, 1], np.uint8), "")
    counts = report.count_images(train, Dataset(images[[0, 1, 1]], None, ""))
    assert counts == {"digits": {0: 2, 1: 2}, "duplicates": 1, "common": 3, "blank": 2}


def test_layers_are_listed_for_each_kind_of_network(document, ensemble):
    text = split_parts(document)["4 Architecture"]
    assert find_cells(text, "add") == ["Add", "conv, input", "28 x 28 x 1", "0", "0"]
    assert find_cells(text, "**Total**")[-2:] == ["**7,860**", "**14,896**"]
    assert split_parts(ensemble)["4 Architecture"].count("| **Total** |") == 2


def test_training_shows_history_and_curves(document, ensemble):
    text = split_parts(document)["5 Training"]
    assert find_cells(text, "3") == ["0.2500", "87.50%", "0.5000", "81.25%", "0", "1.0"]
    assert "in the end 87.50% and 81.25%](accuracy.png)" in text
    lines = [line.get_ydata().tolist() for line in document.figures["accuracy"].axes[0].lines]
    assert lines == [made.HISTORY["accuracy"], made.HISTORY["val_accuracy"]]
    assert "ends 6.25 points above validation" in split_parts(document)["8 Conclusion"]
    assert find_cells(text, "member-0") == ["1,149", "288", "0.2500", "87.50%", "0.5000", "81.25%", "6"]
    assert find_cells(split_parts(ensemble)["5 Training"], "member-2")[:2] == ["958", "479"]


def test_augmentation_is_shown_if_it_was_used(document, ensemble):
    assert "augmentation" in document.figures
    assert "augmentation" not in ensemble.figures
    assert "make train AUGMENT=1" in split_parts(ensemble)["8 Conclusion"]
    assert "make train AUGMENT=1" not in split_parts(document)["8 Conclusion"]


def test_performance_is_that_of_the_predictions(single, document):
    _, labels, probabilities = runs.read_predictions(single)
    text = split_parts(document)["6 Validation performance"]
    assert "268 of 288 images are on the diagonal" in text
    score = metrics.class_scores(labels, probabilities)[4]
    assert find_cells(text, "4") == [
        *(f"{score[name]:.2%}" for name in ("precision", "recall", "f1")),
        str(score["support"]),
    ]
    first = metrics.confusions(labels, probabilities)[0]
    assert f"Most frequent: {first['label']} predicted as {first['predicted']} ({first['count']})" in text
    assert f"expected calibration error is {metrics.calibration(labels, probabilities).error:.2%}" in text
    hardest = min(metrics.class_scores(labels, probabilities), key=lambda row: row["recall"])
    assert f"Digit {hardest['digit']} is the hardest, with a recall of {hardest['recall']:.2%}." in document.markdown
    assert "20 wrong predictions.\n\nThe images with the lowest probability of the label come first. Each" in text
    assert f"finds {len(metrics.label_issues(labels, probabilities))} possible label errors" in text


def test_a_run_without_mistakes_has_no_galleries_of_them(demo_dir, compose, tmp_path):
    document = compose(made.write_run(tmp_path / "models" / "perfect", demo_dir, mistakes=0))
    text = split_parts(document)["6 Validation performance"]
    assert "There are no confusions." in text
    assert "\n\n0 wrong predictions.\n\n###" in text
    assert "finds 0 possible label errors: " in text
    assert not {"mistakes", "label_issues"} & document.figures.keys()


def test_members_are_compared_with_the_ensemble(document, ensemble):
    text = split_parts(ensemble)["6 Validation performance"]
    rates = [float(rate) for rate in re.findall(r"^\| member-[012] \| ([0-9.]+)% \|$", text, re.MULTILINE)]
    assert len(rates) == 3
    assert 0 < max(rates) < 30
    assert re.search(r"On \d+ of the 360 images of test.csv \(\d+\.\d+%\) the networks do not all", text)
    assert "votes for each digit and the ImageId](disagreement.png)" in text
    assert "only one network" in split_parts(document)["6 Validation performance"]
    assert "disagreement" not in document.figures


def test_handwriting_is_counted_and_shown_wrong_ones_first(document, ensemble):
    text = split_parts(ensemble)["7 Own handwriting"]
    assert "3 labelled pictures" in text
    assert "**Correct: 1 of 3 (33.33%).**" in text
    assert find_cells(text, "c.png") == ["7", "no digit found", ""]
    (axes,) = ensemble.figures["handwriting"].axes
    titles = [text.get_text() for text in axes.texts]
    assert titles == ["8 read as 4\n61%", "7 read as nothing\n0%", "3 read as 3\n98%"]
    assert all((image.get_array() == PICTURE).all() for image in axes.images)
    text = split_parts(document)["7 Own handwriting"]
    assert "**drawn by this program**" in text
    assert "Correct: 1 of 1." in text


def test_submissions_are_compared_with_validation(document, ensemble):
    assert "There are no submissions yet; demo runs are never submitted." in split_parts(document)["8 Conclusion"]
    text = split_parts(ensemble)["8 Conclusion"]
    assert find_cells(text, "single") == ["2026-01-02", "99.30%", "98.750%", "-0.55 points", ""]
    assert find_cells(text, "all") == ["2026-01-03", "none", "99.170%", "", ""]
    assert re.search(r"\| 2026-01-04 \| 99.50% \| none \|  \| pending \|", text)
    assert "Public score on Kaggle: **98.000%**" in split_parts(ensemble)["1 Introduction"]


def test_a_run_trained_on_all_rows_is_refused(single, compose, tmp_path):
    run_dir = shutil.copytree(single, tmp_path / "all")
    empty = runs.read_member_predictions(run_dir / "member-0")
    np.savez(run_dir / "member-0" / "validation.npz", **{name: values[:0] for name, values in empty._asdict().items()})
    with pytest.raises(UserError, match="all"):
        compose(run_dir)

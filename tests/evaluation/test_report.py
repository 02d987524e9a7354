"""Report of a run: values from its files and from the arguments, escaped in Markdown and on the page."""

import base64
import csv
import json
import re
import shutil

import made
import numpy as np
import pages
import pytest
from jinja2 import ChoiceLoader, DictLoader, PackageLoader
from markdown_it import MarkdownIt

from digit_recognizer.data.csv_files import load_test, load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import figures, metrics, report
from digit_recognizer.evaluation.report import HandwritingSample, load_run
from digit_recognizer.model.prediction import load_network
from digit_recognizer.training import run_folder
from digit_recognizer.training.environment import code_sha256

MARKUP = "a|b *c* _d_ `e` [f](javascript:g) <script>h</script> ![i](j.png) # k\n\n## l & $m$ \\"
HOSTILE = "<b>x</b> | *y*"
LEDGER = """run,submitted_at,validation_accuracy,public_score,status
<b>x</b> | *y*,2026-01-01,0.993,0.98,
single,2026-01-02,0.993,0.9875,
all,2026-01-03,,0.9917,
<b>x</b> | *y*,2026-01-04,0.995,,pending"""
PICTURE = np.full((30, 20, 3), (213, 94, 0), np.uint8)
DRAWN = [HandwritingSample("3.png", "3", "3", 0.98, PICTURE)]
OWN = [("a.png", "3", "3", 0.98), (f"{HOSTILE}.png", "8", "4", 0.61), ("c.png", "7", "", 0.0)]
RECORD = {
    "run": HOSTILE,
    "competition": "digit-recognizer",
    "versions": {"keras": HOSTILE},
    "machine": {"system": "Linux", "processor": HOSTILE, "processors": 96, "threads": 48, "gpus": [HOSTILE, "T4"]},
    "training_seconds": 3725.0,
    "git_commit": "c0ffee",
    "precision": "mixed_bfloat16",
}


@pytest.fixture(scope="module")
def compose(demo_dir):
    """Return the report of a run, and its figures; keyword arguments replace values of its record."""

    def run(run_dir, handwriting=DRAWN, ledger=(), **record):
        trained = load_run(run_dir, demo_dir)
        trained.record.update(record)
        return report.make_report(trained, load_test(demo_dir), handwriting, ledger)

    return run


@pytest.fixture(scope="module")
def single(demo_dir, tmp_path_factory):
    """A run with one network, trained on the demo with augmentation."""
    return made.write_run(tmp_path_factory.mktemp("models") / "single", demo_dir, networks=True, augment=True)


@pytest.fixture(scope="module")
def folds(demo_dir, tmp_path_factory):
    """A run with three folds and two architectures."""
    run_dir = tmp_path_factory.mktemp("models") / "folds"
    return made.write_run(run_dir, demo_dir, networks=True, folds=3, architectures=("residual", "plain"))


@pytest.fixture(scope="module")
def reports(single, folds, compose):
    """The reports of both runs; the second one has own handwriting, submissions and hostile names."""
    handwriting = [HandwritingSample(*sample, PICTURE) for sample in OWN]
    return {
        "single": compose(single),
        "folds": compose(folds, handwriting, list(csv.DictReader(LEDGER.splitlines())), **RECORD),
    }


@pytest.fixture(scope="module")
def files(reports, tmp_path_factory):
    """The folders of both written reports."""
    folder = tmp_path_factory.mktemp("reports")
    for name, (text, pictures) in reports.items():
        report.write_document(text, pictures, folder / name, lambda *_: None)
    return {name: folder / name for name in reports}


def split_parts(text):
    """Return the Markdown of each part by its number; 0 is the title."""
    return re.split(r"^## .+\n", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def find_part(reports):
    return lambda name, number: split_parts(reports[name][0])[number]


def find_cells(text, first):
    """Return the cells of the table row with a text in its first cell."""
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", text, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]


@pytest.mark.parametrize(("run", "pictures"), [("single", 8), ("folds", 7)])
def test_the_page_has_eight_parts_and_needs_no_other_file(files, run, pictures):
    markdown, html = ((files[run] / name).read_text() for name in ("report.md", "report.html"))
    assert "".join(re.findall(r"^## (.)", markdown, re.MULTILINE)) == "12345678"
    assert "".join(re.findall(r"<h2 .*>(.).+</h2>", html)) == "12345678"
    assert not re.search(r"\{\{|\{%|\n\n\n", markdown)
    page = pages.read(html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "a":
            assert attributes["href"].startswith(("#", "https://doi.org/", "https://arxiv.org/"))
        else:
            assert not {"href", "srcset", "data"} & attributes.keys()
            assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"@import|url\(", html)
    assert len(page.named("img")) == pictures
    assert all(len(image["alt"]) > 25 for image in page.named("img"))


def test_the_same_run_gives_the_same_page(single, compose, files, tmp_path):
    report.write_document(*compose(single), tmp_path, lambda *_: None)
    assert (tmp_path / "report.html").read_bytes() == (files["single"] / "report.html").read_bytes()


def test_hostile_names_are_text(files):
    page = pages.read((files["folds"] / "report.html").read_text())
    assert not page.named("b") + page.named("em")
    assert page.text.count(HOSTILE) == 8  # title twice, version, processor, GPU, ledger twice, handwriting


def test_one_accuracy_is_given_for_the_final_network(single, find_part):
    accuracy = metrics.accuracy(*run_folder.read_predictions(single)[1:])
    interval = f"95% confidence interval {accuracy.low:.2%} to {accuracy.high:.2%}"
    text = find_part("single", 1)
    assert f"Hold-out accuracy **93.06%** ({interval}, Wilson) on 288 images, with 20 wrong predictions." in text
    assert "not the competition data" in text
    assert find_cells(find_part("single", 5), "member-0") == ["1,149", "288", "93.06%", "6"]
    assert f"accuracy **93.06%** ({interval})" in find_part("single", 6)
    assert f"is 93.06% ({interval})" in find_part("single", 8)


def test_values_of_epochs_are_those_of_the_weights_during_training(reports, find_part):
    text = find_part("single", 5)
    assert find_cells(text, "3") == ["0.2500", "87.50%", "0.5000", "81.25%", "0", "1.0"]
    assert "those of the weights during training, which are not averaged" in text
    assert "validation values are on at most 1,000 images" in text
    assert reports["single"][0].count("81.25%") == 1  # never given as the accuracy of the run


def test_epochs_without_validation_have_empty_cells(single, compose, monkeypatch):
    history = {name: np.array(values) for name, values in made.HISTORY.items()}
    for name in ("val_accuracy", "val_loss"):
        history[name][:2] = np.nan
    monkeypatch.setattr(run_folder, "read_history", lambda _: history)
    text = split_parts(compose(single)[0])[5]
    assert find_cells(text, "2") == ["0.5000", "75.00%", "", "", "0.005", "2.0"]
    assert find_cells(text, "3")[2:4] == ["0.5000", "81.25%"]


def test_an_ensemble_is_described(find_part):
    text = find_part("folds", 1)
    assert re.search(r"An ensemble of 3 small convolutional networks with [\d,]+ or [\d,]+ parameters each", text)
    assert "Out-of-fold accuracy **95.82%**" in text
    assert "The validation sets together cover every row of train.csv." in text
    assert "not the competition data" not in text
    assert find_cells(find_part("folds", 5), "member-2")[:2] == ["958", "479"]


def test_technologies_are_those_of_the_record_and_the_precision_is_given_once(reports, find_part):
    text = find_part("folds", 2)
    assert find_cells(text, "this kit (git commit)") == ["`c0ffee`"]
    assert find_cells(text, "Peak memory, largest process") == ["1,024 MiB"]
    assert find_cells(text, "Training time") == ["62 min 5 s for 3 networks, 2.0 s per epoch"]
    assert find_cells(text, "CPU cores, threads used") == ["96, 48"]
    assert find_cells(text, "GPU")[0].endswith("y\\*, T4")
    assert find_cells(reports["folds"][0], "Precision") == [r"mixed\_bfloat16"]
    assert not re.search(r"^\| precision", find_part("folds", 5), re.MULTILINE)


def test_data_are_counted_and_hashed(find_part, demo_dir):
    train, text = load_train(demo_dir), find_part("single", 3)
    assert find_cells(text, "train.csv") == ["1,437", f"`{train.sha256}`"]
    count = (train.labels == 3).sum()
    assert find_cells(text, "3") == [str(count), f"{count / 1437:.1%}"]


def test_networks_have_their_parameters(folds, find_part):
    for number, name in enumerate(("residual", "plain")):
        parameters = load_network(folds / f"member-{number}" / "model.keras").count_params()
        assert find_cells(find_part("folds", 4), name)[1] == f"{parameters:,}"


def test_the_optimizer_and_the_averaged_weights_are_described(single, compose):
    text = compose(single, code=code_sha256())[0]
    assert re.search(r"\[Muon\].* for the kernels of all convolutions but the first, \[AdamW\].* for all other", text)
    assert "The final network has a moving average of the weights of the last steps." in text
    assert "another version of the code" not in text
    assert "another version of the code" in compose(single, code="0" * 64)[0]


def test_performance_is_that_of_the_predictions(single, find_part):
    _, labels, probabilities = run_folder.read_predictions(single)
    text = find_part("single", 6)
    assert "268 of 288 images are on the diagonal" in text
    scores = metrics.class_scores(labels, probabilities)
    precision, recall, f1, support = list(scores[4].values())[1:]
    assert find_cells(text, "4") == [f"{precision:.2%}", f"{recall:.2%}", f"{f1:.2%}", str(support)]
    first = metrics.confusions(labels, probabilities)[0]
    assert f"Most frequent: {first['label']} predicted as {first['predicted']} ({first['count']})" in text
    assert f"The mean probability of the predicted digit is {probabilities.max(axis=1).mean():.2%}" in text
    hardest = min(scores, key=lambda row: row["recall"])
    conclusion = find_part("single", 8)
    assert f"Digit {hardest['digit']} is the hardest, with a recall of {hardest['recall']:.2%}" in conclusion


def test_a_run_without_mistakes_has_no_galleries_of_them(demo_dir, compose, tmp_path):
    text = compose(made.write_run(tmp_path / "perfect", demo_dir, mistakes=0, networks=True))[0]
    assert "There are no confusions." in text
    assert "\n\n0 wrong predictions.\n\n##" in text
    assert "mistakes.png" not in text


def test_handwriting_is_counted_and_shown_wrong_ones_first(single, compose, reports, find_part):
    text = find_part("folds", 7)
    assert "**Correct: 1 of 3 (33.33%).**" in text
    assert find_cells(text, "c.png") == ["7", "no digit found", ""]
    (axes,) = reports["folds"][1]["handwriting"].axes
    titles = [text.get_text() for text in axes.texts]
    assert titles == ["8 read as 4\n61%", "7 read as nothing\n0%", "3 read as 3\n98%"]
    assert "**this program has drawn**" in find_part("single", 7)
    assert "has no labelled pictures" in split_parts(compose(single, [])[0])[7]


def test_submissions_are_compared_with_validation(find_part):
    assert "There are no submissions yet; demo runs are never submitted." in find_part("single", 8)
    text = find_part("folds", 8)
    assert find_cells(text, "single") == ["2026-01-02", "99.30%", "98.750%", "-0.55 points", ""]
    assert find_cells(text, "all") == ["2026-01-03", "none", "99.170%", "", ""]
    assert re.search(r"\| 2026-01-04 \| 99.50% \| none \|  \| pending \|", text)
    assert "Public score on Kaggle: **98.000%**" in find_part("folds", 1)


@pytest.mark.parametrize(("preset", "steps"), [("fast", ["PRESET=single`."]), ("max", [])])
def test_the_next_step_is_the_next_larger_preset_or_after_the_demo_the_competition(
    folds, compose, find_part, preset, steps
):
    config = json.loads((folds / "run.json").read_text())["config"] | {"preset": preset}
    text = compose(folds, config=config, competition="digit-recognizer")[0]
    assert re.findall(r"`make train (.+)", text) == steps
    assert re.findall("`make (.+)`", find_part("single", 8)) == ["compare", "download train"]


def test_a_run_trained_on_all_rows_is_refused(single, demo_dir, tmp_path):
    run_dir = shutil.copytree(single, tmp_path / "all")
    empty = run_folder.read_member_predictions(run_dir / "member-0")
    np.savez(run_dir / "member-0" / "validation.npz", **{name: values[:0] for name, values in empty._asdict().items()})
    with pytest.raises(UserError, match=r"all was trained on all rows; .*FOLDS=5"):
        load_run(run_dir, demo_dir)


@pytest.mark.parametrize("change", [{"labels": 0}, {"rows": 1_436}, {"rows": -1_437}])
def test_predictions_of_another_run_are_an_error(single, demo_dir, monkeypatch, change):
    predictions = run_folder.read_predictions(single)
    others = {name: getattr(predictions, name) + 1 + value for name, value in change.items()}
    monkeypatch.setattr(run_folder, "read_predictions", lambda _: predictions._replace(**others))
    with pytest.raises(UserError, match="single has predictions of another run"):
        load_run(single, demo_dir)


@pytest.fixture
def render(monkeypatch):
    """Fill in the text of a template."""

    def run(text, **facts):
        loader = ChoiceLoader([DictLoader({"t.md": text}), PackageLoader("digit_recognizer.evaluation")])
        monkeypatch.setattr(report, "TEMPLATES", report.TEMPLATES.overlay(loader=loader))
        return report.render("t.md", facts)

    return run


def write(text, folder, pictures=()):
    steps = []
    html, markdown = report.write_document(text, dict(pictures), folder, lambda *step: steps.append(step))
    return html.read_text(), markdown.read_text(), steps


def test_values_are_never_markup(render, tmp_path):
    text = "# {{ x }}\n\n## S\n\n| {{ x }} | a |\n|---|---|\n| {{ x }} | b |\n\n{{ x }}\n"
    html, markdown, _ = write(render(text, x=MARKUP), tmp_path)
    page = pages.read(html)
    assert not page.named("script") + page.named("img") + page.named("em")
    assert len(page.named("a")) == len(page.named("h1")) == len(page.named("h2")) == 1
    assert [len(page.named(tag)) for tag in ("th", "td")] == [2, 2]
    assert page.text.count(" ".join(MARKUP.split())) == 5  # <title> is one of them
    rendered = MarkdownIt("commonmark").enable("table").render(markdown)
    assert not re.search("<script|<img|<em|javascript:", rendered.replace("(javascript:g)", ""))


def test_html_in_a_document_is_text(tmp_path):
    page = pages.read(write("# T\n\n## S\n\n<script>x</script> <b>y</b>\n", tmp_path)[0])
    assert not page.named("script") + page.named("b")
    assert "<script>x</script> <b>y</b>" in page.text


def test_pictures_are_beside_the_markdown_and_inside_the_page(render, tmp_path):
    text = render("# T\n\n## S\n\n![A {{ a }}](one.png)\n![B](two.png)\n", a='"x" <b>]')
    picture = figures.draw_gallery([np.zeros((28, 28), np.uint8)], ["title"])
    html, markdown, steps = write(text, tmp_path, dict.fromkeys(("one", "two", "unused"), picture))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "report.html", "report.md", "two.png"]
    assert re.findall(r"!\[(.+)\]\((.+)\)", markdown) == [(r'A "x" \<b\>\]', "one.png"), ("B", "two.png")]
    images = pages.read(html).named("img")
    assert [image["alt"] for image in images] == ['A "x" <b>]', "B"]
    data = base64.b64encode((tmp_path / "one.png").read_bytes()).decode()
    assert images[0]["src"] == f"data:image/png;base64,{data}"
    assert [done for _, done in steps] == sorted(done for _, done in steps)


def test_the_contents_link_to_the_parts(tmp_path):
    html, markdown, _ = write("# T\n\n## 1 A, b\n\nx\n\n## 2 C\n\ny\n", tmp_path)
    assert markdown == "# T\n\n- [1 A, b](#1-a-b)\n- [2 C](#2-c)\n\n## 1 A, b\n\nx\n\n## 2 C\n\ny\n"
    page = pages.read(html)
    assert [link["href"] for link in page.named("a")] == ["#1-a-b", "#2-c"]
    assert [heading["id"] for heading in page.named("h2")] == ["1-a-b", "2-c"]


def test_a_failure_leaves_the_earlier_document(tmp_path):
    earlier = write("# Old\n\n## S\n\nx\n", tmp_path)[:2]
    with pytest.raises(AttributeError):
        write("# New\n\n## S\n\n![A](none.png)\n", tmp_path, {"none": None})
    assert tuple((tmp_path / name).read_text() for name in ("report.html", "report.md")) == earlier

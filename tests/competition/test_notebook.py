"""The notebook: built the same each time, up to date, complete, and the same program as the command line."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from digit_recognizer.competition import kernel, notebook
from digit_recognizer.data import csv_files
from digit_recognizer.errors import UserError
from digit_recognizer.training import runs

ROOT = Path(__file__).parents[2]
EXECUTE = ROOT / "tests" / "execute_notebook.py"
LAYOUTS = ("input/digit-recognizer", "input/competitions/digit-recognizer", "input/a-copy/of-it")
SETTINGS = {"preset": "fast", "folds": 2, "epochs": 1, "seed": 3, "augment": True}
FLAGS = ("--preset", "fast", "--folds", "2", "--epochs", "1", "--seed", "3", "--augment")


@pytest.fixture(scope="module")
def tracked():
    return nbformat.read(ROOT / kernel.NOTEBOOK, as_version=4)


def sources(cells):
    return [cell.source for cell in cells]


def test_the_tracked_notebook_is_up_to_date():
    built = notebook.build(notebook.read_result(ROOT / kernel.README))
    assert (ROOT / kernel.NOTEBOOK).read_text() == built, "run `make kernel`"
    assert notebook.build(notebook.read_result(ROOT / kernel.README)) == built


def test_another_process_builds_the_same_bytes(tmp_path):
    program = "from digit_recognizer import notebook; print(notebook.build('| a |'), end='')"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_kaggle_gets_what_it_wants(tracked):
    nbformat.validate(tracked)
    assert tracked.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in tracked.cells if cell.cell_type == "code")
    ids = [cell.id for cell in tracked.cells]
    assert len(ids) == len(set(ids))
    metadata = json.loads((ROOT / kernel.METADATA).read_text())
    assert metadata["code_file"] == str(kernel.NOTEBOOK)
    assert (metadata["is_private"], metadata["enable_gpu"], metadata["enable_internet"]) == (True, True, False)
    assert metadata["competition_sources"] == ["digit-recognizer"]
    assert metadata["id"].startswith("INSERT_")


def test_the_story_has_its_parts_in_order(tracked):
    text = "\n".join(sources(cell for cell in tracked.cells if cell.cell_type == "markdown"))
    headings = re.findall(r"^##? (?:\d )?(.*)", text, re.MULTILINE)
    assert headings[1:] == [
        *("Result", "Introduction", "Technologies", "Data set and preprocessing", "Architecture", "Training"),
        *("Validation performance", "Own images", "Conclusion"),
    ]
    assert "@" not in text.replace("@FAST", "").replace("@SINGLE", "").replace("TIME@", "")


def test_each_module_that_the_pipeline_imports_is_written_and_no_other(tracked):
    written = {
        re.match(r"%%writefile \{PACKAGE\}/(\S+)\n", cell.source)[1]: cell.source.partition("\n")[2] + "\n"
        for cell in tracked.cells
        if cell.source.startswith("%%writefile")
    }
    others = {name: written.pop(name) for name in list(written) if not name.endswith(".py")}
    assert others.keys() == {"templates/report.md.jinja", "templates/handwriting.md.jinja", "spotter.weights"}
    for name, text in others.items():
        assert text == (notebook.PACKAGE / name).read_text()
    written = {name.removesuffix(".py"): text for name, text in written.items()}
    assert {Path(name).stem for name in runs.SOURCES} | {"__init__", "pipeline", "session"} <= written.keys()
    needless = {"archive", "cli", "client", "competition", "page", "kernel", "notebook", "benchmark", "rivals"}
    assert not needless & written.keys()
    for name, text in written.items():
        assert text == (notebook.PACKAGE / f"{name}.py").read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "digit_recognizer":
                assert {alias.name for alias in node.names} <= written.keys()
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("digit_recognizer."):
                assert node.module.removeprefix("digit_recognizer.") in written


def test_settings_change_the_settings_cell_alone(tracked):
    other = nbformat.reads(notebook.build(notebook.read_result(ROOT / kernel.README), SETTINGS), as_version=4)
    changed = [pair for pair in zip(sources(tracked.cells), sources(other.cells), strict=True) if pair[0] != pair[1]]
    ((before, after),) = changed
    values = {}
    exec(after, values)  # noqa: S102
    assert {name: values[name.upper()] for name in SETTINGS} == SETTINGS
    assert before.startswith('PRESET = "single"')
    assert values["HOURS"] == 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "slow"}, "got 'slow'"),
        ({"hours": 13.0}, "hours more than 0 and at most 12"),
        ({"folds": -1}, "folds"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_pushed(settings, message):
    with pytest.raises(UserError, match=message):
        notebook.build("", settings)


def execute(folder, settings=SETTINGS, change=str):
    """Runs the notebook below a folder; returns its exit status and the text of its log."""
    path = folder / "notebook.ipynb"
    path.write_text(change(notebook.build("| result |", settings)))
    environment = {"PATH": os.environ["PATH"]}
    answer = subprocess.run(
        [sys.executable, EXECUTE, path, folder], env=environment, capture_output=True, timeout=900, check=False
    )
    assert answer.returncode in (0, 1), answer.stderr
    return answer.returncode, "".join(piece["data"] for piece in json.loads((folder / "log.json").read_text()))


@pytest.fixture(scope="module")
def real_dir(competition_dir, tmp_path_factory):
    """The first rows of the competition's real files."""
    folder = tmp_path_factory.mktemp("real")
    for name, rows in (("train.csv", 2000), ("test.csv", 1000)):
        lines = (competition_dir / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(lines[: rows + 1]))
    return folder


@pytest.fixture(scope="module")
def local_submission(tmp_path_factory):
    """Makes submission.csv out of a data folder with the command line, once for each."""
    made = {}

    def make(data_dir):
        if data_dir not in made:
            folder = tmp_path_factory.mktemp("local")
            script = Path(sys.executable).with_name("digit-recognizer")
            for stage in (("train", *FLAGS), ("submission",)):
                command = [script, *stage, "--data-dir", data_dir]
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
            (path,) = folder.glob("submissions/*/submission.csv")
            made[data_dir] = path.parent.name, path.read_bytes()
        return made[data_dir]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", ["demo_dir", "real_dir"])
def test_the_notebook_makes_the_very_submission_of_the_command_line(
    source, layout, request, local_submission, tmp_path
):
    data_dir = request.getfixturevalue(source)
    folder = tmp_path / layout
    folder.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        (folder / name).symlink_to(data_dir / name)
    status, log = execute(tmp_path)
    assert status == 0, log
    assert f"Data in {folder}; hardware: no GPU" in log
    assert "member 1, " in log
    assert not (tmp_path / "connections.txt").exists()  # nothing has looked for the internet
    run, content = local_submission(data_dir)
    working = tmp_path / "working"
    assert (working / "submission.csv").read_bytes() == content
    manifest = json.loads((working / "manifest.json").read_text())
    assert manifest["run"] == run
    made = {path.relative_to(working).as_posix() for path in working.rglob("*") if path.is_file()}
    assert made - {"models/latest.json"} == manifest["files"].keys() | {"manifest.json"}  # results alone
    cells = nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
    pictures = [output for cell in cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})]
    assert len(pictures) > 5 + 10  # samples, two curves, confusion matrix, mistakes; the report's
    shown = [
        output["data"].get("text/markdown", "")
        for cell in cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    headings = re.findall(r"^## (\d)", "\n".join(shown), re.MULTILINE)
    assert headings == list("12345678")


@pytest.mark.slow
def test_a_notebook_that_trains_on_all_rows_writes_a_submission(demo_dir, tmp_path):
    folder = tmp_path / "input" / "digit-recognizer"
    folder.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        (folder / name).symlink_to(demo_dir / name)
    status, log = execute(tmp_path, settings={"preset": "fast", "members": 2, "epochs": 1})
    assert status == 0, log
    assert "Trained on all rows" in log
    assert len((tmp_path / "working" / "submission.csv").read_text().splitlines()) == 361


@pytest.mark.slow
def test_without_input_the_notebook_ends_with_one_clear_message(tmp_path):
    (tmp_path / "input").mkdir()
    status, log = execute(tmp_path)
    assert status == 1
    last = re.sub(r"\x1b\[[0-9;]*m", "", log).strip().splitlines()[-1]
    assert last.startswith("UserError: expected train.csv and test.csv of digit-recognizer below")
    assert "choose Add input" in last


@pytest.mark.slow
def test_a_module_that_was_changed_in_the_notebook_stops_it(tmp_path):
    status, log = execute(tmp_path, change=lambda text: text.replace("rotate=(-12, 12)", "rotate=(-45, 45)"))
    assert status == 1
    assert "augmentation.py is not the file that this notebook was built from" in log
    assert not (tmp_path / "working" / "submission.csv").exists()


@pytest.mark.slow
def test_a_notebook_that_wants_the_internet_is_caught(tmp_path):
    """The proof that the runs above would have noticed."""
    ask = "import contextlib, urllib.request as u\nwith contextlib.suppress(OSError): u.urlopen('http://example.com')"

    def change(text):
        content = nbformat.reads(text, as_version=4)
        content.cells = [nbformat.v4.new_code_cell(ask)]
        return nbformat.writes(content)

    assert execute(tmp_path, change=change)[0] == 0
    assert (tmp_path / "connections.txt").read_text() == "example.com\n"


def test_data_read_only_is_no_obstacle(demo_dir, tmp_path, monkeypatch):
    """Kaggle's input folders cannot be written to, so that nothing is cached there."""
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((demo_dir / name).read_bytes())
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(csv_files.load_train(tmp_path).images) == 1437
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.csv", "train.csv"]

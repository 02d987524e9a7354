"""The Kaggle notebook: current, complete, readable, and equal to the command line."""

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from digit_recognizer.competition import kernel, notebook
from digit_recognizer.errors import UserError
from digit_recognizer.training.devices import count_cores

ROOT = Path(__file__).parents[2]
EXECUTE = ROOT / "tests" / "execute_notebook.py"
LAYOUTS = ("input/digit-recognizer", "input/competitions/digit-recognizer", "input/a-copy/of-it")
SETTINGS = {"preset": "fast", "folds": 2, "epochs": 1, "seed": 3, "augment": True}
FLAGS = ("--preset", "fast", "--folds", "2", "--epochs", "1", "--seed", "3", "--augment")
PARTS = (
    *("Introduction", "Technologies", "Data set and preprocessing", "Architecture", "Training"),
    *("Validation performance", "Own images", "Conclusion"),
)


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(ROOT / kernel.NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def code(committed):
    return [cell.source for cell in committed.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def story(committed):
    return "\n\n".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")


def test_the_committed_notebook_is_current():
    assert (ROOT / kernel.NOTEBOOK).read_text() == notebook.build(), "run `make kernel`"


def test_another_process_builds_the_same_bytes():
    program = "from digit_recognizer.competition import notebook; print(notebook.build(), end='')"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert answer.stdout == notebook.build()


def test_the_notebook_is_small(committed, code):
    assert (ROOT / kernel.NOTEBOOK).stat().st_size < 200_000
    assert len(committed.cells) < 50
    assert "base64" not in "".join(code)
    assert max(len(line) for line in "\n".join(code).splitlines()) <= 150


def test_the_metadata_suit_kaggle(committed):
    nbformat.validate(committed)
    assert committed.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in committed.cells if "outputs" in cell)
    metadata = json.loads((ROOT / kernel.METADATA).read_text())
    assert metadata["code_file"] == str(kernel.NOTEBOOK)
    assert (metadata["is_private"], metadata["enable_gpu"], metadata["enable_internet"]) == (True, True, False)
    assert metadata["competition_sources"] == ["digit-recognizer"]
    assert metadata["id"].startswith("INSERT_")


def test_the_story_has_each_part_once_and_settings_near_the_top(committed, story):
    assert re.findall(r"^## (.*)", story, re.MULTILINE) == [f"{n} {part}" for n, part in enumerate(PARTS, start=1)]
    assert not re.findall(r"^@|\]\((?!https://)", story, re.MULTILINE)  # placeholders, links into the repository
    first_code = next(cell.source for cell in committed.cells if cell.cell_type == "code")
    assert first_code.startswith("PRESET = ")


def test_every_code_cell_follows_an_explanation_or_another_cell_of_its_section(committed):
    kinds = "".join(cell.cell_type[0] for cell in committed.cells)
    assert "cccc" not in kinds


def top_level_names(source):
    """Names that a cell defines: functions, classes and constants."""
    for node in ast.parse(source.removeprefix("%%writefile {CODE}/augmentation.py\n")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            yield from (name for name in names if name.isupper())


def test_no_name_is_defined_twice(code):
    """The cells share one namespace, modules do not."""
    names = [name for source in code for name in top_level_names(source)]
    assert not [name for name, count in Counter(names).items() if count > 1]


def test_modules_are_shown_without_imports_from_the_package(code):
    paths = re.findall(r"^# ([\w/]+\.py): .", "\n".join(code), re.MULTILINE)
    assert {"config.py", "data/augmentation.py", "model/networks.py", "training/member.py"} <= set(paths)
    assert not [path for path in paths if path.startswith(("web/", "cli", "competition/client"))]
    assert not [source for source in code if "digit_recognizer." in source]


def test_settings_change_only_the_settings_cell(committed):
    other = nbformat.reads(notebook.build(SETTINGS), as_version=4)
    pairs = zip(committed.cells, other.cells, strict=True)
    ((before, after),) = [(one.source, two.source) for one, two in pairs if one.source != two.source]
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
def test_invalid_settings_are_an_error(settings, message):
    with pytest.raises(UserError, match=message):
        notebook.build(settings)


@pytest.fixture(scope="module")
def find_input(code):
    """The notebook's function that finds the competition's files."""
    names = {"Path": Path, "__name__": "notebook"}
    for source in code:
        if source.startswith(("# errors.py", "# data/csv_files.py")):
            exec(source, names)  # noqa: S102
    (cell,) = [source for source in code if source.startswith("def find_input")]
    exec(cell.partition("\n\n\n")[0], names)  # noqa: S102
    return names


def write_headers(folder, names, **headers):
    """Write train.csv and test.csv with their headers, or with others."""
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        header = headers.get(name, ",".join(names[f"{name.upper()}_COLUMNS"]))
        (folder / f"{name}.csv").write_text(f"{header}\r\n0\r\n")
    return folder


@pytest.mark.parametrize(
    "place", ["digit-recognizer", "competitions/digit-recognizer", "datasets/somebody/a-copy", "a-copy"]
)
def test_the_input_is_found_wherever_kaggle_mounts_it(find_input, tmp_path, place):
    write_headers(tmp_path / "input" / "another-competition", find_input, train="PassengerId,Survived")
    folder = write_headers(tmp_path / "input" / place, find_input)
    assert find_input["find_input"](tmp_path) == folder


def test_the_competition_folder_comes_before_a_copy(find_input, tmp_path):
    write_headers(tmp_path / "input" / "a-copy", find_input)
    folder = write_headers(tmp_path / "input" / "competitions" / "digit-recognizer", find_input)
    assert find_input["find_input"](tmp_path) == folder
    assert find_input["find_input"](tmp_path / "elsewhere") == Path("data")


def execute(folder, settings=SETTINGS, change=str):
    """Run the notebook below a folder; return its exit status and the text of its log."""
    path = folder / "notebook.ipynb"
    path.write_text(change(notebook.build(settings)))
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
    """Make submission.csv from a data folder with the command line, once for each folder."""
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
@pytest.mark.parametrize(("source", "layout"), [("demo_dir", LAYOUTS[0]), *(("real_dir", one) for one in LAYOUTS[1:])])
def test_the_notebook_writes_the_same_submission_as_the_command_line(
    source, layout, request, local_submission, tmp_path
):
    data_dir = request.getfixturevalue(source)
    folder = tmp_path / layout
    folder.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        (folder / name).symlink_to(data_dir / name)
    status, log = execute(tmp_path)
    assert status == 0, log
    assert f"test images in {folder}" in log
    assert "member 1, epoch 1/1" in log
    assert not (tmp_path / "connections.txt").exists()  # no attempt to use the network
    run, content = local_submission(data_dir)
    working = tmp_path / "working"
    assert (working / "submission.csv").read_bytes() == content
    manifest = json.loads((working / "manifest.json").read_text())
    assert manifest["run"] == run
    made = {path.relative_to(working).as_posix() for path in working.rglob("*") if path.is_file()}
    assert made == manifest["files"].keys() | {"manifest.json"}
    cells = nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
    pictures = [output for cell in cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})]
    assert len(pictures) >= 7  # samples, augmentation, two curves, confusion matrix, mistakes, own images


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
def test_members_that_would_end_too_late_are_left_out(demo_dir, tmp_path):
    folder = tmp_path / "input" / "digit-recognizer"
    folder.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        (folder / name).symlink_to(demo_dir / name)
    trained = count_cores()  # members of the first round
    status, log = execute(tmp_path, settings=SETTINGS | {"folds": trained + 2, "hours": 1e-4})
    assert status == 0, log
    assert f"no time for 2 of {trained + 2} members" in log
    (record,) = (tmp_path / "working" / "models").glob("*/run.json")
    assert json.loads(record.read_text())["left_out"] == [trained, trained + 1]


@pytest.mark.slow
def test_a_notebook_that_is_run_again_resumes_the_training_with_the_same_submission(demo_dir, tmp_path):
    def stop(text):
        line = "    index, epoch, logs = message\\n"  # of print_epoch
        assert line in text
        return text.replace(line, line + '",\n    "    assert epoch < 1\\n')

    for name in ("whole", "stopped"):
        folder = tmp_path / name / "input" / "digit-recognizer"
        folder.mkdir(parents=True)
        for file in ("train.csv", "test.csv"):
            (folder / file).symlink_to(demo_dir / file)
    settings = {"preset": "fast", "epochs": 3, "augment": True}
    assert execute(tmp_path / "whole", settings)[0] == 0
    status, log = execute(tmp_path / "stopped", settings, change=stop)
    assert status == 1
    assert "member 0, epoch 1/3" in log
    status, log = execute(tmp_path / "stopped", settings)
    assert status == 0, log
    assert "epoch 1/3" not in log
    assert "member 0, epoch 2/3" in log
    whole, stopped = (tmp_path / name / "working" / "submission.csv" for name in ("whole", "stopped"))
    assert whole.read_bytes() == stopped.read_bytes()
    assert [path.name[0] for path in (tmp_path / "stopped" / "working" / "models").iterdir()] == ["f"]  # no checkpoint


@pytest.mark.slow
def test_without_input_the_notebook_ends_with_one_clear_message(tmp_path):
    (tmp_path / "input").mkdir()
    status, log = execute(tmp_path)
    assert status == 1
    last = re.sub(r"\x1b\[[0-9;]*m", "", log).strip().splitlines()[-1]
    assert last.startswith("UserError: expected train.csv and test.csv of digit-recognizer below")
    assert "choose Add input" in last


@pytest.mark.slow
def test_an_attempt_to_use_the_internet_is_recorded(tmp_path):
    """The check that the tests above rely on."""
    ask = "import contextlib, urllib.request as u\nwith contextlib.suppress(OSError): u.urlopen('http://example.com')"

    def change(text):
        content = nbformat.reads(text, as_version=4)
        content.cells = [nbformat.v4.new_code_cell(ask)]
        return nbformat.writes(content)

    assert execute(tmp_path, change=change)[0] == 0
    assert (tmp_path / "connections.txt").read_text() == "example.com\n"

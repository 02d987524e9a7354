"""The Kaggle notebook: current, complete, readable, and equal to the command line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from digit_recognizer.competition import kernel, notebook
from digit_recognizer.errors import UserError

ROOT = Path(__file__).parents[2]
EXECUTE = ROOT / "tests" / "execute_notebook.py"
LAYOUTS = ("input/digit-recognizer", "input/competitions/digit-recognizer")
SETTINGS = {"preset": "fast", "folds": 2, "epochs": 1, "seed": 3, "augment": True}
FLAGS = ("--preset", "fast", "--folds", "2", "--epochs", "1", "--seed", "3", "--augment")


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(ROOT / kernel.NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def code(committed):
    return [cell for cell in committed.cells if cell.cell_type == "code"]


def test_the_committed_notebook_is_current():
    assert (ROOT / kernel.NOTEBOOK).read_text() == notebook.build(), "run `make kernel`"


def test_the_notebook_is_valid_and_small_and_its_metadata_suit_kaggle(committed):
    nbformat.validate(committed)
    assert (ROOT / kernel.NOTEBOOK).stat().st_size < 250_000
    assert committed.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in committed.cells if "outputs" in cell)
    metadata = json.loads((ROOT / kernel.METADATA).read_text())
    assert metadata["code_file"] == str(kernel.NOTEBOOK)
    assert (metadata["is_private"], metadata["enable_gpu"], metadata["enable_internet"]) == (True, True, False)
    assert metadata["competition_sources"] == ["digit-recognizer"]
    assert metadata["id"].startswith("INSERT_")


def is_hidden(cell):
    return cell.metadata.get("_kg_hide-input") is True and cell.metadata.get("jupyter") == {"source_hidden": True}


def test_a_reader_sees_the_settings_then_at_most_200_lines_of_code(code):
    assert code[0].source.startswith("PRESET = ")
    assert code[0].metadata == {"tags": ["parameters"]}
    visible = [cell for cell in code if not is_hidden(cell)]
    assert sum(len(cell.source.splitlines()) for cell in visible) <= 200
    assert max(len(line) for cell in visible for line in cell.source.splitlines()) <= 120


def test_every_link_of_the_contents_leads_to_a_part(committed):
    story = "\n\n".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(#(\w+)\)", story)
    assert len(links) == len(set(links)) >= 8
    assert re.findall(r'<a id="(\w+)"></a>\n## ', story) == links
    assert not re.findall(r"\]\((?!https://|#)", story)  # links into the repository


def test_the_modules_are_in_a_hidden_cell_as_they_are_in_the_package(code):
    (cell,) = [cell for cell in code if cell.source.startswith("%%modules\n")]
    assert is_hidden(cell)
    parts = re.split(r"^# -{10} (\S+)\n", cell.source, flags=re.MULTILINE)[1:]
    modules = dict(zip(parts[::2], parts[1::2], strict=True))
    assert {path: text.strip() + "\n" for path, text in modules.items()} == {
        path: (ROOT / "src" / path).read_text() for path in modules
    }
    assert not [path for path in modules if re.search(r"/(web|handwriting)/|cli|doctor|kernel|client", path)]


def test_settings_change_only_the_settings_cell(committed):
    changed = nbformat.reads(notebook.build(SETTINGS), as_version=4)
    pairs = zip(committed.cells, changed.cells, strict=True)
    ((before, after),) = [(old.source, new.source) for old, new in pairs if old.source != new.source]
    values = {}
    exec(after, values)  # noqa: S102
    assert {name: values[name.upper()] for name in SETTINGS} == SETTINGS
    assert before.startswith('PRESET = "single"')


def test_invalid_settings_are_an_error():
    with pytest.raises(UserError, match="expected folds 0 or more, got -1"):
        notebook.build({"folds": -1})


@pytest.fixture(scope="module")
def find_input(code):
    """The names of the notebook's cell that finds the competition's files, without the lines that load them."""
    (cell,) = [cell for cell in code if "def find_input" in cell.source]
    names = {"Path": Path, "Console": dict}
    exec(cell.source.partition("\nDATA = ")[0], names)  # noqa: S102
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


def test_without_input_the_notebook_says_how_to_add_it(find_input, tmp_path):
    assert find_input["find_input"](tmp_path / "not-on-kaggle") == Path("data")
    (tmp_path / "input").mkdir()
    with pytest.raises(UserError, match=r"there are no train\.csv and test\.csv .* choose Add input"):
        find_input["find_input"](tmp_path)


def execute(folder, settings, change=str, python=sys.executable):
    """Run the notebook below a folder; return its exit status and the text of its log."""
    path = folder / "notebook.ipynb"
    path.write_text(change(notebook.build(settings)))
    environment = {"PATH": os.environ["PATH"]}
    answer = subprocess.run(
        [python, EXECUTE, path, folder], env=environment, capture_output=True, timeout=900, check=False
    )
    assert answer.returncode in (0, 1), answer.stderr
    return answer.returncode, "".join(piece["data"] for piece in json.loads((folder / "log.json").read_text()))


@pytest.fixture
def run_locally(demo_dir, tmp_path):
    """Train and write a submission with the command line; return the folders of the run and of the submission."""

    def run(*flags):
        folder = tmp_path / "local"
        folder.mkdir()
        for stage in (("train", *flags), ("submission",)):
            command = [Path(sys.executable).with_name("digit-recognizer"), *stage, "--data-dir", demo_dir]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (record,) = folder.glob("models/*/run.json")
        return record.parent, folder / "submissions" / record.parent.name

    return run


def link_input(root, layout, demo_dir):
    (root / layout).parent.mkdir(parents=True)
    (root / layout).symlink_to(demo_dir)


@pytest.mark.slow
def test_the_notebook_writes_the_same_submission_as_the_command_line(demo_dir, run_locally, tmp_path):
    link_input(tmp_path, LAYOUTS[1], demo_dir)
    status, log = execute(tmp_path, SETTINGS)
    assert status == 0, log
    assert log.count("epoch 1/1") == 2
    assert not (tmp_path / "connections.txt").exists()  # no attempt to use the network
    run_dir, folder = run_locally(*FLAGS)
    working = tmp_path / "working"
    assert (working / "submission.csv").read_bytes() == (folder / "submission.csv").read_bytes()
    assert (working / "models" / run_dir.name).is_dir()
    assert (working / "run.zip").is_file()
    outputs = [
        output for cell in nbformat.read(tmp_path / "executed.ipynb", 4).cells for output in cell.get("outputs", ())
    ]
    assert not [output for output in outputs if output.get("name") == "stderr"]  # no red warnings
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 10
    (title,) = [text for output in outputs if "Accuracy" in (text := output.get("data", {}).get("text/markdown", ""))]
    assert re.fullmatch(r"## Accuracy \d\d\.\d\d% \(95% confidence interval .* images\)", title)


@pytest.mark.slow
def test_a_notebook_that_is_run_again_resumes_the_training_with_the_same_submission(demo_dir, run_locally, tmp_path):
    """The second of two networks is missing, as after an interruption; they are trained on all rows."""
    run_dir, folder = run_locally("--preset", "fast", "--members", "2", "--epochs", "1")
    copy = tmp_path / "working" / "models" / run_dir.name
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("member-1", "predictions"))
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"scores": None, "finished_at": None}))
    link_input(tmp_path, LAYOUTS[0], demo_dir)
    status, log = execute(tmp_path, {"preset": "fast", "members": 2, "epochs": 1})
    assert status == 0, log
    assert log.count("epoch 1/1") == 1
    assert (tmp_path / "working" / "submission.csv").read_bytes() == (folder / "submission.csv").read_bytes()


@pytest.mark.slow
def test_an_attempt_to_use_the_internet_is_recorded(tmp_path):
    """The check that a test above relies on."""
    ask = "import contextlib, urllib.request as u\nwith contextlib.suppress(OSError): u.urlopen('http://example.com')"

    def change(text):
        content = nbformat.reads(text, as_version=4)
        content.cells = [nbformat.v4.new_code_cell(ask)]
        return nbformat.writes(content)

    assert execute(tmp_path, SETTINGS, change)[0] == 0
    assert (tmp_path / "connections.txt").read_text() == "example.com\n"

"""What holds for the repository as a whole."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "digit_recognizer"
MODULES = sorted(PACKAGE.glob("*.py"))

# From the bottom to the top; a module may import those above it in this list alone.
ORDER = [
    *(
        "errors",
        "files",
        "config",
        "quiet",
        "progress",
        "data",
        "workers",
        "augmentation",
        "model",
        "precision",
        "demo",
    ),
    *("architecture", "drawings", "pictures", "mnist", "ink", "lines", "handwriting", "spotter", "reading"),
    "calibration",
    *(
        "training",
        "runs",
        "evaluation",
        "session",
        "budget",
        "ensemble",
        "figures",
        "tables",
        "documents",
        "comparison",
    ),
    *("submission", "prediction", "recognition", "report", "archive", "client", "competition", "page"),
    *("pipeline", "notebook", "output", "kernel", "rivals", "benchmark", "cli"),
]


def imports(path):
    """The names of all modules that a file imports, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_every_module_has_its_place():
    assert sorted(path.stem for path in MODULES if path.stem != "__init__") == sorted(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    if path.stem == "__init__":
        return
    own = [name.split(".")[1] for name in imports(path) if name.startswith("digit_recognizer.")]
    below = ORDER[: ORDER.index(path.stem)]
    assert not set(own) - set(below)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_loads_mnist_from_elsewhere(path):
    """Kaggle's test.csv is a part of MNIST, so that other copies of it hold its labels."""
    forbidden = re.compile(r"keras\.datasets|tensorflow_datasets|fetch_openml|torchvision|huggingface|datasets\.mnist")
    assert not [name for name in imports(path) if forbidden.search(name)]
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if re.search(r"mnist|openml|get_file|urlretrieve|urlopen|load_dataset", call)]


def make_targets():
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE))


def test_make_alone_prints_every_target():
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    printed = set(re.findall(r"^  ([a-z-]+) ", answer.stdout, re.MULTILINE))
    assert printed == make_targets()


def test_every_documented_command_exists():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "submissions").glob("*.md")]
    text = "\n".join(path.read_text() for path in documents)
    commands = "\n".join(re.findall(r"`make [^`]+`|^\s*make .*", text, re.MULTILINE))
    targets = {word for line in re.findall(r"make ((?:[a-z-]+ ?)+)", commands) for word in line.split()}
    assert {"demo", "test", "download", "train", "submit"} <= targets
    assert targets <= make_targets()


def test_the_readme_shows_every_module():
    text = (ROOT / "README.md").read_text()
    assert not [path.name for path in MODULES if path.stem != "__init__" and path.name not in text]


def test_pictures_of_the_readme_are_there():
    for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link

"""Structure and documents of the repository."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "digit_recognizer"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each package, or module outside of them, may import. Nothing may import the command line.
BASE = {"config", "console", "errors", "files"}
TRAINING = {"training", "model", "data"} | BASE
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "config": {"errors"},
    "console": set(),
    "data": BASE,
    "model": {"data"} | BASE,
    "training": {"model", "data"} | BASE,
    "evaluation": TRAINING,
    "competition": {"evaluation"} | TRAINING,
    "handwriting": {"evaluation"} | TRAINING,
    "doctor": {"competition"} | TRAINING,
    "web": {"handwriting", "evaluation"} | TRAINING,
    "pipeline": {"handwriting", "evaluation", "competition"} | TRAINING,
    "__main__": {"cli"} | BASE,
    "cli": {"pipeline", "doctor", "web", "handwriting", "evaluation", "competition"} | TRAINING,
}


def imports(path):
    """Names of all modules that a file imports, at the top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room(path):
    """The package of a module, or the module's own name outside of the packages."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    imported = {name.split(".")[1] for name in imports(path) if name.startswith("digit_recognizer.")}
    assert imported <= ALLOWED.get(room(path), set()) | {room(path)}


def test_the_package_stays_small():
    packages = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    flat = [path for path in MODULES if path.parent == PACKAGE]
    lines = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert 6 <= len(packages) <= 8
    assert len(flat) <= 9
    assert sum(lines.values()) <= 8250
    assert [path.name for path, count in lines.items() if count > 300] == ["cli.py"]  # options of every command


def test_tests_mirror_the_packages():
    own = {room(path) for path in MODULES} | {"benchmarks"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= own
    modules = {str(path.relative_to(PACKAGE).with_name(f"test_{path.name}")) for path in MODULES}
    extra = {
        "test_environment.py",
        "test_fuzz.py",
        "test_project.py",
        "test_packaging.py",
        "competition/test_kaggle_image.py",
        "web/test_server_in_browser.py",
    }
    tests = {str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")}
    assert not {name for name in tests if not name.startswith("benchmarks/")} - modules - extra


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_loads_another_copy_of_mnist(path):
    """test.csv is a part of MNIST: other copies contain its labels."""
    forbidden = re.compile(r"keras\.datasets|tensorflow_datasets|fetch_openml|torchvision|huggingface|datasets\.mnist")
    assert not [name for name in imports(path) if forbidden.search(name)]
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if re.search(r"mnist|openml|get_file|urlretrieve|urlopen|load_dataset", call)]


def test_only_the_competition_package_makes_connections():
    clients = re.compile(
        r"(requests|urllib|urllib3|http|httpx|aiohttp|kaggle|kagglesdk|ftplib|smtplib)\b|socket\.create_connection"
    )
    found = {room(path) for path in MODULES if any(clients.match(name) for name in imports(path))}
    assert found == {"competition"}
    assert {path.stem for path in MODULES if any(name.split(".")[0] == "socket" for name in imports(path))} <= {
        "server"
    }


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


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_pictures_in_the_readme_exist():
    for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", ["reliability.md", "security.md"])
def test_every_test_that_a_promise_names_exists(name):
    path = ROOT / "docs" / name
    if not path.exists():
        pytest.skip(f"there is no {name}")
    rows = [
        line.strip("|").split("|")
        for line in path.read_text().splitlines()
        if line.startswith("| ") and "---" not in line and not line.lower().startswith("| promise")
    ]
    named = [re.findall(r"`(test_\w+)`", row[-1]) for row in rows]
    existing = {
        match for file in (ROOT / "tests").rglob("*.py") for match in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert [row[0] for row, tests in zip(rows, named, strict=True) if not (tests or row[0].startswith(" **"))] == []
    assert {test for tests in named for test in tests} - existing == set()

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


LINES_OF_MODULES = {"pipeline.py": 130, "training/cluster.py": 150, "doctor.py": 150}  # others: 300


def count_lines(path):
    return len(path.read_text().splitlines())


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


def test_imports_run_one_way():
    for path in MODULES:
        imported = {name.split(".")[1] for name in imports(path) if name.startswith("digit_recognizer.")}
        assert imported <= ALLOWED.get(room(path), set()) | {room(path)}, path


def test_the_kit_stays_small():
    """Hold the limits, which may only fall: whoever needs room makes it by taking something out."""
    for path in MODULES:
        limit = LINES_OF_MODULES.get(str(path.relative_to(PACKAGE)), 300)
        assert count_lines(path) <= limit, path
    assert count_lines(ROOT / "README.md") <= 180
    assert sum(map(count_lines, MODULES)) <= 5990
    assert sum(map(count_lines, (ROOT / "tests").rglob("*.py"))) <= 8969
    assert sum(map(count_lines, (ROOT / "benchmarks").rglob("*.py"))) <= 1998


def test_tests_mirror_the_packages():
    modules = {str(path.relative_to(PACKAGE).with_name(f"test_{path.name}")) for path in MODULES}
    modules |= {"test_environment.py", "test_fuzz.py", "test_project.py", "test_packaging.py", "test_install.py"}
    modules |= {"competition/test_kaggle_image.py", "web/test_server_in_browser.py"}
    tests = {str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")}
    assert {name for name in tests if not name.startswith("benchmarks/")} <= modules


def test_no_module_loads_another_copy_of_mnist():
    """test.csv is a part of MNIST: other copies contain its labels."""
    packages = re.compile(r"keras\.datasets|tensorflow_datasets|fetch_openml|torchvision|huggingface|datasets\.mnist")
    functions = re.compile(r"mnist|openml|get_file|urlretrieve|urlopen|load_dataset")
    for path in MODULES:
        assert [name for name in imports(path) if packages.search(name)] == [], path
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert [call for call in calls if functions.search(ast.unparse(call.func))] == [], path


def test_only_the_competition_package_and_a_cluster_make_connections():
    clients = re.compile(r"(requests|urllib|urllib3|http|httpx|aiohttp|kaggle|kagglesdk|ray|ftplib|smtplib)\b")
    connecting = [path for path in MODULES if any(map(clients.match, imports(path)))]
    assert {room(path) for path in connecting} == {"competition", "training"}
    assert [path.stem for path in connecting if room(path) == "training"] == ["cluster"]
    assert {path.stem for path in MODULES if "socket" in imports(path)} == {"server"}


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


def test_every_target_and_variable_is_explained():
    pages = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    helps = "".join(re.findall(r"^[a-z-]+:.*##.*", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = {word for words in re.findall(r"make ((?:[a-z-]+ ?)+)", pages) for word in words.split()}
    missing = set(re.findall(r"\b[A-Z_]+=", helps)) - set(re.findall(r"\b[A-Z_]+=", pages))
    assert missing | (make_targets() - targets - {"help"}) == set()


def test_pictures_in_the_readme_exist():
    for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", ["reliability.md", "security.md"])
def test_every_promise_names_tests_that_exist(name):
    rows = [line.strip("|").split("|") for line in (ROOT / "docs" / name).read_text().splitlines() if line[:2] == "| "]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    existing = set(re.findall(r"def (test_\w+)", tests))
    for promise, *_, proof in rows:
        if promise.strip() not in ("Promise", "promise", "---") and not promise.startswith(" **"):
            named = set(re.findall(r"`(test_\w+)`", proof))
            assert named, promise
            assert named <= existing, promise

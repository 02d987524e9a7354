"""Declared dependencies and their pins."""

import ast
import itertools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_declared(*extras):
    """Return the requirements of the package and of some extras."""
    optional = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in extras or optional for text in optional[extra])]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != PROJECT["name"]]


def read_imported(folder):
    """Return the distributions of all third-party modules imported in a folder."""
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.split(".")[0])
    names = packages_distributions()
    own = sys.stdlib_module_names | {"digit_recognizer", "benchmarks"}
    return {canonicalize_name(names.get(module, [module])[0]) for module in modules - own}


@pytest.mark.parametrize(
    ("folder", "extras"), [("src", ["cpu", "cluster"]), ("benchmarks", ["cpu", "bench", "browser"])]
)
def test_imported_packages_are_declared(folder, extras):
    assert read_imported(ROOT / folder) <= {
        canonicalize_name(requirement.name) for requirement in read_declared(*extras)
    }


def test_declared_packages_are_imported():
    assert {Requirement(text).name for text in PROJECT["dependencies"]} <= read_imported(ROOT / "src")


def test_constraints_are_exact_and_within_the_declared_ranges():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {}
    for pin in (Requirement(line) for line in lines if not line.startswith("#")):
        (specifier,) = pin.specifier
        assert (specifier.operator, pin.url, pin.marker) == ("==", None, None)
        pins[canonicalize_name(pin.name)] = specifier.version
    for requirement in read_declared():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


PLATFORMS = {"x86-64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_28", "macOS": "aarch64-apple-darwin"}


def read_systems():
    """Return uv's name of the platform and the version of Python, for all of the README's table."""
    rows = re.findall(r"^\| (Linux|macOS)(.*) \| (3.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = [([uv for name, uv in PLATFORMS.items() if name in row[0] + row[1]], row[2].split(", ")) for row in rows]
    return [pair for platforms, versions in named for pair in itertools.product(platforms, versions)]


def test_python_versions_are_the_same_everywhere():
    assert {platform for platform, _ in read_systems()} == set(PLATFORMS.values())
    versions = sorted({version for _, version in read_systems()})
    assert versions == [text.split()[-1] for text in PROJECT["classifiers"] if "Python :: 3." in text]
    ends = versions[0], f"3.{int(versions[-1][2:]) + 1}"
    assert PROJECT["requires-python"] == ">={},<{}".format(*ends)
    makefile = (ROOT / "Makefile").read_text()
    assert " ".join(f"python{version}" for version in reversed(versions)) in makefile
    assert "({}) <= sys.version_info < ({})".format(*(end.replace(".", ", ") for end in ends)) in makefile

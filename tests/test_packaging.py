"""Declared dependencies and their pins."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def read_declared(*extras):
    """Return the requirements of the package and of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in extras or optional for text in optional[extra])]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != project["name"]]


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
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(text).name for text in project["dependencies"]} <= read_imported(ROOT / "src")


def test_constraints_are_exact_and_within_the_declared_ranges():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {}
    for pin in (Requirement(line) for line in lines if not line.startswith("#")):
        (specifier,) = pin.specifier
        assert (specifier.operator, pin.url, pin.marker) == ("==", None, None)
        pins[canonicalize_name(pin.name)] = specifier.version
    for requirement in read_declared():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement

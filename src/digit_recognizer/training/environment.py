"""What a run depends on besides its settings and data: the machine, the versions, and the code."""

import ast
import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from digit_recognizer.training.devices import CPUINFO, count_cores, find_features, query_gpus

PACKAGE = Path(__file__).parents[1]
SOURCES = (  # the modules that a member's weights depend on
    *("config.py", "data/augmentation.py", "data/csv_files.py", "data/folds.py", "model/layers.py"),
    *("model/networks.py", "model/prediction.py", "training/checkpoint.py", "training/devices.py"),
    *("training/member.py", "training/optimizer.py", "training/workers.py"),
)
PACKAGES = (
    *("albumentations", "keras", "matplotlib", "numpy", "opencv-python-headless", "pandas", "scikit-learn"),
    *("tensorflow", "tensorflow-cpu"),  # TensorFlow is installed under one of two names
)


def now() -> str:
    """Return the time in UTC as ISO 8601 with seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def find_machine(gpus: Sequence[str] = ()) -> dict[str, Any]:
    """Return the operating system, the processor, its features and its cores, and the names of the given GPUs."""
    model = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else None
    return {
        "system": platform.platform(),
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "features": find_features(),
        "processors": os.cpu_count(),
        "threads": count_cores(),
        "gpus": query_gpus("name", gpus) if gpus else [],
    }


def find_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def code_sha256() -> str:
    """Return the SHA-256 of the code that a run's weights depend on: of its syntax trees without docstrings."""
    trees = (ast.parse((PACKAGE / source).read_text()) for source in SOURCES)
    return hashlib.sha256("".join(map(_describe, trees)).encode()).hexdigest()


def _describe(node: Any) -> str:
    """Return a syntax tree as text that is the same in all versions of Python, unlike `ast.dump` and `ast.unparse`."""
    if isinstance(node, list):
        return f"[{', '.join(map(_describe, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        del node.body[0]
    fields = [f"{name}={_describe(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(fields)})"


def git_commit() -> str | None:
    """Return the commit of this code, with "-dirty" appended if files differ; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def measure_usage() -> tuple[float, int]:
    """Return the CPU time of this process and its ended children, and the peak memory in bytes of the largest one."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return sum(part.ru_utime + part.ru_stime for part in usage), max(part.ru_maxrss for part in usage) * unit

"""The Kaggle notebook, built from the package's own source: a story in Markdown with the modules that it needs."""

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from digit_recognizer.config import PRESETS, make_config
from digit_recognizer.errors import UserError

PACKAGE = Path(__file__).parent
STORY = PACKAGE / "templates" / "notebook.md"
ENTRIES = ("pipeline", "report")  # the modules that the notebook calls
OTHER_FILES = ("templates/report.md.jinja", "templates/handwriting.md.jinja", "spotter.weights")  # that these read
# Each setting with its value in the tracked notebook, and what a reader needs to know.
SETTINGS: dict[str, tuple[Any, str]] = {
    "preset": ("single", " or ".join(PRESETS)),
    "folds": (None, "1: one network, one hold-out; 5: five networks, each with another fifth held out; 0: all rows"),
    "members": (None, "networks a fold, with different seeds; without folds on all rows"),
    "validation": (None, "share of the rows held out, with one fold"),
    "epochs": (None, "passes over the training rows"),
    "seed": (None, "another one gives other networks, judged on the same rows"),
    "augment": (None, "True or False: whether training images are distorted"),
    "hours": (11.0, "networks that would end later are left out; Kaggle ends a session after 12"),
}


def needed_modules(entries: Sequence[str] = ENTRIES) -> list[str]:
    """Returns the modules of the package that some of them import, at any depth, from the bottom to the top."""
    order: list[str] = []

    def visit(name: str) -> None:
        for imported in _imports(name):
            if imported not in order:
                visit(imported)
        if name not in order:
            order.append(name)

    for entry in entries:
        visit(entry)
    return order


def build(result: str, settings: Mapping[str, Any] | None = None) -> str:
    """Returns the notebook as the text of its file: the same for the same source, result and settings.

    Args:
        result: Markdown that stands at the top.
        settings: values for some of `SETTINGS`, in place of those of the tracked notebook.

    Raises:
        UserError: a setting is not in order.
    """
    import nbformat
    from nbformat import v4

    files = [f"{name}.py" for name in ("__init__", *needed_modules())] + list(OTHER_FILES)
    presets = f"```python\n{_settings_cell(settings or {})}\n```"
    story = STORY.read_text(encoding="utf-8").replace("@RESULT@", result).replace("@PRESETS@", _presets_table())
    story = story.replace("```python\n@SETTINGS@\n```", presets).replace("@MANIFEST@", _manifest_cell(files))
    cells = []
    for place, text in enumerate(re.split(r"^```python\n(.*?)\n```$", story, flags=re.DOTALL | re.MULTILINE)):
        if place % 2:
            cells.append(v4.new_code_cell(text))
        elif text.strip() == "@MODULES@":
            cells += [_file_cell(name) for name in files]
        else:
            cells.append(v4.new_markdown_cell(text.strip()))
    for number, cell in enumerate(cells):
        cell["id"] = cell["metadata"].pop("module", f"story-{number:02d}")
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1, sort_keys=True) + "\n"


def read_result(readme: Path) -> str:
    """Returns the results table of the README with what is said of it, as the top of the notebook.

    Raises:
        UserError: there is no table.
    """
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    found = re.search(r"^\|.*?(?=\n#|\Z)", text, re.DOTALL | re.MULTILINE)
    if not found:
        raise UserError(f"expected a table of results in {readme}, found none; run the command in the kit's folder")
    return found[0].strip()


def _imports(name: str) -> list[str]:
    """Returns the modules of the package that a module imports, at its top or inside a function."""
    found = []
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE.name}."):
            found.append(node.module.split(".")[1])
    return [module for module in dict.fromkeys(found) if (PACKAGE / f"{module}.py").exists()]


def _file_cell(name: str) -> Any:
    from nbformat import v4

    source = (PACKAGE / name).read_text(encoding="utf-8").removesuffix("\n")
    # Kaggle folds such cells up; a click shows them.
    module = re.sub(r"\W+", "-", name.removesuffix(".py").strip("_"))
    metadata = {"module": f"module-{module}", "_kg_hide-input": True}
    return v4.new_code_cell(f"%%writefile {{PACKAGE}}/{name}\n{source}", metadata=metadata)


def _manifest_cell(files: list[str]) -> str:
    lines = [f'    "{name}": "{hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest()}",' for name in files]
    return "\n".join(
        [
            "import hashlib",
            "",
            "FILES = {  # SHA-256 of each in the kit's src",
            *lines,
            "}",
            "for name, digest in FILES.items():",
            "    if hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest() != digest:",
            '        raise SystemExit(f"{name} is not the file that this notebook was built from: copy it again")',
            "sys.path.insert(0, str(CODE))",
            'print(f"{len(FILES)} files, all as they are in the kit")',
        ]
    )


def _settings_cell(settings: Mapping[str, Any]) -> str:
    values = {name: value for name, (value, _) in SETTINGS.items()}
    values |= {name: value for name, value in settings.items() if value is not None}
    make_config(**{name: value for name, value in values.items() if name != "hours"})
    if not 0 < values["hours"] <= 12:
        raise UserError(f"expected hours more than 0 and at most 12, got {values['hours']}")
    lines = (f"{name.upper()} = {values[name]!r}  # {about}" for name, (_, about) in SETTINGS.items())
    return "\n".join(lines).replace("'", '"')


def _presets_table() -> str:
    rows = [
        "| preset | channels | epochs | batch | peak learning rate | dropout | augmented |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, config in PRESETS.items():
        values = asdict(config) | {"channels": ", ".join(map(str, config.channels))}
        augmented = "yes" if config.augment else "no"
        columns = ("channels", "epochs", "batch_size", "learning_rate", "dropout")
        rows.append(" | ".join([f"| `{name}`", *(str(values[column]) for column in columns), f"{augmented} |"]))
    return "\n".join(rows)

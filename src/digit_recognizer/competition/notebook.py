"""Build the Kaggle notebook: a story in Markdown with code cells, and the package's modules in collapsed cells."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digit_recognizer.config import PRESETS, make_config

PACKAGE = Path(__file__).parents[1]
STORY = Path(__file__).with_name("notebook.md")
# Modules that the story or a function imports; those that they import at their top follow.
ENTRIES = ("pipeline", "training/member", "model/prediction", "evaluation/figures")
# A code cell of the story: a fenced block after "python" and a kind; those of settings and modules are empty there.
CELL = re.compile(r"^```python *(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HIDDEN = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}
QUIET = {"_kg_hide-output": True, "jupyter": {"outputs_hidden": True}}
METADATA = {"hidden": HIDDEN, "modules": HIDDEN, "quiet": QUIET, "settings": {"tags": ["parameters"]}}  # for papermill
SETTINGS: dict[str, tuple[Any, str]] = {  # value in the committed notebook, and explanation
    "preset": ("single", " or ".join(PRESETS)),
    "folds": (None, "1: one network, one hold-out; 5: five networks, each with another fifth held out; 0: all rows"),
    "members": (None, "networks per fold, with different seeds"),
    "validation": (None, "fraction of the rows held out, with one fold"),
    "epochs": (None, "passes over the training rows"),
    "seed": (None, "another seed gives other networks, scored on the same rows"),
    "augment": (None, "True or False: augment the training images"),
    "precision": (None, "float32, mixed_bfloat16 or mixed_float16"),
}


def build(settings: Mapping[str, Any] | None = None) -> str:
    """Return the text of the notebook file; `settings` replace values of `SETTINGS`.

    The same source and settings give the same text. A `UserError` is raised if a setting is invalid.
    """
    from nbformat import v4, writes

    story = STORY.read_text(encoding="utf-8")
    cells, end = [], 0
    for match in CELL.finditer(story):
        cells.append(v4.new_markdown_cell(story[end : match.start()].strip()))
        kind, code = match.groups()
        if kind == "settings":
            code = _settings_cell(settings or {})
        elif kind == "modules":
            code = _modules_cell()
        cells.append(v4.new_code_cell(code.rstrip("\n"), metadata=METADATA.get(kind, {})))
        end = match.end()
    cells.append(v4.new_markdown_cell(story[end:].strip()))
    cells = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec, "language_info": {"name": "python"}})
    return writes(notebook, indent=1, sort_keys=True) + "\n"


def _modules_cell() -> str:
    """Return the cell with the modules that the notebook needs: `ENTRIES` and what they import at their top."""
    sources, waiting = dict[str, str](), [f"{PACKAGE.name}/{path}.py" for path in ENTRIES]
    while waiting:
        path = waiting.pop()
        if path in sources or not (PACKAGE.parent / path).is_file():
            continue
        sources[path] = (PACKAGE.parent / path).read_text(encoding="utf-8").rstrip("\n")
        waiting.append(f"{Path(path).parent.as_posix()}/__init__.py")
        for node in ast.parse(sources[path]).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                waiting += [f"{name.replace('.', '/')}.py" for name in names if name.startswith(PACKAGE.name)]
    return "%%modules\n" + "\n\n".join(f"# ---------- {path}\n{sources[path]}" for path in sorted(sources))


def _settings_cell(settings: Mapping[str, Any]) -> str:
    values = {name: value for name, (value, _) in SETTINGS.items()}
    values |= {name: value for name, value in settings.items() if value is not None}
    make_config(**values)
    lines = [f"{name.upper()} = {values[name]!r}  # {about}" for name, (_, about) in SETTINGS.items()]
    return "\n".join(lines).replace("'", '"')

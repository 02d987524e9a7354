"""Build the Kaggle notebook: a story in Markdown with the package's own modules as code cells."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digit_recognizer.config import PRESETS, make_config
from digit_recognizer.errors import UserError
from digit_recognizer.training.environment import code_sha256

PACKAGE = Path(__file__).parents[1]
STORY = Path(__file__).with_name("notebook.md")
# A code cell of the story: a fenced block, or a line such as "@module data/folds.py" with the source of modules.
CELL = re.compile(r"^```python\n(.*?)\n```$|^(@\w+)((?: \S+)*)$", re.DOTALL | re.MULTILINE)
SETTINGS: dict[str, tuple[Any, str]] = {  # value in the committed notebook, and explanation
    "preset": ("single", " or ".join(PRESETS)),
    "folds": (None, "1: one network, one hold-out; 5: five networks, each with another fifth held out; 0: all rows"),
    "members": (None, "networks per fold, with different seeds"),
    "validation": (None, "fraction of the rows held out, with one fold"),
    "epochs": (None, "passes over the training rows"),
    "seed": (None, "another seed gives other networks, scored on the same rows"),
    "augment": (None, "True or False: augment the training images"),
    "precision": (None, "float32, mixed_bfloat16 or mixed_float16"),
    "hours": (11.0, "no further network starts that would end later; Kaggle ends a session after 12"),
}


def build(settings: Mapping[str, Any] | None = None) -> str:
    """Return the text of the notebook file; `settings` replace values of `SETTINGS`.

    The same source and settings give the same text. A `UserError` is raised if a setting is invalid.
    """
    import nbformat
    from nbformat import v4

    story = STORY.read_text(encoding="utf-8")
    cells, end = [], 0
    for found in CELL.finditer(story):
        cells.append(v4.new_markdown_cell(story[end : found.start()].strip()))
        code, keyword, paths = found.groups()
        if keyword == "@settings":
            code = _settings_cell(settings or {})
        elif keyword:
            code = "\n\n\n".join(map(_module_source, paths.split()))
        if keyword == "@file":  # for worker processes, which cannot import from a notebook
            code = f"%%writefile {{CODE}}/{Path(paths).name}\n{code}"
        cells.append(v4.new_code_cell(code))
        end = found.end()
    cells.append(v4.new_markdown_cell(story[end:].strip()))
    cells = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1, sort_keys=True) + "\n"


def _module_source(path: str) -> str:
    """Return the source of a module without its imports from this package, whose names earlier cells define."""
    source = (PACKAGE / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = [node for node in imports if (node.module or "").startswith(PACKAGE.name)]
    for node in [*own, tree.body[0]]:  # the imports and the docstring
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = ""
    body = re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip()
    title = f"# {path}: {(ast.get_docstring(tree) or '').splitlines()[0]}"
    return f"{title}\n\n{body}"


def _settings_cell(settings: Mapping[str, Any]) -> str:
    values = {name: value for name, (value, _) in SETTINGS.items()}
    values |= {name: value for name, value in settings.items() if value is not None}
    make_config(**{name: value for name, value in values.items() if name != "hours"})
    if not 0 < values["hours"] <= 12:
        raise UserError(f"expected hours more than 0 and at most 12, got {values['hours']}")
    lines = [f"{name.upper()} = {values[name]!r}  # {about}" for name, (_, about) in SETTINGS.items()]
    lines += ["", f'CODE_SHA256 = "{code_sha256()}"  # of the training code; part of the name of the run']
    return "\n".join(lines).replace("'", '"')

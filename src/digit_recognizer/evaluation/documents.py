"""Markdown from a template, written as Markdown and as a self-contained HTML page."""

import base64
import math
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from digit_recognizer.console import Step
from digit_recognizer.evaluation.comparison import format_setting
from digit_recognizer.evaluation.figures import save_png
from digit_recognizer.files import write_text


def _escape(value: Any) -> str:
    """Escape the characters of a value that Markdown gives a meaning to."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", re.sub(r"\s+", " ", str(value)))


TEMPLATES = Environment(  # noqa: S701 - the values are escaped for Markdown, which becomes HTML
    loader=PackageLoader("digit_recognizer.evaluation"),
    finalize=_escape,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(
    percent=lambda value, digits=2: "" if math.isnan(value) else f"{value:.{digits}%}",
    number=lambda value, digits=0: "" if math.isnan(value) else f"{value:,.{digits}f}",
    duration=lambda value: f"{value // 60:.0f} min {value % 60:.0f} s" if value >= 60 else f"{value:.0f} s",
    counted=lambda count, noun: f"{count:,} {noun}{'' if count == 1 else 's'}",
    setting=format_setting,
)


def render(template: str, facts: Mapping[str, Any]) -> str:
    """Fill in a Markdown template, whose values are escaped: text from a file cannot become Markdown or HTML.

    Raises:
        jinja2.UndefinedError: The template uses a variable that is not in `facts`.
    """
    return re.sub(r"\n{3,}", "\n\n", TEMPLATES.get_template(template).render(facts)).strip() + "\n"


def write_document(text: str, figures: Mapping[str, Figure], folder: Path, step: Step) -> list[Path]:
    """Write report.html, which needs no other file, and report.md with its pictures beside it; return both paths.

    The first line of the text is the title, "# ..."; parts begin with "## ", pictures are ![text](name.png). Figures,
    given by name, that the text does not show are left out. This is counted as the last 40% of the progress.
    """
    pictures = re.findall(r"!\[.*\]\((\w+)\.png\)", text)
    for index, name in enumerate(pictures):
        step(f"drawing {name}", 0.6 + 0.4 * index / len(pictures))
        save_png(figures[name], folder / f"{name}.png")
    title, body = text.removeprefix("# ").split("\n", 1)
    parts = re.findall("^## (.+)", body, re.MULTILINE)
    anchors = {part: re.sub(r"[^\w -]", "", part.lower()).replace(" ", "-") for part in parts}  # as GitHub's
    contents = "\n".join(f"- [{part}](#{anchor})" for part, anchor in anchors.items())

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("table_open", lambda *_: '<div class="table"><table>')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>")
    content = markdown.render(body)  # tags in its text are escaped, so that only real tags are replaced below
    for part, anchor in anchors.items():
        content = content.replace(f"<h2>{part}</h2>", f'<h2 id="{anchor}">{part}</h2>')
    for name in pictures:
        data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        content = content.replace(f'<img src="{name}.png"', f'<img src="data:image/png;base64,{data}"')
    page = Template((Path(__file__).parent / "templates" / "page.html").read_text(encoding="utf-8"))
    html = page.substitute(title=markdown.renderInline(title), contents=markdown.render(contents), body=content)
    write_text(folder / "report.html", html)
    write_text(folder / "report.md", f"# {title}\n\n{contents}\n{body}")
    return [folder / "report.html", folder / "report.md"]

"""Documents with figures, rendered from one Markdown template to a Markdown file and to a self-contained HTML page."""

import base64
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.figure import Figure

from digit_recognizer.console import Step
from digit_recognizer.evaluation.figures import save_png
from digit_recognizer.evaluation.tables import format_setting
from digit_recognizer.files import write_text

COMPOSED = 0.6  # fraction of the work that is done when a document is composed; drawing and writing remain
PICTURE = r"!\[.*\]\((\w+)\.png\)"


@pass_eval_context
def _escape_markdown(context: EvalContext, value: Any) -> Any:
    """Escape a value of a Markdown template; Jinja2 itself escapes those of an HTML template."""
    if context.autoescape:
        return value
    return re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", re.sub(r"\s+", " ", str(value)))


TEMPLATES = Environment(
    loader=PackageLoader("digit_recognizer.evaluation"),
    autoescape=select_autoescape(["html.jinja"]),
    finalize=_escape_markdown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(
    percent=lambda value, digits=2: f"{value:.{digits}%}",
    number=lambda value, digits=0: f"{value:,.{digits}f}",
    duration=lambda value: f"{value // 60:.0f} min {value % 60:.0f} s" if value >= 60 else f"{value:.0f} s",
    setting=format_setting,
)


class Document(NamedTuple):
    """A document in Markdown and its figures."""

    title: str  # Markdown
    markdown: str  # below the title; its parts begin with "## ", pictures are ![alternative text](name.png)
    figures: dict[str, Figure]  # by name, without .png


def compose(template: str, facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> Document:
    """Fill in a Markdown template.

    Values are escaped: text from a file cannot become Markdown or HTML. Unused figures are left out.

    Args:
        template: File name; its first line is the title, "# ...".
        facts: Variables of the template.
        figures: Figures by name, without .png.

    Raises:
        jinja2.UndefinedError: The template uses a variable that is not in `facts`.
    """
    text = re.sub(r"\n{3,}", "\n\n", TEMPLATES.get_template(template).render(facts))
    title, markdown = text.removeprefix("# ").split("\n", 1)
    return Document(title, markdown.strip(), {name: figures[name] for name in re.findall(PICTURE, markdown)})


def write_document(document: Document, folder: Path, step: Step) -> list[Path]:
    """Write report.html, which needs no other file, and report.md with its pictures beside it.

    Pictures that only the folder's earlier report.md shows are deleted; other files are left alone.

    Args:
        document: The document to write.
        folder: Folder of the files; created if it is missing.
        step: Progress callback; fractions start at `COMPOSED`.

    Returns:
        The paths of report.html and report.md.
    """
    page, source = folder / "report.html", folder / "report.md"
    earlier = re.findall(PICTURE, source.read_text(encoding="utf-8")) if source.exists() else []
    for index, (name, figure) in enumerate(document.figures.items()):
        step(f"drawing {name}", COMPOSED + (0.9 - COMPOSED) * index / len(document.figures))
        save_png(figure, folder / f"{name}.png")
    step("writing the page", 0.9)
    contents = "\n".join(f"- [{part}](#{_anchor(part)})" for part in re.findall("^## (.+)", document.markdown, re.M))
    write_text(page, to_html(document, folder))
    write_text(source, f"# {document.title}\n\n{contents}\n\n{document.markdown}\n")
    for name in set(earlier) - document.figures.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
    return [page, source]


def to_html(document: Document, folder: Path) -> str:
    """Render a document as an HTML page with its pictures inside.

    Args:
        document: The document to render.
        folder: Folder of its pictures as PNG files.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("table_open", lambda *_: '<div class="table"><table>')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>")
    tokens = markdown.parse(document.markdown)
    parts = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.tag == "h2":
            parts.append((_anchor(inline.content), Markup(markdown.renderInline(inline.content))))  # noqa: S704
            opening.attrSet("id", parts[-1][0])
        images = [child for child in inline.children or () if child.type == "image"]
        if images:
            opening.attrSet("class", "pictures")
        for image in images:
            png = (folder / str(image.attrs["src"])).read_bytes()
            image.attrSet("src", "data:image/png;base64," + base64.b64encode(png).decode())
    body = Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704
    title = Markup(markdown.renderInline(document.title))  # noqa: S704
    return TEMPLATES.get_template("page.html.jinja").render(title=title, parts=parts, body=body)


def _anchor(heading: str) -> str:
    """Return the fragment that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")

"""Documents with figures, rendered from one Markdown template to a Markdown file and to a self-contained HTML page."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from digit_recognizer.console import Step
from digit_recognizer.evaluation.figures import save_png
from digit_recognizer.files import write_text

GALLERY_SIZE = 30  # images in a gallery; gallery_size in the templates
PICTURE = r"!\[.*\]\((\w+)\.png\)"


@pass_eval_context
def _escape_markdown(context: EvalContext, value: Any) -> Any:
    """Escape a value of a Markdown template; Jinja2 itself escapes those of an HTML template."""
    if context.autoescape:
        return value
    return re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", re.sub(r"\s+", " ", str(value)))


def format_setting(value: Any) -> str:
    """Return a setting from a record as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not recorded" if value is None else str(value)


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
    counted=lambda count, noun: f"{count:,} {noun}{'' if count == 1 else 's'}",
    setting=format_setting,
)
TEMPLATES.globals["gallery_size"] = GALLERY_SIZE


class Document(NamedTuple):
    """A document in Markdown and its figures."""

    title: str  # Markdown
    markdown: str  # below the title; its parts begin with "## ", pictures are ![alternative text](name.png)
    figures: dict[str, Figure]  # by name, without .png


def compose(template: str, facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> Document:
    """Fill in a Markdown template, whose first line is the title, "# ...".

    Values are escaped: text from a file cannot become Markdown or HTML. Figures that are not shown are left out.

    Raises:
        jinja2.UndefinedError: The template uses a variable that is not in `facts`.
    """
    text = re.sub(r"\n{3,}", "\n\n", TEMPLATES.get_template(template).render(facts))
    title, markdown = text.removeprefix("# ").split("\n", 1)
    return Document(title, markdown.strip(), {name: figures[name] for name in re.findall(PICTURE, markdown)})


def write_document(document: Document, folder: Path, step: Step) -> list[Path]:
    """Write report.html, which needs no other file, and report.md with its pictures beside it; return both paths.

    Pictures that only the folder's earlier report.md shows are deleted; other files are left alone. Composing the
    document is counted as the first 60% of the progress.
    """
    page, source = folder / "report.html", folder / "report.md"
    earlier = re.findall(PICTURE, source.read_text(encoding="utf-8")) if source.exists() else []
    for index, (name, figure) in enumerate(document.figures.items()):
        step(f"drawing {name}", 0.6 + 0.3 * index / len(document.figures))
        save_png(figure, folder / f"{name}.png")
    step("writing the page", 0.9)
    parts = re.findall("^## (.+)", document.markdown, re.MULTILINE)
    anchors = {part: re.sub(r"[^\w -]", "", part.lower()).replace(" ", "-") for part in parts}  # as GitHub's
    contents = "\n".join(f"- [{part}](#{anchor})" for part, anchor in anchors.items())
    write_text(page, _to_html(document, contents, anchors, folder))
    write_text(source, f"# {document.title}\n\n{contents}\n\n{document.markdown}\n")
    for name in set(earlier) - document.figures.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
    return [page, source]


def _to_html(document: Document, contents: str, anchors: Mapping[str, str], folder: Path) -> str:
    """Render a document as an HTML page; its pictures are read from PNG files in the folder."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("table_open", lambda *_: '<div class="table"><table>')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>")
    body = markdown.render(document.markdown)  # tags in its text are escaped, so that only real tags are replaced below
    for part, anchor in anchors.items():
        body = body.replace(f"<h2>{part}</h2>", f'<h2 id="{anchor}">{part}</h2>')
    for name in document.figures:
        data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        body = body.replace(f'<img src="{name}.png"', f'<img src="data:image/png;base64,{data}"')
    title, contents = markdown.renderInline(document.title), markdown.render(contents)
    return TEMPLATES.get_template("page.html.jinja").render(title=title, contents=contents, body=body)

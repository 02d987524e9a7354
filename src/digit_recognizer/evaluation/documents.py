"""Documents: Markdown out of templates, and pages out of that Markdown, so that there is one source of prose."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.figure import Figure

from digit_recognizer.console import Step
from digit_recognizer.evaluation import figures
from digit_recognizer.files import write_text

COMPOSED = 0.6  # share of a report's time until it is composed; the rest goes into drawing and writing
VECTOR_LIMIT = 400_000  # characters of SVG; what is larger goes into a page as PNG


class Section(NamedTuple):
    """A part of a document."""

    title: str
    markdown: str  # what stands below the title; a picture is ![alternative text](name.png)

    @property
    def anchor(self) -> str:
        """What GitHub's links to this heading end in."""
        return re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")


class Document(NamedTuple):
    """A report as data, for a page, a README or a notebook."""

    title: str
    sections: list[Section]
    pictures: dict[str, Figure]  # by name, without .png


def compose(template: str, facts: Mapping[str, Any], pictures: dict[str, Figure]) -> Document:
    """Fills in a template of Markdown and takes it apart at its headings.

    Values are escaped, so that no name out of a file can become Markdown or HTML.

    Args:
        template: its name; its first line is the title, "# ...", and each part begins with "## ...".
        facts: what it is filled with.
        pictures: what it may show; those that it does not are left out.
    """
    text = _environment(_markdown_value).get_template(template).render(facts, pictures=pictures)
    text = re.sub(r"\n{3,}", "\n\n", text)
    title, *parts = re.split(r"^##? (.+)\n", text, flags=re.MULTILINE)[1:]
    shown = {name: figure for name, figure in pictures.items() if f"]({name}.png)" in text}
    titles, bodies = parts[1::2], parts[2::2]
    return Document(title, [Section(*pair) for pair in zip(titles, map(str.strip, bodies), strict=True)], shown)


def split_at_pictures(document: Document) -> Iterator[str | Figure]:
    """Yields the parts of a document as Markdown, and the pictures where they stand in it, for a notebook to show."""
    for section in document.sections:
        text, *rest = re.split(r"!\[.*?\]\((\w+)\.png\)", f"## {section.title}\n\n{section.markdown}")
        yield text
        for name, following in zip(rest[::2], rest[1::2], strict=True):
            yield document.pictures[name]
            if following.strip():
                yield following


def write_document(document: Document, folder: Path, step: Step) -> list[Path]:
    """Writes report.html, one file with all in it, and report.md with its pictures beside it.

    Args:
        document: what to write.
        folder: where to; pictures of an earlier document are deleted.
        step: is told of every file, from `COMPOSED` on.

    Returns:
        The two files.
    """
    for index, (name, figure) in enumerate(document.pictures.items()):
        step(f"drawing {name}", COMPOSED + (0.9 - COMPOSED) * index / len(document.pictures))
        figures.save_png(figure, folder / f"{name}.png")
    for path in folder.glob("*.png"):
        if path.stem not in document.pictures:
            path.unlink()
    contents = "\n".join(f"- [{section.title}](#{section.anchor})" for section in document.sections)
    parts = [f"## {section.title}\n\n{section.markdown}" for section in document.sections]
    write_text(folder / "report.md", "\n\n".join([f"# {document.title}", contents, *parts]) + "\n")
    step("writing the page", 0.9)
    write_text(folder / "report.html", to_html(document, folder))
    return [folder / "report.html", folder / "report.md"]


def to_html(document: Document, folder: Path) -> str:
    """Returns a document as a page that needs no other file.

    Args:
        document: what to show.
        folder: of its pictures as PNG files.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(renderer: Any, tokens: list[Any], index: int, options: Any, env: Any) -> str:
        name = Path(tokens[index].attrs["src"]).stem
        alternative = escape(renderer.renderInlineAsText(tokens[index].children, options, env))
        svg = figures.to_svg(document.pictures[name], name)
        if len(svg) <= VECTOR_LIMIT:
            return svg.replace("<svg ", f'<svg role="img" aria-label="{alternative}" ', 1)
        png = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        return f'<img alt="{alternative}" src="data:image/png;base64,{png}">'

    markdown.add_render_rule("image", image)
    markdown.add_render_rule("table_open", lambda *_: '<div class="table"><table>')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>")
    bodies = []
    for section in document.sections:
        tokens = markdown.parse(section.markdown)
        for opening, inline in pairwise(tokens):
            if {child.type for child in inline.children or ()} in ({"image"}, {"image", "softbreak"}):
                opening.attrSet("class", "pictures")
        bodies.append(Markup(markdown.renderer.render(tokens, markdown.options, {})))  # noqa: S704
    page = _environment(None).get_template("page.html.jinja")
    title = Markup(markdown.renderInline(document.title))  # noqa: S704
    return page.render(title=title, parts=list(zip(document.sections, bodies, strict=True)))


def _environment(finalize: Callable[[Any], Any] | None) -> Environment:
    environment = Environment(
        loader=PackageLoader("digit_recognizer.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters |= {
        "percent": lambda value, digits=2: f"{value:.{digits}%}",
        "number": lambda value, digits=0: f"{value:,.{digits}f}",
        "duration": lambda value: f"{value // 60:.0f} min {value % 60:.0f} s" if value >= 60 else f"{value:.0f} s",
        "code": lambda value: Markup("`{}`").format(Markup(re.sub(r"[`|\s]+", " ", str(value)))),  # noqa: S704
    }
    return environment


def _markdown_value(value: Any) -> Any:
    """Returns a value as text of one line in which neither Markdown nor HTML means anything."""
    if hasattr(value, "__html__"):
        return value
    text = re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", re.sub(r"\s+", " ", str(value)))
    return Markup(text)  # noqa: S704

"""Documents: Markdown and HTML from one template, with escaped values."""

import base64
import re

import numpy as np
import pages
import pytest
from jinja2 import ChoiceLoader, DictLoader, PackageLoader
from markdown_it import MarkdownIt

from digit_recognizer.evaluation import documents, figures

HOSTILE = "a|b *c* _d_ `e` [f](javascript:g) <script>h</script> ![i](j.png) # k\n\n## l & $m$ \\"


@pytest.fixture
def render(monkeypatch):
    """Fill in the text of a template."""

    def run(text, **facts):
        loader = ChoiceLoader([DictLoader({"t.md": text}), PackageLoader("digit_recognizer.evaluation")])
        monkeypatch.setattr(documents, "TEMPLATES", documents.TEMPLATES.overlay(loader=loader))
        return documents.render("t.md", facts)

    return run


def draw_picture():
    return figures.draw_gallery([np.zeros((28, 28), np.uint8)], ["title"])


def write(text, folder, pictures=()):
    steps = []
    html, markdown = documents.write_document(text, dict(pictures), folder, lambda *step: steps.append(step))
    return html.read_text(), markdown.read_text(), steps


def test_values_are_never_markup(render, tmp_path):
    text = "# {{ x }}\n\n## S\n\n| {{ x }} | a |\n|---|---|\n| {{ x }} | b |\n\n{{ x }}\n"
    html, markdown, _ = write(render(text, x=HOSTILE), tmp_path)
    page = pages.read(html)
    assert not page.named("script") + page.named("img") + page.named("em")
    assert len(page.named("a")) == len(page.named("h1")) == len(page.named("h2")) == 1
    assert [len(page.named(tag)) for tag in ("th", "td")] == [2, 2]
    assert page.text.count(" ".join(HOSTILE.split())) == 5  # <title> is one of them
    rendered = MarkdownIt("commonmark").enable("table").render(markdown)
    assert not re.search("<script|<img|<em|javascript:", rendered.replace("(javascript:g)", ""))


def test_html_in_a_document_is_text(tmp_path):
    page = pages.read(write("# T\n\n## S\n\n<script>x</script> <b>y</b>\n", tmp_path)[0])
    assert not page.named("script") + page.named("b")
    assert "<script>x</script> <b>y</b>" in page.text


def test_pictures_are_beside_the_markdown_and_inside_the_page(render, tmp_path):
    text = render("# T\n\n## S\n\n![A {{ a }}](one.png)\n![B](two.png)\n", a='"x" <b>]')
    html, markdown, steps = write(text, tmp_path, {name: draw_picture() for name in ("one", "two", "unused")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "report.html", "report.md", "two.png"]
    assert re.findall(r"!\[(.+)\]\((.+)\)", markdown) == [(r'A "x" \<b\>\]', "one.png"), ("B", "two.png")]
    images = pages.read(html).named("img")
    assert [image["alt"] for image in images] == ['A "x" <b>]', "B"]
    data = base64.b64encode((tmp_path / "one.png").read_bytes()).decode()
    assert images[0]["src"] == f"data:image/png;base64,{data}"
    assert [done for _, done in steps] == sorted(done for _, done in steps)


def test_the_contents_link_to_the_parts(tmp_path):
    html, markdown, _ = write("# T\n\n## 1 A, b\n\nx\n\n## 2 C\n\ny\n", tmp_path)
    assert markdown == "# T\n\n- [1 A, b](#1-a-b)\n- [2 C](#2-c)\n\n## 1 A, b\n\nx\n\n## 2 C\n\ny\n"
    page = pages.read(html)
    assert [link["href"] for link in page.named("a")] == ["#1-a-b", "#2-c"]
    assert [heading["id"] for heading in page.named("h2")] == ["1-a-b", "2-c"]


def test_a_failure_leaves_the_earlier_document(tmp_path):
    earlier = write("# Old\n\n## S\n\nx\n", tmp_path)[:2]
    with pytest.raises(AttributeError):
        write("# New\n\n## S\n\n![A](none.png)\n", tmp_path, {"none": None})
    assert tuple((tmp_path / name).read_text() for name in ("report.html", "report.md")) == earlier

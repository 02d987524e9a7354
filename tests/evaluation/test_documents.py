"""Documents: one Markdown, two faces of it, and nothing in a value that becomes markup."""

import re

import numpy as np
import pages
import pytest
from jinja2 import ChoiceLoader, DictLoader, PackageLoader
from jinja2.exceptions import UndefinedError
from markdown_it import MarkdownIt

from digit_recognizer.evaluation import documents, figures
from digit_recognizer.evaluation.documents import Document, Section

HOSTILE = "a|b *c* _d_ `e` [f](javascript:g) <script>h</script> ![i](j) # k\n\n## l & $m$ \\"


@pytest.fixture
def compose(monkeypatch):
    """Composes a document out of the text of a template."""

    def run(text, pictures=(), **facts):
        monkeypatch.setattr(
            documents, "PackageLoader", lambda name: ChoiceLoader([DictLoader({"t": text}), PackageLoader(name)])
        )
        return documents.compose("t", facts, dict(pictures))

    return run


def picture():
    return figures.draw_gallery([np.zeros((28, 28), np.uint8)], ["title"])


def write(document, folder):
    steps = []
    html, markdown = documents.write_document(document, folder, lambda *step: steps.append(step))
    return html.read_text(), markdown.read_text(), steps


def test_a_template_is_taken_apart_at_its_headings(compose):
    document = compose("# Title {{ n }}\n\n## 1 One\n\ntext\n\n### below\n\nmore\n\n\n\n## 2 Two, three\n\nend\n", n=7)
    assert document.title == "Title 7"
    assert document.sections == [Section("1 One", "text\n\n### below\n\nmore"), Section("2 Two, three", "end")]
    assert [section.anchor for section in document.sections] == ["1-one", "2-two-three"]


def test_no_value_becomes_markup(compose, tmp_path):
    document = compose(
        "# T\n\n## S\n\n| {{ x }} | a |\n|---|---|\n| {{ x }} | b |\n\n{{ x }} and {{ x | code }}\n", x=HOSTILE
    )
    html, markdown, _ = write(document, tmp_path)
    page = pages.read(html)
    assert not page.named("script") + page.named("img") + page.named("em")
    assert len(page.named("a")) == len(page.named("section")) == 1
    assert [len(page.named(tag)) for tag in ("th", "td")] == [2, 2]
    assert page.text.count(" ".join(HOSTILE.split())) == 3
    assert MarkdownIt("commonmark").enable("table").render(markdown).count("<script") == 0


def test_html_in_markdown_is_text(tmp_path):
    page = pages.read(documents.to_html(Document("T", [Section("S", "<script>x</script> <b>y</b>")], {}), tmp_path))
    assert not page.named("script") + page.named("b")
    assert "<script>x</script> <b>y</b>" in page.text


def test_a_value_that_is_missing_is_an_error_not_a_gap(compose):
    with pytest.raises(UndefinedError):
        compose("# T\n\n## S\n\n{{ nothing }}\n")


def test_numbers_are_written_for_people(compose):
    text = "{{ 0.98765 | percent }}; {{ 0.5 | percent(0) }}; {{ 12345 | number }}; {{ 1.26 | number(1) }}"
    text += "; {{ 59 | duration }}; {{ 754.4 | duration }}"
    (section,) = compose(f"# T\n\n## S\n\n{text}\n").sections
    assert section.markdown == "98.77%; 50%; 12,345; 1.3; 59 s; 12 min 34 s"


def test_pictures_lie_beside_the_markdown_and_inside_of_the_page(compose, tmp_path):
    (tmp_path / "earlier.png").write_bytes(b"")
    document = compose(
        "# T\n\n## S\n\n![A {{ a }}](one.png)\n![B](two.png)\n",
        {"one": picture(), "two": picture(), "unused": picture()},
        a='"x"',
    )
    html, markdown, steps = write(document, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "report.html", "report.md", "two.png"]
    assert re.findall(r"!\[([^\]]+)\]\((.+)\)", markdown) == [('A "x"', "one.png"), ("B", "two.png")]
    page = pages.read(html)
    assert [(svg["role"], svg["aria-label"]) for svg in page.named("svg")] == [("img", 'A "x"'), ("img", "B")]
    assert {"class": "pictures"} in page.named("p")
    assert not page.named("img")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [done for _, done in steps] == sorted(done for _, done in steps)
    assert 0.6 <= steps[0][1] <= steps[-1][1] < 1


def test_a_large_picture_goes_into_the_page_as_png(compose, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "VECTOR_LIMIT", 100)
    html, _, _ = write(compose("# T\n\n## S\n\n![A <b>](one.png)\n", {"one": picture()}), tmp_path)
    (image,) = pages.read(html).named("img")
    assert image["alt"] == "A <b>"
    assert image["src"].startswith("data:image/png;base64,iVBOR")


def test_the_contents_lead_to_the_parts(compose, tmp_path):
    html, markdown, _ = write(compose("# T\n\n## 1 A, b\n\nx\n\n## 2 C\n\ny\n"), tmp_path)
    assert "- [1 A, b](#1-a-b)\n- [2 C](#2-c)\n" in markdown
    page = pages.read(html)
    assert [link["href"] for link in page.named("a")] == ["#1-a-b", "#2-c"]
    assert [section["id"] for section in page.named("section")] == ["1-a-b", "2-c"]


def test_a_page_that_cannot_be_made_leaves_the_earlier_one(compose, tmp_path):
    write(compose("# Old\n\n## S\n\nx\n"), tmp_path)
    broken = Document("New", [Section("S", "![A](missing.png)")], {})
    with pytest.raises(KeyError):
        documents.write_document(broken, tmp_path, lambda *_: None)
    assert "<h1>Old</h1>" in (tmp_path / "report.html").read_text()


def test_a_notebook_gets_text_and_pictures_in_their_order():
    picture = figures.draw_lines({"line": [np.array([1.0, 2.0])]}, "value")
    text = "One.\n\n![a picture (of [x])](one.png)\n![another](one.png)\n\nTwo."
    document = Document("T", [Section("1 A", text), Section("2 B", "Three.")], {"one": picture})
    shown = list(documents.split_at_pictures(document))
    assert [part for part in shown if isinstance(part, str)] == ["## 1 A\n\nOne.\n\n", "\n\nTwo.", "## 2 B\n\nThree."]
    assert [part is picture for part in shown] == [False, True, True, False, False]

"""A parser for tests of HTML pages."""

from html.parser import HTMLParser


class _Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        """Return the attributes of all elements with a tag."""
        return [attributes for name, attributes in self.elements if name == tag]


def read(html):
    """Parse a page; its `elements` are pairs of tag and attributes."""
    page = _Page()
    page.feed(html)
    return page

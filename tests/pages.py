"""HTML taken apart."""

from html.parser import HTMLParser


class _Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        """Returns the attributes of each element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


def read(html):
    """Returns a page whose `elements` are pairs of name and attributes."""
    page = _Page()
    page.feed(html)
    return page

"""Drawing on the page in a browser."""

from digit_recognizer.handwriting import sample_digits


def draw(page, digit, *, left=0.3, top=0.12, size=0.75):
    """Draw a digit with the mouse; left and top are fractions of the paper, size is a fraction of its height."""
    paper = page.locator("#pad").bounding_box()
    side = size * paper["height"]
    for stroke in sample_digits.STROKES[digit]:
        for index, point in enumerate(stroke.split()):
            x, y = (float(value) / 100 for value in point.split(","))
            page.mouse.move(
                paper["x"] + left * paper["width"] + x * side, paper["y"] + top * paper["height"] + y * side, steps=5
            )
            if index == 0:
                page.mouse.down()
        page.mouse.up()


def expect_answer(page, text):
    from playwright.sync_api import expect  # not installed by `make setup`

    expect(page.locator("#answer")).to_have_text(text, timeout=15_000)


def brightness(canvas):
    """Return the mean red level of a canvas."""
    return canvas.evaluate(
        """canvas => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, at) => at % 4 === 0).reduce((sum, value) => sum + value) * 4 / data.length; }"""
    )

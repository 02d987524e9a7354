"""The page in Debian's Chromium, with the network of the package."""

import base64
import csv
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import brightness, draw, expect_answer
from hostile import HOSTILE

from digit_recognizer.handwriting import sample_digits

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-browser")

pytestmark = pytest.mark.browser

CONTROLS = ["undo", "clear", "width", "file", "explain", *(f"Save as {digit}" for digit in range(10)), "number", "save"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "data"


@pytest.fixture(scope="module")
def address(data_dir):
    """Return the page's address; at the end Ctrl+C must stop the server without a message."""
    script = Path(sys.executable).with_name("digit-recognizer")
    server = subprocess.Popen(
        [script, "draw", "--no-browser", "--port=0", f"--data-dir={data_dir}"],
        cwd=data_dir.parent,  # without a run
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where pytest inherited that
    )
    try:
        line = server.stdout.readline()
        found = re.fullmatch(r"Draw at (http://127\.0\.0\.1:\d+/) \(press Ctrl\+C to stop\)\n", line)
        assert found, line
        assert server.stdout.readline().startswith("Read by the network of the package (single, ")
        yield found[1]
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=20) == ("", "")
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def open_page(open_address, address):
    def open_page(**settings):
        page = open_address(address, **settings)
        playwright.expect(page.locator("#message")).to_have_text("Draw a digit to start")
        return page

    return open_page


def status(page):
    return page.locator("#status").inner_text()


def picture_of(digit):
    return cv2.imencode(".png", sample_digits.draw_digits()[digit][..., ::-1])[1].tobytes()


def give(page, event, *, name, content):
    """Paste or drop a file."""
    page.evaluate(
        """([event, name, content]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            const given = event === "paste"
                ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
                : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.getElementById("paper").dispatchEvent(given);
        }""",
        [event, name, base64.b64encode(content).decode()],
    )


def test_drawn_digits_are_read(open_page):
    page = open_page()
    playwright.expect(page.locator("#networks")).to_contain_text("Read by the network of the package (single, ")
    answers = {}
    for digit in range(10):
        draw(page, digit)
        playwright.expect(page.locator("#result")).to_have_attribute("aria-busy", "false", timeout=15_000)
        answers[digit] = page.locator("#answer").inner_text()
        page.get_by_role("button", name="Clear").click()
        playwright.expect(page.locator("#message")).to_have_text("Draw a digit to start")
    assert sum(answer == str(digit) for digit, answer in answers.items()) >= 8, answers


def test_digits_are_predicted_while_a_stroke_is_drawn(open_page):
    page = open_page()
    under_way, counts = set(), []

    def begin(request):
        if request.url.endswith("/read?width=320"):
            under_way.add(request)
            counts.append(len(under_way))

    page.on("request", begin)
    page.on("requestfinished", lambda request: under_way.discard(request))
    paper = page.locator("#pad").bounding_box()
    page.mouse.move(paper["x"] + 250, paper["y"] + 80)
    page.mouse.down()
    for step in range(100):
        page.mouse.move(paper["x"] + 250, paper["y"] + 80 + 2 * step)
        page.wait_for_timeout(10)
    expect_answer(page, "1")  # the button is still down
    assert page.locator("#bars li").nth(1).get_attribute("class") == "first"
    page.mouse.up()
    page.wait_for_timeout(500)
    assert len(counts) >= 3
    assert set(counts) == {1}  # one request at a time


def test_several_digits(open_page):
    page = open_page()
    for index, digit in enumerate((2, 0, 3)):
        draw(page, digit, left=0.03 + 0.32 * index, top=0.3, size=0.4)
    expect_answer(page, "203")
    page.wait_for_selector("#result[aria-busy=false]")  # the boxes of a last answer replace those before
    cards = page.locator("#digits button")
    assert cards.all_inner_texts() == ["2", "0", "3"]
    assert all(brightness(card) > 10 for card in cards.locator("canvas").all())
    assert page.locator("#picture text").all_text_contents() == ["2", "0", "3"]
    boxes = [box.bounding_box() for box in page.locator("#picture rect").all()]
    paper = page.locator("#pad").bounding_box()
    assert [round((box["x"] - paper["x"]) / paper["width"] / 0.32) for box in boxes] == [0, 1, 2]
    assert all(0.3 < box["height"] / paper["height"] < 0.4 for box in boxes)
    cards.nth(0).click()
    assert cards.nth(0).get_attribute("aria-pressed") == "true"
    assert page.locator("#bars .first > :first-child").inner_text() == "2"


def test_undo_and_clear(open_page):
    page = open_page()
    assert page.locator("#undo").is_disabled()
    draw(page, 3, left=0.03, top=0.3, size=0.4)
    expect_answer(page, "3")
    draw(page, 2, left=0.6, top=0.3, size=0.4)
    expect_answer(page, "32")
    page.keyboard.press("Control+z")
    expect_answer(page, "3")
    page.keyboard.press("Escape")
    expect_answer(page, "")
    page.locator("#undo").click()  # gives back what Clear took
    expect_answer(page, "3")
    page.keyboard.press("Delete")
    page.wait_for_timeout(500)
    expect_answer(page, "")
    assert page.locator("#message").inner_text() == "Draw a digit to start"
    assert page.locator("#explain").is_disabled()
    assert brightness(page.locator("#seen")) == 0


@pytest.mark.parametrize("way", ["paste", "drop", "choose"])
def test_an_image_is_shown_and_read(open_page, way):
    page = open_page()
    draw(page, 3)
    expect_answer(page, "3")
    if way == "choose":
        page.set_input_files("#file", {"name": "two.png", "mimeType": "image/png", "buffer": picture_of(2)})
    else:
        give(page, way, name="two.png", content=picture_of(2))
    expect_answer(page, "2")
    assert page.locator("#picture").is_visible()
    assert page.locator("#picture rect").count() == 1
    assert page.locator("#picture text").text_content() == "2"
    assert float(page.locator("#picture rect").get_attribute("height")) > 70
    page.locator("#undo").click()  # restores the drawing
    expect_answer(page, "3")
    playwright.expect(page.locator("#picture image")).to_have_count(0)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(open_page, name):
    page = open_page()
    give(page, "drop", name=name, content=HOSTILE[name])
    playwright.expect(page.locator("#status.bad")).to_have_text(re.compile("^(expected an image|the image has more)"))
    assert "\n" not in status(page)
    assert page.title() == "Draw a digit"
    draw(page, 2)  # the page still works
    expect_answer(page, "2")
    assert status(page) == ""


def test_large_files_and_text_are_refused_in_one_line(open_page):
    page = open_page()
    page.set_input_files("#file", {"name": "big.png", "mimeType": "image/png", "buffer": bytes(20_000_001)})
    playwright.expect(page.locator("#status.bad")).to_have_text(re.compile("^expected a picture of at most 20 MB"))
    page.evaluate(
        """() => { const clipboardData = new DataTransfer(); clipboardData.setData("text/plain", "a text");
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData })); }"""
    )
    playwright.expect(page.locator("#status.bad")).to_have_text(re.compile("^expected a picture, received something"))


def test_a_label_saves_the_drawing(open_page, data_dir):
    page = open_page()
    assert page.get_by_role("button", name="Save as 7").is_disabled()
    draw(page, 7)
    page.get_by_role("button", name="Save as 7").click()
    playwright.expect(page.locator("#status")).to_have_text(re.compile(r"^Saved as .*\.png with the label 7\.$"))
    path = Path(re.search(r"Saved as (.*\.png)", status(page))[1])
    page.keyboard.press("Shift+Digit1")
    playwright.expect(page.locator("#status")).to_have_text(re.compile(r"with the label 1\.$"))
    page.get_by_role("button", name="Save as 9").focus()
    page.keyboard.press("4")
    playwright.expect(page.locator("#status")).to_have_text(re.compile(r"with the label 4\.$"))
    with (data_dir / "handwriting" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[-3:]
    assert [row["label"] for row in rows] == ["7", "1", "4"]
    assert rows[0]["path"] == path.name
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    assert image.shape == (480, 640)
    assert image[0, 0] == 255
    assert 0.01 < (image < 128).mean() < 0.2


def test_a_drawing_of_several_digits_needs_the_label_of_all(open_page, data_dir):
    page = open_page()
    for index, digit in enumerate((2, 3)):
        draw(page, digit, left=0.05 + 0.5 * index, top=0.3, size=0.4)
    expect_answer(page, "23")
    assert page.get_by_role("button", name="Save as 2").is_disabled()
    page.keyboard.press("Shift+Digit2")
    playwright.expect(page.locator("#status.bad")).to_have_text("found 2 digits; enter the label of all of them")
    page.keyboard.type("23")  # into the field, which has the focus
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#status")).to_have_text(re.compile(r"with the label 23\.$"))
    assert (data_dir / "handwriting" / "labels.csv").read_text().endswith(".png,23\n")
    page.locator("#number").fill("")
    page.locator("#save").click()
    playwright.expect(page.locator("#status.bad")).to_have_text("expected a label of 1 to 20 digits, received ''")


def test_a_key_pressed_before_the_answer_waits_for_the_number_of_digits(open_page):
    page = open_page()
    draw(page, 2, left=0.05, top=0.3, size=0.4)
    expect_answer(page, "2")
    page.route("**/read?*", lambda route: (page.wait_for_timeout(500), route.continue_()))
    draw(page, 3, left=0.55, top=0.3, size=0.4)
    page.keyboard.press("Shift+Digit2")
    playwright.expect(page.locator("#status.bad")).to_have_text("found 2 digits; enter the label of all of them")


def test_every_control_has_a_name_and_is_reached_by_tab(open_page):
    page = open_page()
    draw(page, 2)
    expect_answer(page, "2")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in CONTROLS:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
        outline = "e => [e, e.parentElement].some(a => getComputedStyle(a).outlineStyle === 'solid')"
        assert page.evaluate_handle("document.activeElement").evaluate(outline), reached[-1]
    assert reached == CONTROLS
    for role, name in [("button", "Undo"), ("button", "Clear"), ("slider", "Stroke width"), ("group", "It was a …")]:
        assert page.get_by_role(role, name=name, exact=True).count() == 1
    assert page.get_by_label("Open image").count() == 1


def test_on_a_phone_with_a_finger(open_page):
    phone = {"width": 390, "height": 700}
    page = open_page(viewport=phone, has_touch=True, is_mobile=True, device_scale_factor=3)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    paper = page.locator("#pad").bounding_box()
    finger = page.context.new_cdp_session(page)
    x = paper["x"] + 0.5 * paper["width"]
    for kind, share in [("Start", 0.15), *(("Move", 0.15 + 0.03 * step) for step in range(1, 23)), ("End", None)]:
        points = [] if share is None else [{"x": x, "y": paper["y"] + share * paper["height"]}]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    expect_answer(page, "1")
    assert page.evaluate("scrollY") == 0  # the finger drew and did not scroll
    assert page.locator("#answer").bounding_box()["y"] < phone["height"]
    page.set_viewport_size({"width": 700, "height": 390})  # turned round
    page.set_viewport_size(phone)
    draw(page, 2, left=0.55, top=0.2, size=0.5)
    expect_answer(page, "12")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_an_answer_has_probabilities_and_is_explained_on_demand(open_page):
    page = open_page()
    draw(page, 3)
    expect_answer(page, "3")
    shares = [float(text.rstrip("%")) for text in page.locator("#bars li > :last-child").all_inner_texts()]
    assert len(shares) == 11  # the last is the probability of no digit
    assert sum(shares) == pytest.approx(100, abs=0.6)  # each is rounded
    assert shares[3] == max(shares)
    playwright.expect(page.locator("#spoken")).to_contain_text("3")
    explain = page.get_by_role("button", name="Explain")
    colours = """canvas => { const { data } = canvas.getContext("2d").getImageData(0, 0, 28, 28);
        return data.filter((value, at) => at % 4 === 0 && value !== data[at + 2]).length; }"""
    assert page.locator("#seen").evaluate(colours) == 0
    explain.click()
    playwright.expect(page.locator("#why")).to_have_text(
        re.compile(
            r"^Orange speaks for 3, blue against it\. "
            r"(Removing any single part does not change the answer|Without the brightest part it is a \d)\.$"
        )
    )
    assert page.locator("#seen").evaluate(colours) > 20
    explain.click()
    playwright.expect(page.locator("#why")).to_have_text(re.compile("^Network input"))
    assert page.locator("#seen").evaluate(colours) == 0


def test_the_page_can_be_installed_as_an_app(open_page):
    page = open_page()
    found = page.context.new_cdp_session(page).send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [error for error in found if error["errorId"] != "in-incognito"] == []


def test_in_dark_mode_the_paper_only_looks_dark(open_page, data_dir):
    page = open_page(color_scheme="dark")
    colour = "element => getComputedStyle(element).backgroundColor"
    for place in ("body", "#paper"):
        assert int(re.search(r"\d+", page.locator(place).evaluate(colour))[0]) < 40
    seen = cv2.imdecode(np.frombuffer(page.locator("#pad").screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.median(seen) < 40
    draw(page, 2)
    expect_answer(page, "2")
    page.keyboard.press("Shift+Digit2")
    playwright.expect(page.locator("#status")).to_have_text(re.compile(r"with the label 2\.$"))
    saved = cv2.imread(max((data_dir / "handwriting").glob("*.png")), cv2.IMREAD_GRAYSCALE)
    assert (np.median(saved), saved.min() < 50) == (255, True)

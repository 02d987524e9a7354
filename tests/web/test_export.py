"""The page as static files: what is written, and in Debian's Chromium its answers, which are those of Python."""

import base64
import errno
import functools
import json
import os
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from drawing import brightness, draw, expect_answer

from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import detector, normalisation, reader, sample_digits
from digit_recognizer.model.bundled import load_bundled
from digit_recognizer.web import export

READ = """async (gray) => {
    const { readDrawing } = await import("./backend.js");
    const result = await readDrawing(Uint8Array.from(atob(gray), (byte) => byte.charCodeAt(0)), 320);
    return { ...result, digits: result.digits.map((digit) => ({ ...digit, pixels: [...digit.pixels] })) };
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported page with the network of the package."""
    folder = tmp_path_factory.mktemp("export") / "page"
    export.export_page(None, folder)
    return folder


def test_the_files_name_no_other_host(folder):
    for path in folder.glob("*.*"):
        if path.suffix in (".html", ".js", ".css", ".json", ".webmanifest"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|url\(|@import", text), path
    assert "connect-src 'self'" in (folder / "index.html").read_text()


def test_all_weights_are_written(folder):
    weights = load_bundled().get_weights()
    assert (folder / "network.bin").stat().st_size == 2 * sum(one.size for one in weights)
    (network,) = json.loads((folder / "network.json").read_text())["networks"]
    assert [tuple(shape) for layer in network["shapes"] for shape in layer] == [one.shape for one in weights]


def test_an_export_replaces_an_earlier_one(folder, tmp_path):
    page = tmp_path / "page"
    shutil.copytree(folder, page)
    (page / "index.html").write_text("cut")
    export.export_page(None, page)
    assert (page / "index.html").read_text() == (folder / "index.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


@pytest.mark.parametrize("name", ["index.html", "notes.txt"])
@pytest.mark.parametrize("is_export", [False, True])
def test_a_folder_with_other_files_is_refused_and_unchanged(folder, tmp_path, name, is_export):
    page = tmp_path / "page"
    if is_export:
        shutil.copytree(folder, page)
        name = f"vendor/{name}"
    page.mkdir(exist_ok=True)
    (page / name).write_text("own")
    before = sorted(page.rglob("*"))
    with pytest.raises(UserError, match=f"page is not an export of the page: it has {name}; choose another folder"):
        export.export_page(None, page)
    assert (sorted(page.rglob("*")), (page / name).read_text()) == (before, "own")
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_an_export_that_cannot_be_finished_leaves_the_earlier_one(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    page = tmp_path / "page"
    shutil.copytree(folder, page)
    before = {path: path.read_bytes() for path in page.rglob("*.*")}
    monkeypatch.setattr(export, "write_json", fail)
    with pytest.raises(OSError, match="No space left"):
        export.export_page(None, page)
    assert {path: path.read_bytes() for path in page.rglob("*.*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_a_layer_that_the_page_cannot_compute_is_refused(tmp_path, monkeypatch):
    with hide_native_messages():
        import keras

    network = keras.Sequential([keras.layers.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model = keras.Model(network.inputs, network.outputs)
    monkeypatch.setattr(reader, "load_networks", lambda run_dir: (1.0, [model]))
    with pytest.raises(UserError, match=r"^the exported page cannot compute Flatten, only Add, .*; `make draw` and"):
        export.export_page(None, tmp_path / "page")
    assert not (tmp_path / "page").exists()


@pytest.fixture(scope="module")
def address(folder):
    """The address of a plain server of static files."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    handler.func.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(open_address, address):
    page = open_address(address)
    page.locator("#networks").filter(has_text="Read by").wait_for()
    return page


def make_drawing(text, random):
    """Draw digits with a pen: uint8 [240, 320], dark on white."""
    canvas, size = np.full((960, 1280), 255, np.uint8), random.uniform(280, 320 if len(text) > 1 else 700)
    for index, digit in enumerate(text):
        slant = np.array([[0.85, random.normal(0, 0.1)], [0, 1]])
        place = (index + 0.5) * 1280 / len(text), 480 + random.normal(0, 20)
        for stroke in sample_digits.STROKES[int(digit)]:
            points = np.array([point.split(",") for point in stroke.split()], float) / 100 - 0.5
            line = (points @ slant.T * size + place).astype(np.int32)
            cv2.polylines(canvas, [line], False, 22, int(random.uniform(0.03, 0.13) * size), cv2.LINE_AA)
    return cv2.resize(canvas, (320, 240), interpolation=cv2.INTER_AREA)


@pytest.mark.browser
def test_the_answers_are_those_of_python(page):
    classify, detect, random = reader.load_classifier(None), detector.load_detector(), np.random.default_rng(0)
    texts = [*"0123456789", "203", "4159", "86", "77", "1111", "360"]
    drawings = [make_drawing(text, random) for text in texts]
    readings = reader.read_pictures(drawings, classify, detect)
    pixels, probabilities = [], []
    for text, drawing, reading in zip(texts, drawings, readings, strict=True):
        found = page.evaluate(READ, base64.b64encode(drawing.tobytes()).decode())
        assert (found["text"], len(found["digits"])) == (reading.text, len(text))
        for own, digit in zip(found["digits"], reading.digits, strict=True):
            image = np.array(own["pixels"], np.uint8).reshape(28, 28)
            pixels.append(np.abs(image - digit.image.astype(float)).mean())
            expected = classify(normalisation.make_variants(image)).mean(axis=0)
            probabilities.append(np.abs(expected - own["probabilities"]).max())
            assert np.abs(np.array(own["box"]) - digit.box).max() <= 3
    assert np.mean(pixels) < 1.5  # gray levels, of 255
    assert max(probabilities) < 0.01


@pytest.mark.browser
def test_digits_are_drawn_read_marked_and_explained_without_a_server(page):
    for index, digit in enumerate((2, 0, 3)):
        draw(page, digit, left=0.03 + 0.32 * index, top=0.3, size=0.4)
    expect_answer(page, "203")
    assert page.locator("#picture rect").count() == 3
    assert brightness(page.locator("#seen")) > 10
    page.get_by_role("button", name="Explain").click()
    page.locator("#why").filter(has_text="Orange speaks for 3, blue against it. ").wait_for()
    page.keyboard.press("Escape")
    expect_answer(page, "")


@pytest.mark.browser
def test_what_needs_a_server_is_hidden_or_refused_in_one_line(page):
    assert page.locator("#labelling").is_hidden()
    assert page.locator("#open").is_hidden()
    assert "do not touch" in page.locator("#networks").inner_text()
    draw(page, 2)
    expect_answer(page, "2")
    page.keyboard.press("Shift+Digit2")  # saves the drawing where there is a server
    page.wait_for_timeout(300)
    assert page.locator("#status").inner_text() == ""
    page.evaluate(
        """() => { const clipboardData = new DataTransfer(); clipboardData.items.add(new File(["x"], "x.png"));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData })); }"""
    )
    assert page.locator("#status").inner_text() == (
        "this page reads what is drawn on it only; `make draw` and `make predict` read pictures"
    )

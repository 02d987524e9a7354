"""Record docs/draw.gif: digits are drawn on the page of `make draw`, which reads them.

Run as `python -m benchmarks.animate_page`, with Playwright (`make test-browser` installs it) and Debian's Chromium. The
answers are those of the network of the package, or of the latest run.
"""

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from digit_recognizer.handwriting.sample_digits import STROKES, parse_stroke, round_corners

TARGET = Path(__file__).parents[1] / "docs" / "draw.gif"
KIT = sys.executable, "-m", "digit_recognizer"
VIEWPORT, SCALE = {"width": 960, "height": 624}, 2 / 3  # CSS pixels, and pixels of the animation for each
DIGITS = (4, 7, 2)
STEP = 0.055  # of a digit's height, drawn between two frames
SIZE, LEFT, TOP = 0.45, 0.01, 0.28  # of a digit, as fractions of the paper's height, width and height
FRAME, PAUSE, END = 60, 500, 2500  # milliseconds: a frame, after a digit, at the end
COLOURS = 64


@contextlib.contextmanager
def serve_page(*options: str) -> Iterator[str]:
    """Serve the page during the block; yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*KIT, "draw", "--no-browser", "--port=0", f"--data-dir={folder}", *options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield server.stdout.readline().split()[2] if server.stdout else ""
        finally:
            server.kill()
            server.wait()


def find_points(stroke: str) -> np.ndarray:
    """Return points along a stroke of `STROKES`, one for each frame: float64 [n, 2], as fractions of the side."""
    corners = round_corners(parse_stroke(stroke)) / 100
    lengths = np.append(0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1)))
    places = np.linspace(0, lengths[-1], max(2, round(lengths[-1] / STEP)))
    return np.stack([np.interp(places, lengths, axis) for axis in corners.T], axis=1)


def record(page: Page) -> list[tuple[Image.Image, int]]:
    """Draw the digits with the mouse; return pictures of the page, each with its duration in milliseconds."""
    paper = page.locator("#pad").bounding_box()
    if paper is None:
        raise RuntimeError("the page has no canvas")
    frames = []

    def shoot(duration: int) -> None:
        page.locator("#result[aria-busy=false]").wait_for()
        frames.append((Image.open(io.BytesIO(page.screenshot())).convert("RGB"), duration))

    shoot(PAUSE)
    side = SIZE * paper["height"]
    for number, digit in enumerate(DIGITS):
        corner = paper["x"] + (LEFT + 0.32 * number) * paper["width"], paper["y"] + TOP * paper["height"]
        for stroke in STROKES[digit]:
            for index, (x, y) in enumerate(find_points(stroke) * side + corner):
                page.mouse.move(x, y)
                if index == 0:
                    page.mouse.down()
                shoot(FRAME)
            page.mouse.up()
        shoot(PAUSE)
    page.mouse.move(0, 0)
    shoot(END)
    return frames


def main() -> None:
    """Record the animation and write it as GIF."""
    with serve_page() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT, device_scale_factor=SCALE, color_scheme="light")
        page.goto(address)
        page.locator("#networks").filter(has_text="Read by").wait_for()
        frames = record(page)
        browser.close()
    palette = frames[-1][0].quantize(COLOURS)  # one for all, so that unchanged parts stay equal
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in frames]
    durations = [duration for _, duration in frames]
    pictures[0].save(TARGET, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)
    print(f"{TARGET}: {len(frames)} frames, {sum(durations) / 1000:.1f} s, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

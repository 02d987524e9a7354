"""Make the pictures in docs/ from a trained run; the screenshots need Debian's Chromium.

Run as `python -m benchmarks.make_pictures` after `make train`; benchmarks/animate_page.py makes the animation.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.animate_page import KIT, serve_page
from digit_recognizer.handwriting import sample_digits
from digit_recognizer.training.run_folder import find_run

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = ("accuracy", "confusion_matrix", "mistakes")
NOTE = ("2026", "1127")  # rows of digits in the picture of `make predict`
INK = (20, 30, 90)  # RGB
SCREENS = {"desktop": (1280, 1060), "phone": (390, 844)}  # width, height in pixels


def make_note() -> np.ndarray:
    """Return a picture of rows of digits on shaded, grainy paper: uint8 [h, w, 3], RGB."""
    digits = sample_digits.draw_digits()
    ink = 1 - np.vstack([np.hstack([digits[int(digit)] for digit in row]) for row in NOTE]) / 255
    height, width = ink.shape[:2]
    shade = np.linspace(225, 150, width)[np.newaxis, :, np.newaxis] + np.linspace(-25, 15, height)[:, None, None]
    paper = shade + np.random.default_rng(0).normal(0, 4, (height, width, 1))
    return ((1 - ink) * paper + ink * INK).clip(0, 255).astype(np.uint8)


def draw_digit(page: Page, digit: int, left: float) -> None:
    """Draw a digit on the drawing page with the mouse; `left` is a fraction of the paper's width."""
    paper = page.locator("#pad").bounding_box()
    if paper is None:
        raise RuntimeError("expected a canvas on the page, found none")
    side = 0.45 * paper["height"]
    start, top = paper["x"] + left * paper["width"], paper["y"] + 0.28 * paper["height"]
    for stroke in sample_digits.STROKES[digit]:
        for index, point in enumerate(stroke.split()):
            x, y = (float(value) / 100 * side for value in point.split(","))
            page.mouse.move(start + x, top + y, steps=8)
            if index == 0:
                page.mouse.down()
        page.mouse.up()


@click.command()
@click.option("--run", help="Name of the run; by default the latest.")
@click.option("--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of train.csv and test.csv.")
def main(run: str | None, data_dir: Path) -> None:
    """Make the pictures in docs/ from a trained run in models/; they are also in predictions/ and reports/."""
    run_dir = find_run(Path("models"), run)
    options = f"--run={run_dir.name}", f"--data-dir={data_dir}"
    subprocess.run([*KIT, "evaluate", *options], check=True, stdout=subprocess.DEVNULL)
    for name in FIGURES:
        shutil.copy(run_dir / "figures" / f"{name}.png", DOCS)
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note.jpg"
        cv2.imwrite(str(note), make_note()[..., ::-1])
        subprocess.run([*KIT, "predict", note, options[0]], check=True)
    shutil.copy("predictions/001-note.png", DOCS / "predict.png")
    subprocess.run([*KIT, "report", *options], check=True)
    with sync_playwright() as playwright, serve_page(options[0]) as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(Path("reports", run_dir.name, "report.html").absolute().as_uri())
            page.screenshot(path=DOCS / f"report-{name}.png")
        for name in ("draw", "draw-dark"):
            page = browser.new_page(viewport={"width": 1100, "height": 790})
            page.emulate_media(color_scheme="dark" if name == "draw-dark" else "light")
            page.goto(address)
            for index, digit in enumerate((2, 0, 3)):
                draw_digit(page, digit, 0.02 + 0.32 * index)
            page.get_by_role("button", name="Explain").click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(2000)
            page.screenshot(path=DOCS / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()

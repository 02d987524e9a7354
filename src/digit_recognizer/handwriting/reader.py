"""Locate the digits in a picture with the detector, then classify each glyph with the networks of a run."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES, REFUSE
from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation.metrics import apply_temperature, fit_temperature
from digit_recognizer.handwriting import binarisation, detector, normalisation, segmentation
from digit_recognizer.handwriting.detector import Detect, Detection
from digit_recognizer.handwriting.resolution import Scaled, adapt_resolution
from digit_recognizer.handwriting.sample_digits import draw_digits
from digit_recognizer.handwriting.segmentation import Component
from digit_recognizer.model.bundled import load_bundled, read_bundled_record
from digit_recognizer.training import run_folder

CONFIDENT = 0.9  # fraction of the foreground explained by digits above which no other binarisation is tried
MIN_CONTRAST = 0.1  # relative to the paper's brightness; below it is the grain of the paper
MIN_SHADOW = 0.95  # fraction of a side that a shadow covers: of several sides, or of one and parts of two others
MAX_STROKE_RATIO = 0.34  # stroke width over the longer side; above it, a component is a blot


class Digit:
    """A digit in a picture."""

    def __init__(self, probabilities: np.ndarray, box: tuple[int, ...], image: np.ndarray) -> None:
        """Choose the most probable of the ten digits."""
        self.probabilities = probabilities  # float [10]; 1 minus their sum is the probability that it is not a digit
        self.digit, self.probability = int(probabilities.argmax()), float(probabilities.max())
        self.box = box  # x, y, width, height in pixels
        self.image = image  # uint8 [28, 28], the input of the classifier


class Reading:
    """The digits in a picture."""

    def __init__(self, rows: list[list[Digit]]) -> None:
        """Summarise lines from the top, with the digits of each from the left; no rows mean a refusal."""
        self.rows = rows
        self.digits = [digit for row in rows for digit in row]
        self.text = "\n".join("".join(str(digit.digit) for digit in row) for row in rows)
        self.probability = min((digit.probability for digit in self.digits), default=0.0)  # of the least certain digit


Classify = Callable[[np.ndarray], np.ndarray]  # uint8 [n, 28, 28] -> probabilities, float [n, 10]
Read = Callable[[Sequence[np.ndarray]], list[Reading]]  # pictures, uint8 [h, w, 3] RGB or [h, w] gray


class Glyph(NamedTuple):
    """The strokes of one detected digit."""

    component: Component
    x: float  # column of its centre in the picture
    probabilities: np.ndarray  # float [10], by the detector
    is_whole: bool  # False if it was cut from its neighbours through strokes


def make_reader(classify: Classify, refuse: float = REFUSE) -> Read:
    """Load the detector, combine it with a classifier, and run each once; see `read_pictures` for `refuse`."""
    read = partial(read_pictures, classify=classify, detect=detector.load_detector(), refuse=refuse)
    read(draw_digits())
    return read


def load_classifier(run_dir: Path | None) -> Classify:
    """Compile the networks of `load_networks`."""
    temperature, networks = load_networks(run_dir)
    from digit_recognizer.model.prediction import make_predictor

    predict = make_predictor(networks)
    return lambda images: apply_temperature(predict(images), temperature)


def load_networks(run_dir: Path | None) -> tuple[float, list[Any]]:
    """Load the networks of a finished run, or of the package if it is None, each a `keras.Model`.

    Returns:
        The temperature of their mean probabilities, fitted to the out-of-fold predictions; the networks.
    """
    with hide_native_messages():
        from digit_recognizer.model.prediction import load_network

    if run_dir is None:
        return read_bundled_record()["temperature"], [load_bundled()]
    run_folder.read_finished_record(run_dir)
    _, labels, probabilities = run_folder.read_predictions(run_dir)
    if np.isnan(probabilities).any():
        raise UserError(f"the predictions in {run_dir} are nan: its training diverged; train with another SEED=")
    networks = [load_network(folder / "model.keras") for folder in run_folder.member_dirs(run_dir)]
    return fit_temperature(labels, probabilities), networks


def choose_networks(models_dir: Path, run: str | None) -> Path | None:
    """Return the folder of a run, see `find_run`; None, the network of the package, if none is named or trained."""
    return run_folder.find_run(models_dir, run) if run else run_folder.find_latest(models_dir)


def name_networks(run_dir: Path | None) -> str:
    """Return the name of what `load_classifier` loads."""
    if run_dir is not None:
        return run_dir.name
    record = read_bundled_record()
    made = f"{record['config']['preset']}, validation accuracy {record['validation_accuracy']:.2%}"
    return f"the network of the package ({made}); a run of `make train` takes its place"


def read_pictures(
    pictures: Sequence[np.ndarray], classify: Classify, detect: Detect, refuse: float = REFUSE
) -> list[Reading]:
    """Read pictures, uint8 [h, w, 3] RGB or [h, w] gray; digits less probable than `refuse` are left out."""
    views = [adapt_resolution(picture) for picture in pictures]
    lines_of_pictures = _find_glyphs([view.picture for view in views], detect)
    glyphs = [glyph for lines in lines_of_pictures for line in lines for glyph in line]
    images = [normalisation.normalise_digit(glyph.component.foreground) for glyph in glyphs]
    variants = [normalisation.make_variants(image) for image in images]
    predictions = classify(np.concatenate(variants)).reshape(len(images), -1, CLASSES).mean(axis=1) if images else ()
    classified = zip(images, predictions, strict=True)
    readings = []
    for lines, picture, view in zip(lines_of_pictures, pictures, views, strict=True):
        digits = [[_make_digit(glyph, *next(classified), view, picture.shape) for glyph in line] for line in lines]
        readings.append(refuse_below(refuse, Reading(digits)))
    return readings


def refuse_below(probability: float, reading: Reading) -> Reading:
    """Return a reading without the digits that are less probable."""
    kept = [[digit for digit in row if digit.probability >= probability] for row in reading.rows]
    return Reading([row for row in kept if row])


def _make_digit(glyph: Glyph, image: np.ndarray, classified: np.ndarray, view: Scaled, shape: tuple[int, ...]) -> Digit:
    """Average the networks' probabilities; of a glyph that was cut, only the detector has seen all strokes."""
    strokes, _, detected, is_whole = glyph
    presence = detected.sum()
    if view.is_enlarged:  # strokes of few pixels are too blurred for the detector to be sure that they are a digit
        presence = (1 + presence) / 2
    probabilities = (classified * presence + detected) / 2 if is_whole else detected
    ends = np.array([(strokes.x, strokes.y), (strokes.right, strokes.bottom)]) * view.scale + view.corner
    (left, top), (right, bottom) = ends.round().astype(int).clip(0, shape[1::-1]).tolist()
    return Digit(probabilities, (left, top, right - left, bottom - top), image)


def _find_glyphs(pictures: Sequence[np.ndarray], detect: Detect) -> list[list[list[Glyph]]]:
    """Return the lines of glyphs in each picture, from the binarisation whose foreground the digits explain best."""
    grays = [picture if picture.ndim == 2 else binarisation.to_gray(picture) for picture in pictures]
    candidates = [binarisation.propose_settings(gray) for gray in grays]
    best: list[tuple[float, list[list[Glyph]]]] = [(0.0, [])] * len(pictures)
    for attempt in range(max(map(len, candidates), default=0)):
        undecided = [i for i, settings in enumerate(candidates) if attempt < len(settings) and best[i][0] <= CONFIDENT]
        segmented = [_segment(grays[i], candidates[i][attempt]) for i in undecided]
        images = [detector.render_line(line) for lines, *_ in segmented for line in lines]
        detections = iter(detector.detect_digits(images, detect))
        for i, (lines, total, border) in zip(undecided, segmented, strict=True):
            height = segmentation.find_typical_height([component for line in lines for component in line])
            glyphs = [line for part in lines if (line := _make_glyphs(part, next(detections), height))]
            explained = sum(glyph.component.mass * glyph.probabilities.max() for line in glyphs for glyph in line)
            quality = explained / max(total, 1e-9) * candidates[i][attempt].prior * (1 - border)
            if quality > best[i][0]:
                best[i] = quality, glyphs
    return [lines for _, lines in best]


def _segment(
    gray: np.ndarray, settings: binarisation.BinarisationSettings
) -> tuple[list[list[Component]], float, float]:
    """Return the lines of components, the mass of the foreground, and the fraction of the border that they cover."""
    foreground = binarisation.extract_foreground(gray, settings)
    if foreground.max() < MIN_CONTRAST:
        return [], 0.0, 0.0
    components, total = segmentation.find_components(foreground)
    sides = np.array([_measure_border(component, gray.shape) for component in components]).reshape(-1, 4)
    covered = np.count_nonzero(sides > MIN_SHADOW, axis=1)
    is_shadow = (covered > 1) | ((covered == 1) & (np.count_nonzero(sides, axis=1) == 3))
    kept = [component for component, shadow in zip(components, is_shadow, strict=True) if not shadow]
    return segmentation.group_lines(kept), total, min(1.0, float(sides[~is_shadow].mean(axis=1).sum()))


def _measure_border(component: Component, shape: tuple[int, ...]) -> list[float]:
    """Return the fractions of the four sides of the picture that a component covers."""
    filled = np.zeros(shape, bool)
    filled[component.y : component.bottom, component.x : component.right] = component.foreground > 0
    return [float(side.mean()) for side in (filled[0], filled[-1], filled[:, 0], filled[:, -1])]


def _make_glyphs(line: list[Component], detections: list[Detection], picture_height: float) -> list[Glyph]:
    """Make a glyph of the strokes around each detection: split components with several, merge those without any."""
    height = segmentation.find_typical_height(line)
    lefts, widths = np.array([(component.x, component.width) for component in line]).T
    reach = (widths - 0.8 * height).clip(0) / 2  # wide components can have several centres
    inside: dict[int, list[Detection]] = {}
    for x, probabilities in detections:
        distances = (np.abs(x - lefts - widths / 2) - reach).clip(0)
        inside.setdefault(int(distances.argmin()), []).append((x, probabilities))
    glyphs: list[Glyph] = []
    for index, own in inside.items():
        if len(own) == 2 and own[1][0] - own[0][0] < min(0.25 * height, widths[index] - 0.6 * height):
            own = [max(own, key=lambda detection: detection[1].sum())]  # a long flag of one digit
        parts = segmentation.split_at(line[index], [x for x, _ in own])
        glyphs += [Glyph(part, *detection, whole) for (part, whole), detection in zip(parts, own, strict=True)]
    for component in (line[index] for index in range(len(line)) if glyphs and index not in inside):
        gaps = [max(near.x, component.x) - min(near.right, component.right) for near, *_ in glyphs]
        nearest = int(np.argmin(gaps))
        merged = segmentation.merge(glyphs[nearest].component, component)
        if gaps[nearest] < 0.25 * height and merged.width < 1.3 * height:
            glyphs[nearest] = glyphs[nearest]._replace(component=merged)
    digits = [glyph for glyph in glyphs if _is_digit(glyph, picture_height)]
    return adjust_by_line_context(sorted(digits, key=lambda glyph: glyph.x))


def adjust_by_line_context(glyphs: list[Glyph]) -> list[Glyph]:
    """Multiply the odds that each glyph is a digit by those of a line with the others: digits stand among digits.

    The odds of a line are (digits + 1) / (others + 1), by Laplace's rule of succession.
    """
    presences = np.array([glyph.probabilities.sum() for glyph in glyphs]).clip(1e-6, 1 - 1e-6)
    digits = presences.sum() - presences
    odds = presences / (1 - presences) * (digits + 1) / (len(glyphs) - digits)
    weights = odds / (1 + odds) / presences
    return [one._replace(probabilities=one.probabilities * by) for one, by in zip(glyphs, weights, strict=True)]


def _is_digit(glyph: Glyph, picture_height: float) -> bool:
    """Return whether a glyph has strokes and, if it was not cut, is neither too low nor a blot."""
    strokes = glyph.component.foreground
    if strokes.max() == 0 or not glyph.is_whole:
        return bool(strokes.max() > 0)
    stroke_width = normalisation.measure_stroke_width(strokes / strokes.max())
    return len(strokes) > 0.4 * picture_height and stroke_width <= MAX_STROKE_RATIO * max(strokes.shape)

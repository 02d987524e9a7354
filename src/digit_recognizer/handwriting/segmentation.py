"""Erase margins and ruled lines, find the connected components, group them into lines, split touching digits.

A `foreground` is a soft map from `binarisation`: float32 [h, w] in [0, 1], 0 on paper.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from digit_recognizer.handwriting.binarisation import apply_hysteresis_threshold, find_threshold
from digit_recognizer.handwriting.normalisation import measure_stroke_width

SPLIT_HEIGHT = 48  # pixels to which a component is scaled before it is split
MAX_CUT = 1.0  # foreground, summed over the pixels of a seam, of digits that do not touch
STEP_COST = 0.1  # foreground that a diagonal step of a seam is worth
MAX_COMPONENTS = 200  # a picture with more is a texture; only the largest are used


class Component:
    """Connected strokes within their bounding box."""

    def __init__(self, x: int, y: int, foreground: np.ndarray) -> None:
        """Measure a foreground whose top left corner is at x, y, in pixels of the picture."""
        self.foreground = foreground
        self.height, self.width = foreground.shape
        self.x, self.y, self.right, self.bottom = x, y, x + self.width, y + self.height
        self.mass = float(foreground.sum())


def find_components(foreground: np.ndarray) -> tuple[list[Component], float]:
    """Return the connected components without specks, the largest first, and the mass of everything found."""
    foreground = remove_ruled_lines(remove_margins(foreground))
    mask = apply_hysteresis_threshold(foreground)
    reach = round(measure_stroke_width(mask) * 0.5)  # bridges the gaps of broken strokes
    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    labels[~mask] = 0
    sizes = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    largest = np.argsort(sizes)[::-1][:MAX_COMPONENTS]
    chosen = 1 + largest[sizes[largest] >= max(4, 0.1 * sizes.max(initial=0))]
    components = [_extract_component(foreground, labels, index, stats[index]) for index in chosen]
    specks = stats[1:, cv2.CC_STAT_AREA].sum() - stats[chosen, cv2.CC_STAT_AREA].sum()
    return components, sum(component.mass for component in components) + float(specks)


def _extract_component(foreground: np.ndarray, labels: np.ndarray, index: int, stats: np.ndarray) -> Component:
    """Cut out a component with its soft edge; rescale its strokes to about 1 and the paper around it to 0."""
    x, y, width, height = stats[:4].tolist()
    left, top = max(0, x - 2), max(0, y - 2)  # the soft edge has 2 pixels
    window = np.s_[top : y + height + 2, left : x + width + 2]
    own, values = (labels[window] == index).astype(np.uint8), foreground[window]
    full = float(np.percentile(values[own > 0], 60))
    floor = 0.05 if max(width, height) <= 40 else 0.25
    around = cv2.dilate(own, np.ones((5, 5), np.uint8))
    return trim(left, top, ((values / full - floor) / (1 - floor)).clip(0, 1) * around)


def find_typical_height(components: Sequence[Component]) -> float:
    """Return the median height of components weighted by their mass, in pixels; 0 without components."""
    ordered = sorted(components, key=lambda component: component.height)
    masses = np.cumsum([component.mass for component in ordered])
    return float(ordered[int(np.searchsorted(masses, masses[-1] / 2))].height) if ordered else 0.0


def group_lines(components: Sequence[Component]) -> list[list[Component]]:
    """Return the lines of components, from the top, each from the left; small components are dropped."""
    height = find_typical_height(components)
    large = [component for component in components if max(component.foreground.shape) >= 0.25 * height]
    merged: list[Component] = []
    for component in sorted(large, key=lambda component: -component.mass):
        below = next((part for part in merged if _are_stacked(component, part, height)), None)
        if below:
            merged[merged.index(below)] = merge(below, component)
        else:
            merged.append(component)
    lines: list[list[Component]] = []
    placed: list[tuple[Component, list[Component]]] = []  # each component with its line
    for component in sorted(merged, key=lambda component: component.x + component.width / 2):
        line: list[Component] = next((line for other, line in reversed(placed) if _are_level(other, component)), [])
        if not line:
            lines.append(line)
        line.append(component)
        placed.append((component, line))
    return sorted(lines, key=lambda line: np.mean([component.y + component.height / 2 for component in line]))


def _are_level(a: Component, b: Component) -> bool:
    return min(a.bottom, b.bottom) - max(a.y, b.y) >= 0.4 * min(a.height, b.height)


def _are_stacked(a: Component, b: Component, height: float) -> bool:
    """Return whether components above each other have the height of one digit together, such as a 5 and its bar."""
    overlap = min(a.right, b.right) - max(a.x, b.x)
    gap = max(a.y, b.y) - min(a.bottom, b.bottom)
    total = max(a.bottom, b.bottom) - min(a.y, b.y)
    return overlap >= 0.5 * min(a.width, b.width) and gap <= 0.3 * height and total <= 1.6 * height


def split_at(component: Component, centres: Sequence[float]) -> list[tuple[Component, bool]]:
    """Split a component of touching digits between their centres (ascending columns of the picture), one part for each.

    With each part comes whether it is whole: the cuts on both of its sides go through no stroke.

    Each cut follows the path from top to bottom with the least foreground (the dynamic programme of seam carving,
    Avidan and Shamir 2007, doi:10.1145/1276377.1276390).
    """
    if len(centres) == 1:
        return [(component, True)]
    factor = SPLIT_HEIGHT / component.height
    size = max(3, round(component.width * factor)), SPLIT_HEIGHT
    small = cv2.resize(component.foreground, size, interpolation=cv2.INTER_AREA)
    rows, columns = np.arange(component.height) * SPLIT_HEIGHT // component.height, np.arange(component.width)
    part_of = np.zeros(component.foreground.shape, int)
    x = np.array(centres) - component.x
    clean = [True]
    for middle, reach in zip((x[:-1] + x[1:]) / 2, np.diff(x) / 2, strict=True):
        seam = _find_seam(small, middle * factor, reach * factor)
        part_of += columns >= seam[rows][:, np.newaxis] / factor
        clean.append(bool(small[np.arange(SPLIT_HEIGHT), seam].sum() < MAX_CUT))
    clean.append(True)
    strokes = [np.where(part_of == index, component.foreground, 0) for index in range(len(centres))]
    parts = [trim(component.x, component.y, part) for part in strokes]
    return [(part, all(sides)) for part, sides in zip(parts, pairwise(clean), strict=True)]


def _find_seam(small: np.ndarray, target: float, reach: float) -> np.ndarray:
    """Return the path of least foreground within `reach` columns of `target`: int64 [h], a column per row."""
    columns = np.unique(np.arange(round(target - reach), round(target + reach) + 1).clip(0, small.shape[1] - 1))
    distance_cost = 0.01 * np.abs(columns - target)
    total, steps = small[0, columns] + distance_cost, []
    for row in small[1:]:
        choices = np.stack([np.append(np.inf, total[:-1]) + STEP_COST, total, np.append(total[1:], np.inf) + STEP_COST])
        steps.append(choices.argmin(axis=0) - 1)
        total = choices.min(axis=0) + row[columns] + distance_cost
    path = [int(total.argmin())]
    for step in reversed(steps):
        path.append(path[-1] + step[path[-1]])
    return columns[path[::-1]]


def trim(x: int, y: int, foreground: np.ndarray) -> Component:
    """Return the component of a foreground whose corner is at x, y, without empty edges unless all of it is empty."""
    left, top, width, height = cv2.boundingRect((foreground > 0.1).astype(np.uint8))
    if not width:
        return Component(x, y, foreground)
    return Component(x + left, y + top, foreground[top : top + height, left : left + width])


def merge(a: Component, b: Component) -> Component:
    """Return two components as one."""
    left, top = min(a.x, b.x), min(a.y, b.y)
    right, bottom = max(a.right, b.right), max(a.bottom, b.bottom)
    margins = [((part.y - top, bottom - part.bottom), (part.x - left, right - part.right)) for part in (a, b)]
    return Component(left, top, np.maximum(np.pad(a.foreground, margins[0]), np.pad(b.foreground, margins[1])))


def remove_margins(foreground: np.ndarray) -> np.ndarray:
    """Erase table tops, shadows and scanner lids that reach into the picture along its border.

    A component that touches the border with a third of its outline, beside others of some size, is not a stroke.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((foreground > 0.1).astype(np.uint8), connectivity=8)
    border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    size = stats[:, cv2.CC_STAT_WIDTH] + stats[:, cv2.CC_STAT_HEIGHT]
    is_margin = np.bincount(border, minlength=count) > 0.35 * size
    is_other = ~is_margin & (size > max(20, 0.06 * sum(foreground.shape)))
    is_margin[0] = is_other[0] = False
    erased = np.where(cv2.dilate(is_margin[labels].astype(np.uint8), np.ones((5, 5))) > 0, 0, foreground)
    return erased if is_other.any() else foreground


def remove_ruled_lines(foreground: np.ndarray) -> np.ndarray:
    """Erase the lines of ruled and squared paper, but not the strokes that cross them."""
    rest = _remove_horizontal_lines(_remove_horizontal_lines(foreground).T).T
    # Where hardly anything remains, the straight lines were strokes: a 1 or a 7.
    enough = apply_hysteresis_threshold(rest).sum() > 0.1 * apply_hysteresis_threshold(foreground).sum()
    return rest if enough else foreground


def _remove_horizontal_lines(foreground: np.ndarray) -> np.ndarray:
    """Erase lines within 18 degrees of level (Hough transform, Duda and Hart 1972, doi:10.1145/361237.361242)."""
    if min(foreground.shape) < 60:
        return foreground
    factor = min(1, 400 / max(foreground.shape))
    small = cv2.resize(foreground, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    mask = (small > 0.4 * find_threshold(small)).astype(np.uint8)
    lines = cv2.HoughLines(mask, 1, np.pi / 720, int(0.5 * mask.shape[1]), min_theta=np.pi * 0.4, max_theta=np.pi * 0.6)
    erased: list[np.ndarray] = []
    for rho, theta in lines[:100, 0] if lines is not None else ():
        heights = (rho - np.arange(mask.shape[1]) * np.cos(theta)) / np.sin(theta)
        is_new = all(np.abs(heights - earlier).min() >= 4 for earlier in erased)
        if is_new and (thickness := _measure_ruled_line(mask, heights)):
            erased.append(heights)
            foreground = _erase_line(foreground, rho / factor, theta, thickness / factor)
    return foreground


def _measure_ruled_line(mask: np.ndarray, heights: np.ndarray) -> float:
    """Return the thickness in pixels of a line at `heights` (float [w], a row per column), 0 if it is not ruled."""
    rows = np.round(heights).astype(int)
    columns = np.flatnonzero((rows >= 2) & (rows < mask.shape[0] - 2))
    rows = rows[columns]
    hit = (mask[rows, columns] | mask[rows - 1, columns] | mask[rows + 1, columns]) > 0
    edge = len(hit) // 12
    if len(columns) < 0.8 * mask.shape[1] or hit.mean() < 0.7 or not (hit[:edge].any() and hit[-edge:].any()):
        return 0.0  # strokes do not reach from edge to edge
    around = (rows + np.arange(-12, 13)[:, None]).clip(0, mask.shape[0] - 1)
    thickness = float(np.median(mask[around, columns].sum(axis=0)[hit]))
    return thickness if thickness <= 6 else 0.0


def _erase_line(foreground: np.ndarray, rho: float, theta: float, thickness: float) -> np.ndarray:
    """Erase a line in normal form (pixels, radians), except where there are strokes both above and below it."""
    height, width = foreground.shape
    reach = int(np.ceil(thickness)) + 1
    heights = (rho - np.arange(width) * np.cos(theta)) / np.sin(theta)
    band = np.abs(np.arange(height)[:, None] - heights) <= thickness / 2 + 1
    wide = np.pad(cv2.dilate(foreground, np.ones((1, 2 * reach + 1), np.uint8)), ((reach, reach), (0, 0)))
    crossing = np.minimum(wide[: -2 * reach], wide[2 * reach :])
    return np.where(band, np.minimum(crossing, foreground), foreground)

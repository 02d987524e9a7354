"""Erase what is not writing from a foreground map: margins and ruled lines.

In this module `foreground` is a soft map from `binarisation`: float32 [h, w] in [0, 1], 0 on paper.
"""

import cv2
import numpy as np

from digit_recognizer.handwriting.binarisation import apply_hysteresis_threshold, find_threshold


def remove_margins(foreground: np.ndarray) -> np.ndarray:
    """Erase table tops, shadows and scanner lids that reach into the picture along its border.

    A stroke touches the border with its end, or fills a tight crop alone. A component that touches the border with a
    third of its outline, beside others of some size, is not a stroke.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((foreground > 0.1).astype(np.uint8), connectivity=8)
    border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    size = stats[:, cv2.CC_STAT_WIDTH] + stats[:, cv2.CC_STAT_HEIGHT]
    is_margin = np.bincount(border, minlength=count) > 0.35 * size
    is_other = ~is_margin & (size > max(20, 0.06 * sum(foreground.shape)))
    is_margin[0] = is_other[0] = False
    if not is_margin.any() or not is_other.any():
        return foreground
    return np.where(cv2.dilate(is_margin[labels].astype(np.uint8), np.ones((5, 5))) > 0, 0, foreground)


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
    found = cv2.HoughLines(mask, 1, np.pi / 720, int(0.5 * mask.shape[1]), min_theta=np.pi * 0.4, max_theta=np.pi * 0.6)
    erased: list[np.ndarray] = []
    for rho, theta in found[:100, 0] if found is not None else ():
        heights = (rho - np.arange(mask.shape[1]) * np.cos(theta)) / np.sin(theta)
        if any(np.abs(heights - other).min() < 4 for other in erased):
            continue
        thickness = _measure_ruled_line(mask, heights)
        if thickness:
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

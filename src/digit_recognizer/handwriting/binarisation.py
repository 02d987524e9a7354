"""Separate the strokes of a picture from its paper by local contrast, also under uneven light."""

from typing import NamedTuple

import cv2
import numpy as np

OVERVIEW_SIDE = 200  # pixels of the longer side at which polarity and stroke size are estimated
WINDOWS = (3, 5, 7, 9, 13, 17, 25, 35, 49, 69, 97)  # pixels of the overview: candidate sides of the paper window
MIN_SEPARABILITY = 0.9  # part of the variance between dark and light pixels in a picture of two brightnesses
MIN_SPAN = 0.75  # fraction of the picture's sides that strokes which fill it reach across
PAPER = 192  # gray value of the paper of an overview without shading
SHADELESS = 0.5  # likelihood of a window that was estimated without shading, which takes broad strokes for shading
NOISE = 0.03  # foreground values up to this do not influence the threshold


class BinarisationSettings(NamedTuple):
    """How to separate the strokes of a picture from its paper."""

    light_on_dark: bool
    window: float | None  # side of a square wider than the strokes, as a fraction of the longer side; None: no paper
    # between strokes is that wide, one brightness of the whole picture is taken for the paper's
    prior: float  # likelihood relative to the other candidates, in (0, 1]


def to_gray(picture: np.ndarray) -> np.ndarray:
    """Return the luminance of RGB, uint8 [h, w, 3], or a channel with over twice its local contrast: uint8 [h, w]."""
    planes = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), *cv2.split(picture)]
    contrasts = [float(_subtract_local_median(_make_overview(plane)).std()) for plane in planes]
    return planes[int(np.argmax(contrasts))] if max(contrasts) > 2 * contrasts[0] else planes[0]


def propose_settings(gray: np.ndarray) -> list[BinarisationSettings]:
    """Return candidate settings for a gray picture, uint8 [h, w], the most likely first.

    Strokes cover less than paper does: the local contrast is skewed towards them. The windows are estimated with the
    shading of the paper and without it, which would outweigh small strokes on a large page.
    """
    small = _make_overview(gray)
    local = _subtract_local_median(small)
    centred = local - np.median(local)
    skewness = float((centred**3).mean() / ((centred**2).mean() ** 1.5 + 1e-9))
    candidates = []
    for light_on_dark in (skewness > 0, skewness <= 0)[: 2 if abs(skewness) < 1 else 1]:
        prior = 1.0 if light_on_dark == (skewness > 0) else 0.9
        overviews = (255 - small, PAPER - local) if light_on_dark else (small, PAPER + local)
        shaded, shadeless = (_estimate_windows(view.clip(0, 255).astype(np.uint8))[:3] for view in overviews)
        weighted = [(window, 0.97**rank) for rank, window in enumerate(shaded)]
        weighted += [(window, SHADELESS) for window in shadeless if window not in shaded]
        candidates += [BinarisationSettings(light_on_dark, window, prior * weight) for window, weight in weighted]
    return candidates + [BinarisationSettings(light_on_dark, None, 0.8) for light_on_dark in _find_filled(gray)]


def _find_filled(gray: np.ndarray) -> list[bool]:
    """Return whether light strokes, and dark ones, fill a picture of two brightnesses from side to side."""
    small = _make_overview(gray)
    if small.min() == small.max():
        return []
    is_dark = _find_dark(small)
    between = is_dark.mean() * (~is_dark).mean() * (small[~is_dark].mean() - small[is_dark].mean()) ** 2
    if between < MIN_SEPARABILITY * small.var():
        return []
    boxes = [(light, cv2.boundingRect((is_dark != light).astype(np.uint8))) for light in (False, True)]
    return [light for light, (_, _, *size) in boxes if min(np.divide(size, small.shape[::-1])) > MIN_SPAN]


def extract_foreground(gray: np.ndarray, settings: BinarisationSettings) -> np.ndarray:
    """Return the contrast of each pixel of uint8 [h, w] to the paper around it: float32 [h, w] in [0, 1], 0 on paper.

    The paper is estimated by a morphological closing (an opening for light strokes). It preserves the edges of
    shadows and pages and fills in everything narrower than the window.
    """
    if settings.window is None:
        paper = float(gray[_find_dark(gray) == settings.light_on_dark].mean())
        contrast = (gray - paper) / 255 if settings.light_on_dark else (paper - gray) / (paper + 15)
        return contrast.clip(0, 1).astype(np.float32)
    side = max(3, round(settings.window * max(gray.shape)))
    sigma = min(side / 15, max(gray.shape) / 300, 2)
    if sigma > 0.4:
        gray = cv2.GaussianBlur(gray, (0, 0), sigma)
    return _measure_contrast(gray, side, light_on_dark=settings.light_on_dark)


def find_threshold(foreground: np.ndarray) -> float:
    """Return the threshold (Otsu 1979, doi:10.1109/TSMC.1979.4310076) of the values above the noise, 1 without any."""
    values = (foreground[foreground > NOISE] * 255).astype(np.uint8)
    return float(cv2.threshold(values, 0, 255, cv2.THRESH_OTSU)[0]) / 255 if len(values) else 1.0


def apply_hysteresis_threshold(foreground: np.ndarray) -> np.ndarray:
    """Return strong pixels and those connected to them (Canny 1986, doi:10.1109/TPAMI.1986.4767851), bool [h, w]."""
    strong = max(find_threshold(foreground), 0.04)
    _, labels = cv2.connectedComponents((foreground > 0.6 * strong).astype(np.uint8))
    return np.isin(labels, labels[foreground > strong])


def _estimate_windows(small: np.ndarray) -> list[float]:
    """Return the sides of squares wider than an overview's dark strokes, as fractions of its longer side; best first.

    Uses the pattern spectrum (P. Maragos 1989, doi:10.1109/34.192465): as the closing's square grows, the energy of
    what it fills in rises in steps, one for each stroke width in the picture.
    """
    sides = [side for side in WINDOWS if side <= max(3, min(small.shape))]
    energies = np.array([(_measure_contrast(small, side) ** 2).mean() for side in sides]) + 1e-9
    rises = np.append(energies[1:] / energies[:-1], 0.0)
    plateaus = (energies > 0.1 * energies.max()) & (rises < 1.15)
    starts = np.flatnonzero(plateaus & ~np.append(False, plateaus[:-1]))
    # The second square of each plateau leaves a margin around the strokes.
    return [sides[min(start + 1, len(sides) - 1)] / max(small.shape) for start in starts.tolist()]


def _measure_contrast(gray: np.ndarray, side: int, *, light_on_dark: bool = False) -> np.ndarray:
    square = np.ones((side, side), np.uint8)
    if light_on_dark:
        contrast: np.ndarray = cv2.morphologyEx(gray, cv2.MORPH_TOPHAT, square).astype(np.float32) / 255
    else:
        paper = cv2.morphologyEx(gray, cv2.MORPH_CLOSE, square)
        contrast = cv2.subtract(paper, gray).astype(np.float32) / (paper.astype(np.float32) + 15)
    return (contrast - np.median(contrast)).clip(0)


def _find_dark(gray: np.ndarray) -> np.ndarray:
    """Return which pixels of uint8 [h, w] are not above Otsu's threshold, bool [h, w]."""
    return np.asarray(gray <= cv2.threshold(gray, 0, 255, cv2.THRESH_OTSU)[0])


def _make_overview(gray: np.ndarray) -> np.ndarray:
    factor = max(OVERVIEW_SIDE / max(gray.shape), 1 / min(gray.shape))
    return cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else gray


def _subtract_local_median(small: np.ndarray) -> np.ndarray:
    """Subtract the median of a large square around each pixel, float32 [h, w]."""
    margin = int(min(small.shape) * 0.7) // 2
    framed = cv2.medianBlur(np.pad(small, margin, "symmetric"), 2 * margin + 1)
    return small.astype(np.float32) - framed[margin : margin + small.shape[0], margin : margin + small.shape[1]]

"""Strokes separated from paper, whatever the light, by local contrast."""

from typing import NamedTuple

import cv2
import numpy as np

OVERVIEW = 200  # pixels of the longer side at which polarity and stroke width are looked at
SIDES = (3, 5, 7, 9, 13, 17, 25, 35, 49, 69, 97)  # pixels, of the squares that overview strokes are compared with


class Look(NamedTuple):
    """A way to look at a picture."""

    light_on_dark: bool
    side: float  # of the square that strokes are narrower than, as a share of the picture's longer side
    prior: float


def gray_plane(picture: np.ndarray) -> np.ndarray:
    """Returns the luminance, or the colour channel that shows far more contrast than it.

    Args:
        picture: uint8 [h, w, 3], RGB.

    Returns:
        uint8 [h, w].
    """
    luminance = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    planes = [luminance, *cv2.split(picture)]
    spreads = [_spread(plane) for plane in planes]
    return planes[int(np.argmax(spreads))] if max(spreads) > 2 * spreads[0] else luminance


def _spread(plane: np.ndarray) -> float:
    return float(_local(_overview(plane)).std())


def skewness(gray: np.ndarray) -> float:
    """Returns the skewness of the local contrast: above 0 when strokes, of which there is less, are the lighter.

    Args:
        gray: uint8 [h, w].
    """
    local = _local(_overview(gray))
    local -= np.median(local)
    return float((local**3).mean() / ((local**2).mean() ** 1.5 + 1e-9))


def stroke_scales(gray: np.ndarray) -> list[float]:
    """Returns sides of squares that dark strokes are narrower than, the likeliest first, as shares of the longer side.

    A pattern spectrum (P. Maragos 1989, doi:10.1109/34.192465): as the squares that dark things are closed with grow,
    what is closed grows in steps, one for each width of things in the picture.

    Args:
        gray: uint8 [h, w].
    """
    small = _overview(gray)
    sides = [side for side in SIDES if side <= max(3, min(small.shape))]
    energies = np.array([(_relative(small, side) ** 2).mean() for side in sides]) + 1e-9
    shares = energies / energies.max()
    flat = [
        index
        for index in range(len(sides))
        if shares[index] > 0.1 and (index == len(sides) - 1 or shares[index + 1] < 1.15 * shares[index])
    ]
    # Of each run of flat places the second: wider than the strokes by a margin.
    starts = [index for index in flat if index - 1 not in flat]
    return [sides[min(index + 1, len(sides) - 1)] / max(small.shape) for index in starts]


def looks(gray: np.ndarray) -> list[Look]:
    """Returns the ways to look at a picture, the likeliest first."""
    skew = skewness(gray)
    found = []
    for light_on_dark in (skew > 0, skew <= 0):
        prior = 1.0 if light_on_dark == (skew > 0) else 0.9 if abs(skew) < 1 else 0.7
        for rank, side in enumerate(stroke_scales(255 - gray if light_on_dark else gray)[:3]):
            found.append(Look(light_on_dark, side, prior * 0.97**rank))
    return found


def ink(gray: np.ndarray, look: Look) -> np.ndarray:
    """Returns how far each pixel is from the paper around it, towards the strokes' side.

    The paper is a closing: it keeps shadows' and pages' edges, and fills what is narrower than the square.

    Args:
        gray: uint8 [h, w].
        look: how to look.

    Returns:
        float32 [h, w] in [0, 1]; 0 on paper.
    """
    side = max(3, round(look.side * max(gray.shape)))
    sigma = min(side / 15, max(gray.shape) / 300, 2)
    if sigma > 0.4:
        gray = cv2.GaussianBlur(gray, (0, 0), sigma)
    return _relative(gray, side, light_on_dark=look.light_on_dark)


def _relative(gray: np.ndarray, side: int, *, light_on_dark: bool = False) -> np.ndarray:
    square = np.ones((side, side), np.uint8)
    if light_on_dark:
        hat = cv2.morphologyEx(gray, cv2.MORPH_TOPHAT, square).astype(np.float32) / 255
    else:
        paper = cv2.morphologyEx(gray, cv2.MORPH_CLOSE, square)
        hat = cv2.subtract(paper, gray).astype(np.float32) / (paper.astype(np.float32) + 15)
    return (hat - np.median(hat)).clip(0)


def _overview(gray: np.ndarray) -> np.ndarray:
    factor = OVERVIEW / max(gray.shape)
    return cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else gray


def _local(small: np.ndarray) -> np.ndarray:
    """Returns the difference to the median of a square around each pixel, float32 [h, w]."""
    side = int(min(small.shape) * 0.7) | 1
    margin = side // 2
    framed = cv2.copyMakeBorder(small, margin, margin, margin, margin, cv2.BORDER_REFLECT)
    median = cv2.medianBlur(framed, side)[margin : margin + small.shape[0], margin : margin + small.shape[1]]
    return small.astype(np.float32) - median


def threshold(values: np.ndarray) -> float:
    """Returns what parts values above 0 into weak and strong (Otsu 1979, doi:10.1109/TSMC.1979.4310076)."""
    return float(cv2.threshold((values * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)[0]) / 255

"""Strokes of one digit, of any size and weight, made into what MNIST's makers made.

Y. LeCun, L. Bottou, Y. Bengio and P. Haffner 1998, Gradient-based learning applied to document recognition
(doi:10.1109/5.726791), section III.A: fitted into 20x20 pixels, the aspect kept and the edges anti-aliased, then
moved to the middle of 28x28 by the centre of mass.
"""

import cv2
import numpy as np

from digit_recognizer.config import IMAGE_SIZE

DIGIT_SIZE = 20  # pixels: the longer side of the box of 99.98% of train.csv's digits
CENTRE = 14.0  # mean column and mean row of train.csv's centres of mass, counted from 0; they lie within 13.5 to 14.5
# Stroke widths of train.csv in pixels: mean 2.6, 5th and 95th percentile 1.7 and 3.9. Others are brought to these.
LIGHT, HEAVY = 1.7, 3.9
# Width and height of what the network is asked of one digit: other people's fill the 20x20 more than MNIST's do.
SHAPES = ((0.85, 1.0), (0.9, 0.9))
FINE = 6  # times finer than the result: where strokes are measured, thickened and thinned


def make_image(ink: np.ndarray) -> np.ndarray:
    """Returns the picture that the network sees of one digit's strokes.

    Args:
        ink: float32 [h, w] in [0, 1], 1 on a stroke and 0 on paper; not all 0.

    Returns:
        uint8 [28, 28], strokes bright on black.
    """
    ink = crop(ink / ink.max())
    fine = scale_to(ink, DIGIT_SIZE * FINE)
    fine /= fine.max()  # a hair in a large picture becomes paler than what counts as stroke
    width = stroke_width(fine) / FINE
    target = float(np.clip(width, LIGHT, HEAVY))
    if target != width:
        fine = crop(set_weight(fine, width * FINE, target * FINE))
        digit = scale_to(fine, DIGIT_SIZE)
    elif DIGIT_SIZE - 2 <= max(ink.shape) <= DIGIT_SIZE:  # of MNIST's own size: stays as it is
        digit = ink
    else:
        digit = scale_to(ink, DIGIT_SIZE)
    return centre(np.round(digit * (255 / digit.max())).astype(np.uint8))


def crop(ink: np.ndarray) -> np.ndarray:
    """Returns the box of what is above a tenth, or all of it where nothing is."""
    rows, columns = (np.flatnonzero((ink > 0.1).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else ink


def scale_to(ink: np.ndarray, side: int) -> np.ndarray:
    """Scales float32 [h, w] so that its longer side has `side` pixels and the shorter one at least 1."""
    factor = side / max(ink.shape)
    height, width = (max(1, round(length * factor)) for length in ink.shape)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(ink, (width, height), interpolation=method).clip(0, 1)


def stroke_width(ink: np.ndarray) -> float:
    """Returns the mean width of strokes in pixels.

    Across a straight stroke the mean distance to the nearest paper is a quarter of its width.

    Args:
        ink: float32 [h, w] in [0, 1].
    """
    inside = np.pad(ink > 0.5, 1).astype(np.uint8)
    if not inside.any():
        return 0.0
    distances = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    # Distances count from the centres of pixels, the nearest of paper's; its edge is half a pixel nearer.
    return float(4 * (distances[distances > 0] - 0.5).mean())


def set_weight(ink: np.ndarray, width: float, target: float) -> np.ndarray:
    """Thickens or thins strokes so that they have the target width once the longer side is what it was.

    Args:
        ink: float32 [h, w] in [0, 1].
        width: of the strokes, in pixels.
        target: width to come to, in pixels.

    Returns:
        float32, larger by what the strokes grow on each side.
    """
    side = max(ink.shape)
    grow = (target * side - width * side) / (side - target) / 2  # of (width + 2 g) / (side + 2 g) = target / side
    return thicken(ink, grow, margin=max(0, int(np.ceil(grow))) + 1)


def thicken(ink: np.ndarray, grow: float, *, margin: int) -> np.ndarray:
    """Moves the edges of strokes outwards, or inwards below 0; of a blot something is left.

    Args:
        ink: float32 [h, w] in [0, 1].
        grow: pixels.
        margin: pixels that the result is larger by on each side.

    Returns:
        float32 [h + 2 margin, w + 2 margin] in [0, 1].
    """
    inside = (np.pad(ink, margin) > 0.5).astype(np.uint8)
    outside, depth = (cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5) for mask in (1 - inside, inside))
    grow = max(grow, 1 - depth.max())
    # Both count from the centres of pixels, the edge lies half a pixel nearer; where it passes, the pixel is gray.
    return (grow + 0.5 + np.where(inside, depth - 0.5, 0.5 - outside)).clip(0, 1).astype(np.float32)


def centre(digit: np.ndarray) -> np.ndarray:
    """Puts uint8 [h, w] of at most 28 pixels a side into uint8 [28, 28], the centre of mass in the middle."""
    moments = cv2.moments(digit)
    centres = moments["m01"] / moments["m00"], moments["m10"] / moments["m00"]
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    top, left = (
        min(max(0, round(CENTRE - middle)), IMAGE_SIZE - length)
        for middle, length in zip(centres, digit.shape, strict=True)
    )
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return image


def variants(image: np.ndarray) -> np.ndarray:
    """Returns a digit narrower and smaller, around the same middle: uint8 [28, 28] to uint8 [2, 28, 28]."""
    matrices = [np.array([[x, 0, CENTRE * (1 - x)], [0, y, CENTRE * (1 - y)]]) for x, y in SHAPES]
    return np.stack([cv2.warpAffine(image, matrix, image.shape) for matrix in matrices])

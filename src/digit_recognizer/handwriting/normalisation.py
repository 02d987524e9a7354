"""Normalise the strokes of one digit to the MNIST format.

Y. LeCun, L. Bottou, Y. Bengio and P. Haffner 1998, Gradient-based learning applied to document recognition
(doi:10.1109/5.726791), section III.A: scale to fit 20x20 pixels with the aspect ratio kept and anti-aliased edges,
then place the centre of mass at the centre of 28x28 pixels.

In this module `strokes` is a soft foreground map: float32 [h, w] in [0, 1], 0 on paper.
"""

import cv2
import numpy as np

from digit_recognizer.config import IMAGE_SIZE

DIGIT_SIZE = 20  # pixels: longer side of the bounding box of 99.98% of the digits in train.csv
CENTRE = 14.0  # mean row and mean column of the centres of mass in train.csv, counted from 0; all lie in 13.5 to 14.5
STROKE_WIDTHS = 1.7, 3.9  # pixels: 5th and 95th percentiles of the stroke widths in train.csv; the mean is 2.6
# Widths and heights of the variants to classify: digits from elsewhere fill the 20x20 pixels more than MNIST's do.
VARIANT_SCALES = ((0.85, 1.0), (0.9, 0.9))
OVERSAMPLING = 6  # factor by which stroke widths are measured and changed at a finer scale than the result's


def normalise_digit(strokes: np.ndarray) -> np.ndarray:
    """Return the image to classify of one digit, uint8 [28, 28], bright strokes on black; strokes must not be all 0."""
    strokes = crop(strokes / strokes.max())
    fine = rescale(strokes, DIGIT_SIZE * OVERSAMPLING / max(strokes.shape)).clip(0, 1)
    fine /= fine.max()  # scaling down fades hairlines below the level that counts as a stroke
    width = measure_stroke_width(fine) / OVERSAMPLING
    target = float(np.clip(width, *STROKE_WIDTHS))
    if target != width:
        # Scaled to 20 pixels again, the strokes have the target width: (width + 2 g) / (20 + 2 g) = target / 20.
        growth = OVERSAMPLING * DIGIT_SIZE * (target - width) / (DIGIT_SIZE - target) / 2
        strokes = crop(thicken(fine, growth, margin=max(0, int(np.ceil(growth))) + 1))
    if target != width or not DIGIT_SIZE - 2 <= max(strokes.shape) <= DIGIT_SIZE:  # not yet the size of MNIST's digits
        strokes = rescale(strokes, DIGIT_SIZE / max(strokes.shape)).clip(0, 1)
    return centre_by_mass(np.round(strokes * (255 / strokes.max())).astype(np.uint8))


def crop(strokes: np.ndarray) -> np.ndarray:
    """Return the bounding box of the values above 0.1, or everything if there are none."""
    x, y, width, height = cv2.boundingRect((strokes > 0.1).astype(np.uint8))
    return strokes[y : y + height, x : x + width] if width else strokes


def rescale(image: np.ndarray, factor: float, enlargement: int = cv2.INTER_CUBIC) -> np.ndarray:
    """Scale an image by a factor, to at least 1 pixel a side; it is enlarged by the given interpolation."""
    size = tuple(max(1, round(length * factor)) for length in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else enlargement)


def measure_stroke_width(strokes: np.ndarray) -> float:
    """Return the mean stroke width in pixels.

    Across a straight stroke, the mean distance to the nearest paper is a quarter of the stroke's width.
    """
    inside = np.pad(strokes > 0.5, 1).astype(np.uint8)
    if not inside.any():
        return 0.0
    distances = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    # Distances lead to the centre of the nearest paper pixel; its edge is half a pixel nearer.
    return float(4 * (distances[distances > 0] - 0.5).mean())


def thicken(strokes: np.ndarray, growth: float, *, margin: int) -> np.ndarray:
    """Move the edges of strokes outwards by `growth` pixels, or inwards if it is negative; at least one pixel remains.

    The margin, in pixels, is added to each side: the result is float32 [h + 2 margin, w + 2 margin] in [0, 1].
    """
    inside = (np.pad(strokes, margin) > 0.5).astype(np.uint8)
    outside, depth = (cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5) for mask in (1 - inside, inside))
    growth = max(growth, 1 - depth.max())
    # Distances lead to pixel centres, the edge is half a pixel nearer; pixels on the new edge become gray.
    return (growth + 0.5 + np.where(inside, depth - 0.5, 0.5 - outside)).clip(0, 1).astype(np.float32)


def centre_by_mass(digit: np.ndarray) -> np.ndarray:
    """Place uint8 [h, w], at most 28 pixels a side, in uint8 [28, 28] with its centre of mass at the centre."""
    moments, (height, width) = cv2.moments(digit), digit.shape
    top = min(max(0, round(CENTRE - moments["m01"] / moments["m00"])), IMAGE_SIZE - height)
    left = min(max(0, round(CENTRE - moments["m10"] / moments["m00"])), IMAGE_SIZE - width)
    return np.pad(digit, ((top, IMAGE_SIZE - height - top), (left, IMAGE_SIZE - width - left)))


def make_variants(image: np.ndarray) -> np.ndarray:
    """Return a narrower and a smaller copy of a digit: uint8 [28, 28] to uint8 [2, 28, 28]."""
    matrices = [np.array([[x, 0, CENTRE * (1 - x)], [0, y, CENTRE * (1 - y)]]) for x, y in VARIANT_SCALES]
    return np.stack([cv2.warpAffine(image, matrix, image.shape) for matrix in matrices])

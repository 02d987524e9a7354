"""Locate and classify the digits of a line, also touching ones, with a convolutional network.

The network slides over the whole line (O. Matan, C. Burges, Y. LeCun and J. Denker 1992, Multi-digit recognition using
a space displacement neural network). detector.npz holds its weights; benchmarks/train_detector.py trains them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.console import hide_native_messages
from digit_recognizer.handwriting import normalisation
from digit_recognizer.handwriting.normalisation import DIGIT_SIZE, OVERSAMPLING
from digit_recognizer.handwriting.segmentation import Component, find_typical_height

WEIGHTS = Path(__file__).with_name("detector.npz")
HEIGHT, WIDTH, DIGIT = 32, 128, 22  # pixels: a training line and the height of its digits; other lines may be longer
STEP = 2  # pixels between the positions that the network classifies
NONE = CLASSES  # the class of positions without the centre of a digit
SPREAD = 1.3  # pixels: standard deviation of the bell around a digit's centre along which its probability falls
MIN_PEAK = 0.1  # probability of a digit that a position needs to become a detection; `REFUSE` decides what is kept
BELL = SPREAD * np.sqrt(2 * np.pi) / STEP  # sum of the probabilities of one digit over the positions around it
MARGIN = 8  # pixels of a line image before its first stroke and after its last
FRAME = 32  # pixels around a line image while it is rendered, to clip what exceeds it
MAX_LINE_WIDTH = 40 * WIDTH  # pixels; longer lines are scaled down
BATCH_SIZE = 64

Detection = tuple[float, np.ndarray]  # the column of a digit's centre in the picture, and its probabilities, float [10]
Detect = Callable[[np.ndarray], np.ndarray]  # lines, uint8 [n, 32, w] -> probabilities, float32 [n, w / 2, 11]


class LineImage(NamedTuple):
    """A line as the detector reads it."""

    image: np.ndarray  # uint8 [32, w], bright strokes on black
    left: float  # column of the picture at which it begins
    scale: float  # its pixels per pixel of the picture


def render_line(line: Sequence[Component]) -> LineImage:
    """Return a line at the detector's scale, deskewed, with stroke widths as in train.csv."""
    height = find_typical_height(line)
    scale = min(DIGIT / height, MAX_LINE_WIDTH / (line[-1].right - line[0].x))
    x, y = np.array([(part.x + part.width / 2, part.y + part.height / 2) for part in line]).T
    masses = [part.mass for part in line]
    slope, level = np.polyfit(x, y, 1, w=masses) if len(line) > 2 else (0.0, np.average(y, weights=masses))
    left = min(part.x for part in line) - MARGIN / scale
    right = max(part.right for part in line) + MARGIN / scale
    canvas = np.zeros((HEIGHT + 2 * FRAME, int(np.ceil((right - left) * scale)) + 2 * FRAME), np.float32)
    offsets = ((y - slope * x - level) * scale).clip(-16, 16)
    for component, centre, offset in zip(line, (x - left) * scale, offsets, strict=True):
        if component.height > 3 * height:  # not a digit of this line
            continue
        strokes = _scale_strokes(component.foreground, scale)[:HEIGHT, : canvas.shape[1] - 40]
        top = round(HEIGHT / 2 + FRAME + offset - len(strokes) / 2)
        start = max(0, round(centre - strokes.shape[1] / 2)) + FRAME
        target = canvas[top : top + len(strokes), start : start + strokes.shape[1]]
        np.maximum(target, strokes[:, : target.shape[1]], out=target)
    return LineImage(np.round(canvas[FRAME:-FRAME, FRAME:-FRAME] * 255).astype(np.uint8), left, scale)


def _scale_strokes(strokes: np.ndarray, scale: float) -> np.ndarray:
    """Scale strokes and bring their width into the range of train.csv."""
    size = tuple(max(1, round(length * scale * OVERSAMPLING)) for length in strokes.shape[::-1])
    method = cv2.INTER_AREA if scale * OVERSAMPLING < 1 else cv2.INTER_LINEAR
    fine = cv2.resize(strokes / strokes.max(), size, interpolation=method)
    width = normalisation.measure_stroke_width(fine) / OVERSAMPLING * DIGIT_SIZE / DIGIT
    growth = (np.clip(width, *normalisation.STROKE_WIDTHS) - width) * DIGIT / DIGIT_SIZE * OVERSAMPLING / 2
    if growth:
        fine = normalisation.thicken(fine, growth, margin=OVERSAMPLING * max(0, int(np.ceil(growth / OVERSAMPLING))))
    return normalisation.rescale(fine, 1 / OVERSAMPLING)


def detect_digits(lines: Sequence[LineImage], detect: Detect) -> list[list[Detection]]:
    """Return the detections in each line, from the left; lines of similar width form batches."""
    widths = np.array([-(-line.image.shape[1] // WIDTH) * WIDTH for line in lines], int)
    detections: list[list[Detection]] = [[] for _ in lines]
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        for batch in np.split(chosen, range(BATCH_SIZE, len(chosen), BATCH_SIZE)):
            padded = [np.pad(lines[i].image, ((0, 0), (0, width - lines[i].image.shape[1]))) for i in batch]
            for index, probabilities in zip(batch, detect(np.stack(padded)), strict=True):
                detections[index] = _find_peaks(probabilities, lines[index])
    return detections


def _find_peaks(probabilities: np.ndarray, line: LineImage) -> list[Detection]:
    """Return the local maxima of the probability of a digit, smoothed so that small dips do not split a peak."""
    present = np.pad(1 - probabilities[:, NONE], 1)
    smooth = np.convolve(present, (0.1, 0.8, 0.1), "same")
    is_peak = (present[1:-1] > MIN_PEAK) & (smooth[1:-1] >= smooth[:-2]) & (smooth[1:-1] > smooth[2:])
    detections = []
    for position in np.flatnonzero(is_peak):
        around = present[position : position + 3]
        x = (position + np.average([0.0, 1.0, 2.0], weights=around) - 0.5) * STEP
        confidence = min(1.0, float(around.sum()) / BELL)
        digits = probabilities[position, :NONE] / present[position + 1] * confidence
        detections.append((line.left + x / line.scale, digits.astype(float)))
    return detections


def build_detector(precision: str = "float32") -> Any:
    """Return the untrained network, a `keras.Model` from [n, 32, w, 1] in [0, 1] to logits [n, w / 2, 11]."""
    with hide_native_messages():
        from keras import Input, Model, layers

        from digit_recognizer.model.layers import MOMENTUM, FusedBatchNormalization

    def convolve(x: Any, channels: int, size: int | tuple[int, int] = 3, **options: Any) -> Any:
        x = layers.Conv2D(channels, size, use_bias=False, dtype=precision, **{"padding": "same"} | options)(x)
        return layers.ReLU(dtype=precision)(FusedBatchNormalization(momentum=MOMENTUM, dtype=precision)(x))

    inputs = Input((HEIGHT, None, 1))
    x = layers.MaxPooling2D(dtype=precision)(convolve(inputs, 24, 5))
    for channels in (48, 96):
        x = convolve(x, channels)
        x = layers.Add(dtype=precision)([x, convolve(x, channels)])
        x = layers.MaxPooling2D((2, 1), dtype=precision)(x)
    x = layers.Add(dtype=precision)([x, convolve(x, 96)])
    x = layers.ZeroPadding2D((0, 1), dtype=precision)(x)
    x = convolve(x, 128, (4, 3), padding="valid")
    for reach in (1, 2, 4, 8):  # positions: the digits to the left and right count, too
        x = layers.Add(dtype=precision)([x, convolve(x, 128, (1, 3), dilation_rate=(1, reach))])
    x = layers.Dropout(0.2, dtype=precision)(x)
    x = layers.Conv2D(CLASSES + 1, 1, dtype="float32")(x)
    return Model(inputs, layers.Reshape((-1, CLASSES + 1), dtype="float32")(x))


def load_detector(path: Path = WEIGHTS) -> Detect:
    """Return the trained detector as a compiled function."""
    with hide_native_messages():
        import tensorflow as tf
    model = build_detector()
    with np.load(path) as saved:
        arrays = iter(saved.values())  # kernels are int8, each followed by a scale per output channel
        model.set_weights([array * next(arrays) if array.dtype == np.int8 else array for array in arrays])
    signature = [tf.TensorSpec([None, HEIGHT, None, 1], tf.float32)]
    predict = tf.function(lambda lines: tf.nn.softmax(model(lines, training=False)), signature, autograph=False)
    return lambda lines: predict(tf.constant(lines[..., np.newaxis] / np.float32(255))).numpy()

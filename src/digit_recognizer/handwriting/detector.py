"""The network that finds digits in a line: what stands at each place, however near its neighbours are.

A convolutional network over the whole line (O. Matan et al. 1992, Multi-digit recognition using a space displacement
neural network), trained on made lines. Its weights are in spotter.weights; `make spotter` makes them again.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.console import hide_native_messages
from digit_recognizer.files import write_text
from digit_recognizer.handwriting import synthetic_lines
from digit_recognizer.handwriting.normalisation import DIGIT_SIZE, FINE, HEAVY, LIGHT, stroke_width, thicken
from digit_recognizer.handwriting.segmentation import Piece, typical_height

WEIGHTS = Path(__file__).with_name("detector.weights")
LEAST = 0.25  # what a peak must reach
BELL = (
    synthetic_lines.SPREAD * np.sqrt(2 * np.pi) / synthetic_lines.STEP
)  # the sum of the probabilities of one digit over its places
MARGIN = 8  # pixels of a strip before its first and after its last stroke
SPOTTED_AT_ONCE = 64
POOL, LINES, BATCH = 120_000, 300_000, 64

Spot = Callable[[np.ndarray], np.ndarray]  # uint8 [n, 32, w] -> float [n, w / 2, 11], the last for no digit


class Strip(NamedTuple):
    """A row of pieces as the spotter sees it."""

    image: np.ndarray  # uint8 [32, w]
    left: float  # column of the picture at which it begins
    scale: float  # its pixels a pixel of the picture


class Middle(NamedTuple):
    """The middle of a digit."""

    x: float  # column of the picture
    probabilities: np.ndarray  # float [11], the last for no digit


def make_strip(row: Sequence[Piece]) -> Strip:
    """Brings a row to the size and the stroke weights that the spotter knows, the line that it stands on level."""
    height = typical_height(list(row))
    scale = min(synthetic_lines.DIGIT / height, 40 * synthetic_lines.WIDTH / (row[-1].x + row[-1].width - row[0].x))
    centres = np.array([(piece.x + piece.width / 2, piece.y + piece.height / 2) for piece in row])
    masses = np.array([piece.mass for piece in row])
    slope, level = (
        np.polyfit(*centres.T, 1, w=masses) if len(row) > 2 else (0, np.average(centres[:, 1], weights=masses))
    )
    left = min(piece.x for piece in row) - MARGIN / scale
    right = max(piece.x + piece.width for piece in row) + MARGIN / scale
    canvas = np.zeros((synthetic_lines.HEIGHT + 64, int(np.ceil((right - left) * scale)) + 64), np.float32)
    for piece, (x, y) in zip(row, centres, strict=True):
        if piece.height > 3 * height:  # no digit of this row
            continue
        ink = _brought_to(piece.ink, scale)[: synthetic_lines.HEIGHT, : canvas.shape[1] - 40]
        top = round(
            synthetic_lines.HEIGHT / 2 + 32 + float(np.clip((y - slope * x - level) * scale, -16, 16)) - len(ink) / 2
        )
        start = max(0, round((x - left) * scale - ink.shape[1] / 2)) + 32
        target = canvas[top : top + len(ink), start : start + ink.shape[1]]
        np.maximum(target, ink[:, : target.shape[1]], out=target)
    return Strip(np.round(canvas[32:-32, 32:-32] * 255).astype(np.uint8), left, scale)


def _brought_to(ink: np.ndarray, scale: float) -> np.ndarray:
    """Scales ink, and thickens or thins its strokes to what train.csv knows."""
    size = tuple(max(1, round(length * scale * FINE)) for length in ink.shape[::-1])
    fine = cv2.resize(ink / ink.max(), size, interpolation=cv2.INTER_AREA if scale * FINE < 1 else cv2.INTER_LINEAR)
    width = stroke_width(fine) / FINE * DIGIT_SIZE / synthetic_lines.DIGIT
    grow = (float(np.clip(width, LIGHT, HEAVY)) - width) * synthetic_lines.DIGIT / DIGIT_SIZE * FINE / 2
    if grow:
        fine = thicken(fine, grow, margin=FINE * int(max(0, np.ceil(grow / FINE))))
    size = tuple(max(1, round(length / FINE)) for length in fine.shape[::-1])
    return cv2.resize(fine, size, interpolation=cv2.INTER_AREA)


def find_middles(strips: Sequence[Strip], spot: Spot) -> list[list[Middle]]:
    """Returns the middles of the digits in each strip, from the left."""
    widths = [-(-strip.image.shape[1] // synthetic_lines.WIDTH) * synthetic_lines.WIDTH for strip in strips]
    found: list[list[Middle]] = [[]] * len(strips)
    for width in set(widths):
        chosen = [index for index, own in enumerate(widths) if own == width]
        padded = [np.pad(strips[i].image, ((0, 0), (0, width - strips[i].image.shape[1]))) for i in chosen]
        for start in range(0, len(chosen), SPOTTED_AT_ONCE):
            part = slice(start, start + SPOTTED_AT_ONCE)
            for index, answer in zip(chosen[part], spot(np.stack(padded[part])), strict=True):
                found[index] = _peaks(answer, strips[index])
    return found


def _peaks(answer: np.ndarray, strip: Strip) -> list[Middle]:
    """Returns the places where a digit is likelier than beside them; a dent in a peak does not part it."""
    there = np.pad(1 - answer[:, synthetic_lines.NONE], 1)
    smooth = np.convolve(there, (0.1, 0.8, 0.1), "same")
    middles = []
    for place in np.flatnonzero((there[1:-1] > LEAST) & (smooth[1:-1] >= smooth[:-2]) & (smooth[1:-1] > smooth[2:])):
        beside = there[place : place + 3]  # and the place itself
        at = (place + np.average([0.0, 1.0, 2.0], weights=beside) - 0.5) * synthetic_lines.STEP
        certain = min(1.0, float(beside.sum()) / BELL)
        digits = answer[place, : synthetic_lines.NONE] / there[place + 1]
        middles.append(Middle(strip.left + at / strip.scale, np.append(digits * certain, 1 - certain)))
    return middles


def build_spotter(precision: str = "float32") -> Any:
    """Returns the network with untrained weights, a `keras.Model` from [n, 32, w, 1] to logits [n, w / 2, 11].

    Args:
        precision: a dtype policy of Keras.
    """
    with hide_native_messages():
        from keras import Input, Model, layers

        from digit_recognizer.model.networks import MOMENTUM, FusedBatchNormalization

    def convolved(x: Any, channels: int, size: int | tuple[int, int] = 3, padding: str = "same") -> Any:
        x = layers.Conv2D(channels, size, padding=padding, use_bias=False, dtype=precision)(x)
        return layers.ReLU(dtype=precision)(FusedBatchNormalization(momentum=MOMENTUM, dtype=precision)(x))

    inputs = Input((synthetic_lines.HEIGHT, None, 1))
    x = layers.MaxPooling2D(dtype=precision)(convolved(inputs, 16, 5))
    x = layers.MaxPooling2D((2, 1), dtype=precision)(convolved(convolved(x, 32), 32))
    x = layers.MaxPooling2D((2, 1), dtype=precision)(convolved(convolved(x, 64), 64))
    x = convolved(x, 64)
    x = convolved(layers.ZeroPadding2D((0, 2), dtype=precision)(x), 128, (4, 5), "valid")
    x = layers.Dropout(0.2, dtype=precision)(x)
    x = layers.Conv2D(CLASSES + 1, 1, dtype="float32")(x)
    return Model(inputs, layers.Reshape((-1, CLASSES + 1), dtype="float32")(x))


def train_spotter(
    images: np.ndarray, labels: np.ndarray, *, precision: str, tell: Callable[[int, int, float], None], seed: int = 0
) -> Any:
    """Trains the network on lines made of digits, each of which it sees once.

    Args:
        images: uint8 [n, 28, 28].
        labels: uint8 [n].
        precision: a dtype policy of Keras.
        tell: is told of each step: its number from 1, the number of steps, the mean loss up to there.
        seed: of everything that is random.

    Returns:
        What `build_spotter` returns, trained.
    """
    with hide_native_messages():
        import keras

    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    pool = synthetic_lines.make_pool(images, labels, POOL, random)
    steps = LINES // BATCH

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(steps):
            strips, said = map(
                np.stack, zip(*(synthetic_lines.make_line(pool, random) for _ in range(BATCH)), strict=True)
            )
            yield _normalised(strips), said

    model = build_spotter(precision)
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps * 9 // 10, warmup_target=4e-3, warmup_steps=steps // 10)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    progress = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: tell(step + 1, steps, logs["loss"]))
    model.fit(batches(), steps_per_epoch=steps, shuffle=False, callbacks=[progress], verbose=0)
    return model


def _normalised(strips: np.ndarray) -> np.ndarray:
    return strips[..., np.newaxis] / np.float32(255)


def save_spotter(model: Any, path: Path = WEIGHTS) -> None:
    """Writes the weights as text, which a notebook can carry: kernels as int8 with a scale for each output channel."""
    arrays = []
    for weights in model.get_weights():
        if weights.ndim == 4:
            scale = np.abs(weights).max(axis=(0, 1, 2)) / 127 + 1e-12
            arrays.append(np.round(weights / scale).astype(np.int8))
            weights = scale
        arrays.append(weights.astype(np.float32))
    packed = io.BytesIO()
    np.savez_compressed(packed, *arrays)
    write_text(path, base64.encodebytes(packed.getvalue()).decode())


def _read_weights(path: Path) -> list[np.ndarray]:
    """Returns the weights that `save_spotter` wrote, float32."""
    with np.load(io.BytesIO(base64.b64decode(path.read_text()))) as saved:
        arrays = iter(saved.values())
        return [values * next(arrays) if values.dtype == np.int8 else values for values in arrays]


def load_spotter(path: Path = WEIGHTS) -> Spot:
    """Returns what says, of lines, which digit stands at each place; compiled, and asked once."""
    with hide_native_messages():
        import tensorflow as tf
    model = build_spotter()
    model.set_weights(_read_weights(path))

    @tf.function(input_signature=[tf.TensorSpec([None, synthetic_lines.HEIGHT, None, 1], tf.float32)])
    def answer(strips: Any) -> Any:
        return tf.nn.softmax(model(strips, training=False))

    def spot(strips: np.ndarray) -> np.ndarray:
        return answer(tf.constant(_normalised(strips))).numpy()

    spot(np.zeros((1, synthetic_lines.HEIGHT, synthetic_lines.WIDTH), np.uint8))
    return spot

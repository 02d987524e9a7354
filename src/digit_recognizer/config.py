"""The settings of a training run and the named presets."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from digit_recognizer.errors import UserError

COMPETITION = "digit-recognizer"
PRECISIONS = "float32", "mixed_bfloat16", "mixed_float16"  # Keras dtype policies
CLASSES = 10
IMAGE_SIZE = 28  # pixels per side
ARCHITECTURES = "residual", "plain"  # of `model.networks.build_model`
ANNOTATED = "predictions"  # folder of annotated images, which are not read again
REFUSE = 0.3  # digits in pictures that are less probable are left out


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run. With the data, the code and the machine they determine the trained weights."""

    preset: str
    seed: int = 0  # initial weights, row order, dropout and augmentation; not the split
    folds: int = 1  # 0: train on all rows; 1: stratified hold-out of `validation`; k >= 2: stratified k-fold
    members: int = 1  # networks per fold, with different seeds
    validation: float = 0.1  # fraction of the rows held out when folds is 1
    split_seed: int = 0  # fixed, so that runs with different seeds are scored on the same rows
    epochs: int
    rows_per_epoch: float = 1.0  # fraction of the training rows, chosen for each epoch by `training.member.choose_rows`
    batch_size: int = 128  # images
    architectures: tuple[str, ...] = ("residual",)  # out of `ARCHITECTURES`, assigned to members round-robin
    channels: tuple[int, ...]  # convolution filters of each stage
    dropout: float = 0.0  # rate before the dense layer
    learning_rate: float = 1e-2  # peak of the one-cycle schedule
    weight_decay: float = 1e-2  # AdamW; multiplied by the learning rate in each step
    augment: bool
    unaugmented_epochs: int = 0  # final epochs without augmentation; the first epoch never has any
    shifts: bool = False  # test-time augmentation: average the probabilities of shifted copies of an image
    precision: str | None = None  # one of `PRECISIONS`; None: chosen by the features of the processor or GPU

    def __post_init__(self) -> None:
        """Check the ranges; raise a `UserError` if a setting is out of range."""
        known = set(self.architectures) <= set(ARCHITECTURES)
        checks = [
            ("folds", self.folds, self.folds >= 0, "0 or more"),
            ("members", self.members, self.members >= 1, "1 or more"),
            ("validation", self.validation, 0 < self.validation <= 0.5, "more than 0 and at most 0.5"),
            ("epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("rows per epoch", self.rows_per_epoch, 0.2 <= self.rows_per_epoch <= 1, "0.2 to 1"),
            ("batch size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295"),
            ("split seed", self.split_seed, 0 <= self.split_seed < 2**32, "0 to 4294967295"),
            ("architectures", self.architectures, known, " or ".join(ARCHITECTURES)),
            ("precision", self.precision, self.precision in (None, *PRECISIONS), " or ".join(PRECISIONS)),
        ]
        for name, value, valid, expected in checks:
            if not valid:
                raise UserError(f"expected {name} {expected}, got {value}")

    @property
    def augmented_epochs(self) -> int:
        """Number of epochs with augmented images: not the first and not the last `unaugmented_epochs`."""
        return max(0, self.epochs - 1 - self.unaugmented_epochs) if self.augment else 0

    def steps_per_epoch(self, rows: int) -> int:
        """Return the number of full batches; the remaining rows, others in each epoch, are dropped."""
        return max(1, int(self.rows_per_epoch * rows) // self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON-compatible dictionary."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


_FAST = Config(
    preset="fast", epochs=2, batch_size=256, architectures=("plain",), channels=(16, 32, 64), augment=False, shifts=True
)
_SINGLE = Config(
    preset="single",
    validation=0.05,
    epochs=18,
    rows_per_epoch=0.52,
    channels=(32, 64, 128),
    learning_rate=5e-3,
    dropout=0.4,
    augment=True,
    unaugmented_epochs=2,
    shifts=True,
)
_BEST = replace(_SINGLE, preset="best", folds=10, members=2, epochs=15, shifts=False)
# For two GPUs: by its arithmetic (30 networks, 24 PFLOP) 1.7 hours on two Tesla T4 that reach 2 TFLOP/s each.
_MAX = replace(_BEST, preset="max", members=3, epochs=40, channels=(128, 256, 512))
PRESETS = {config.preset: config for config in (_FAST, _SINGLE, _BEST, _MAX)}  # from the fastest to the slowest


def make_config(preset: str, **overrides: Any) -> Config:
    """Return the settings of a preset with fields of `Config` overridden; None keeps the preset's value.

    `validation` implies one fold. Several members of a preset without k-fold splits train on all rows, unless `folds`
    or `validation` is given too.

    Raises:
        UserError: Unknown preset, a value is out of range, or `validation` is given with another number of folds.
    """
    if preset not in PRESETS:
        raise UserError(f"expected a preset out of {', '.join(PRESETS)}, got {preset!r}")
    given = {name: value for name, value in overrides.items() if value is not None}
    if "validation" in given and given.setdefault("folds", 1) != 1:
        raise UserError(f"expected VALIDATION= with one fold, got {given['folds']} folds; drop one of the two")
    if "members" in given and PRESETS[preset].folds < 2:
        given.setdefault("folds", 0)
    return replace(PRESETS[preset], **given)


def count_members(settings: dict[str, Any]) -> int:
    """Return the number of members of a run with these settings (`Config.to_dict`)."""
    return max(settings.get("folds", 1), 1) * settings.get("members", 1)

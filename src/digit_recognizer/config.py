"""The settings of a training run and its named presets."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from digit_recognizer.errors import UserError

COMPETITION = "digit-recognizer"
CLASSES = 10
IMAGE_SIZE = 28  # pixels a side


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that, with the data, the code and the machine, fixes the weights that a run ends with."""

    preset: str
    seed: int = 0  # of the initial weights, the order of the rows, dropout and augmentation; not of the split
    folds: int = 1  # 1: one stratified hold-out of `validation`; k >= 2: stratified k-fold, a member a fold
    validation: float = 0.1  # share of the rows held out when folds is 1
    split_seed: int = 0  # fixed, so that runs of different seeds are scored on the same rows
    epochs: int
    batch_size: int = 128  # images
    channels: tuple[int, ...]  # of the convolutions of each stage
    dropout: float = 0.0  # share of the features before the last layer
    learning_rate: float = 1e-2  # at the peak of the one-cycle schedule
    weight_decay: float = 1e-2  # a step, times the learning rate (AdamW)
    augment: bool
    plain_epochs: int = 0  # the last epochs, trained on the images as they are

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: a setting is out of its range.
        """
        checks = [
            ("folds", self.folds, self.folds >= 1, "1 or more"),
            ("validation", self.validation, 0 < self.validation <= 0.5, "more than 0 and at most 0.5"),
            ("epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("batch size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295"),
        ]
        for name, value, good, expected in checks:
            if not good:
                raise UserError(f"expected {name} {expected}, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as a value that JSON can hold."""
        return asdict(self) | {"channels": list(self.channels)}


PRESETS = {
    "fast": Config(
        preset="fast", epochs=3, channels=(16, 32, 64), learning_rate=1e-2, dropout=0.0, augment=False, plain_epochs=0
    ),
    "single": Config(
        preset="single",
        epochs=12,
        channels=(32, 64, 128),
        learning_rate=5e-3,
        dropout=0.2,
        augment=True,
        plain_epochs=2,
    ),
}


def make_config(preset: str, **overrides: Any) -> Config:
    """Returns a preset's settings with some of them overridden.

    Args:
        preset: a key of `PRESETS`.
        **overrides: fields of `Config`; a value of None leaves the preset's.

    Raises:
        UserError: there is no such preset, or a value is out of its range.
    """
    if preset not in PRESETS:
        raise UserError(f"expected a preset out of {', '.join(PRESETS)}, got {preset!r}")
    return replace(PRESETS[preset], **{name: value for name, value in overrides.items() if value is not None})


def read_config(values: dict[str, Any]) -> Config:
    """Returns the settings that `Config.to_dict` wrote.

    Raises:
        UserError: the fields are not those of this version of the kit.
    """
    expected = {field.name for field in fields(Config)}
    if values.keys() != expected:
        raise UserError(
            f"expected the settings {', '.join(sorted(expected))}, found {', '.join(sorted(values))}: "
            "the run is another version's; train again"
        )
    return Config(**(values | {"channels": tuple(values["channels"])}))

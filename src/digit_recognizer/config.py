"""The settings of a training run and its named presets."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from digit_recognizer.errors import UserError

COMPETITION = "digit-recognizer"
CLASSES = 10
IMAGE_SIZE = 28  # pixels a side
LISTS = ("architectures", "channels")  # settings that JSON has as lists


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that, with the data, the code and the machine, fixes the weights that a run ends with."""

    preset: str
    seed: int = 0  # of the initial weights, the order of the rows, dropout and augmentation; not of the split
    folds: int = 1  # 0: no row held out; 1: a stratified hold-out of `validation`; k >= 2: stratified k-fold
    members: int = 1  # of each fold, with different seeds
    validation: float = 0.1  # share of the rows held out when folds is 1
    split_seed: int = 0  # fixed, so that runs of different seeds are scored on the same rows
    epochs: int
    batch_size: int = 128  # images
    architectures: tuple[str, ...] = ("residual",)  # keys of `model.ARCHITECTURES`, which the members take in turn
    channels: tuple[int, ...]  # of the convolutions of each stage
    dropout: float = 0.0  # share of the features before the last layer
    learning_rate: float = 1e-2  # at the peak of the one-cycle schedule
    weight_decay: float = 1e-2  # a step, times the learning rate (AdamW)
    augment: bool
    plain_epochs: int = 0  # the last epochs, trained on the images as they are, like the first
    views: int = 1  # moved copies of an image (`augmentation.VIEWS`) whose answers are averaged

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: a setting is out of its range.
        """
        checks = [
            ("folds", self.folds, self.folds >= 0, "0 or more"),
            ("members", self.members, self.members >= 1, "1 or more"),
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
        return asdict(self) | {name: list(getattr(self, name)) for name in LISTS}


PRESETS = {
    "fast": Config(
        preset="fast",
        epochs=2,
        architectures=("plain",),
        channels=(16, 32, 64),
        learning_rate=1e-2,
        augment=False,
    ),
    "single": Config(
        preset="single",
        epochs=12,
        channels=(32, 64, 128),
        learning_rate=5e-3,
        dropout=0.2,
        augment=True,
        plain_epochs=2,
        views=9,
    ),
    "best": Config(
        preset="best",
        folds=5,
        members=2,
        epochs=12,
        architectures=("residual", "upright"),
        channels=(32, 64, 128),
        learning_rate=5e-3,
        dropout=0.2,
        augment=True,
        plain_epochs=2,
    ),
}


def make_config(preset: str, **overrides: Any) -> Config:
    """Returns a preset's settings with some of them overridden.

    Members without folds are trained on all rows.

    Args:
        preset: a key of `PRESETS`.
        **overrides: fields of `Config`; a value of None leaves the preset's.

    Raises:
        UserError: there is no such preset, or a value is out of its range.
    """
    if preset not in PRESETS:
        raise UserError(f"expected a preset out of {', '.join(PRESETS)}, got {preset!r}")
    given = {name: value for name, value in overrides.items() if value is not None}
    if "members" in given and "folds" not in given:
        given["folds"] = 0
    return replace(PRESETS[preset], **given)


def count_members(values: dict[str, Any]) -> int:
    """Returns how many members a run has by the settings that `Config.to_dict` wrote."""
    return max(values.get("folds", 1), 1) * values.get("members", 1)


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
    return Config(**(values | {name: tuple(values[name]) for name in LISTS}))

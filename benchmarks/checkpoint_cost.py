"""Measure which share of a training its checkpoints take: `python -m benchmarks.checkpoint_cost --data-dir data`."""

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from digit_recognizer import pipeline
from digit_recognizer.config import make_config
from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of train.csv.")] = Path("data"),
    preset: Annotated[str, typer.Option(help="Preset of one network.")] = "fast",
    epochs: Annotated[int | None, typer.Option(help="Epochs.", show_default="those of the preset")] = None,
) -> None:
    """Train a network in a temporary folder and print what its checkpoints cost."""
    with hide_native_messages():
        from digit_recognizer.training import member

    calls: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def measure(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            calls.append(time.perf_counter() - started)
            return result

        return measure

    member.get_variables, member.write_checkpoint = timed(member.get_variables), timed(member.write_checkpoint)
    with tempfile.TemporaryDirectory() as models_dir:
        config = make_config(preset, epochs=epochs)
        _, record = pipeline.train(config, data_dir, Path(models_dir), Console(stderr=True))
    count, total, seconds = len(calls) // 2, sum(calls), record["training_seconds"]
    typer.echo(
        f"{preset}: {count} checkpoints of {1000 * total / count:.0f} ms, {total / seconds:.2%} of {seconds:.1f} s"
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"checkpoint_cost: {error}")

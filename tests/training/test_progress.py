"""Training progress."""

import io

import pytest
from rich.console import Console

from digit_recognizer.config import Config
from digit_recognizer.training import progress
from digit_recognizer.training.progress import TrainingDisplay

LOGS = {"loss": 0.25, "accuracy": 0.875}


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def display(output, *, terminal):
    console = Console(file=output, force_terminal=terminal, width=160)
    config = Config(preset="", epochs=2, batch_size=64, channels=(1,), augment=False)
    return TrainingDisplay(config, {0: 0, 2: 0}, 5 * 64, console)


def train(shown, clock):
    """Report alternating steps of two members."""
    with shown:
        for epoch in range(2):
            for step in range(5):
                for member in (0, 2):
                    clock[0] += 2
                    last = step == 4
                    more = {"val_loss": 0.5, "val_accuracy": 0.75} if last else {}
                    shown.show((member, epoch, step, LOGS | more, last))


def test_piped_output_has_a_line_per_epoch(clock):
    output = io.StringIO()
    train(display(output, terminal=False), clock)
    lines = output.getvalue().splitlines()
    assert lines[0] == (
        "member 0, 0/2 done  epoch 1/2  loss 0.2500  accuracy 87.50%  validation loss 0.5000  "
        "validation accuracy 75.00%  32 images/s  0:22 left"
    )
    assert [line[:30] for line in lines[1:]] == [
        "member 2, 0/2 done  epoch 1/2 ",
        "member 0, 1/2 done  epoch 2/2 ",
        "member 2, 2/2 done  epoch 2/2 ",
    ]
    assert lines[-1].endswith("0:00 left")


def test_steps_of_an_interrupted_training_do_not_count_for_the_speed(clock):
    output = io.StringIO()
    config = Config(preset="", epochs=4, batch_size=64, channels=(1,), augment=False)
    shown = TrainingDisplay(config, {0: 2}, 5 * 64, Console(file=output, width=160))
    with shown:
        clock[0] += 10
        shown.show((0, 2, 4, {}, True))
    assert output.getvalue() == "epoch 3/4  32 images/s  0:10 left\n"


def test_a_terminal_shows_a_bar(clock):
    output = io.StringIO()
    train(display(output, terminal=True), clock)
    last = output.getvalue().rsplit("\r", 1)[-1]
    assert "2/2 done  epoch 2/2" in last
    assert "100%" in last
    assert "32 images/s" in last

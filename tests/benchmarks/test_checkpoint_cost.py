"""The cost of checkpoints."""

import re

import pytest

from benchmarks import checkpoint_cost
from digit_recognizer.training import member


@pytest.mark.slow
def test_number_and_share_of_the_checkpoints_are_printed(demo_dir, monkeypatch, capsys):
    for name in ("get_variables", "write_checkpoint"):
        monkeypatch.setattr(member, name, getattr(member, name))  # restored after the test
    checkpoint_cost.main(demo_dir, epochs=3)
    assert re.fullmatch(r"fast: 3 checkpoints of \d+ ms, \d+\.\d\d% of \d+\.\d s\n", capsys.readouterr().out)

"""How costs grow."""

import psutil
import pytest

from benchmarks import cost_growth


def test_a_curve_is_drawn_for_each_cost():
    curves = {name: {"x": [1.0, 2.0], "y": [3.0, 5.0]} for name in cost_growth.LABELS}
    figure = cost_growth.draw({"curves": curves})
    shown = [axis for axis in figure.axes if axis.lines]
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in shown] == list(cost_growth.LABELS.values())
    assert all(list(axis.lines[0].get_ydata()) == [3, 5] for axis in shown)


def test_a_function_is_called_on_some_cores_only():
    before = psutil.Process().cpu_affinity()
    assert cost_growth._on_cores(1, lambda: len(psutil.Process().cpu_affinity())) == 1
    assert psutil.Process().cpu_affinity() == before


@pytest.mark.slow
def test_rates_are_measured_for_each_batch(monkeypatch):
    monkeypatch.setattr(cost_growth, "BATCHES", (1, 5))
    one, five = cost_growth.time_answers(1)
    assert 0 < one < five

"""The benchmark's statistics, its tables in the documents, and other people's recipes."""

import functools
from pathlib import Path

import numpy as np
import pytest

from benchmarks import benchmark, tables


def test_the_difference_of_accuracies_is_paired():
    theirs = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool)
    ours = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
    difference = benchmark.compare_paired(theirs, ours)
    assert difference["accuracy"] == pytest.approx(1 / 8)
    assert difference["standard_error"] == pytest.approx(np.std([0, 0, 0, 1, 1, -1, 0, 0], ddof=1) / 8**0.5)


@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_tables_in_the_documents_show_the_stored_results(name):
    text = (tables.ROOT / name).read_text()
    assert text.count("<!-- table: ") == text.count("<!-- end of table -->")
    assert tables.update_document(text, tables.read_results()) == text, "run python -m benchmarks.tables"


def test_after_a_mean_comes_its_standard_error():
    values = {"repetitions": 4, "seconds": {"mean": 10.0, "deviation": 3.0}}
    assert tables._mean(values, "seconds", ",.1f", " s") == "10.0 s ± 1.5 s"


def test_finished_parts_are_not_measured_again(monkeypatch, tmp_path):
    measured = []
    parts = {name: lambda _, name=name: measured.append(name) or {"of": name} for name in ("engine", "small")}
    monkeypatch.setattr(benchmark, "PARTS", parts)
    monkeypatch.setattr(benchmark, "describe_machine", dict)
    folders = benchmark.Folders(Path("data"), tmp_path)
    assert benchmark.measure(folders, ["small"]) == {"machine": {}, "small": {"of": "small"}}
    both = {"machine": {}, "engine": {"of": "engine"}, "small": {"of": "small"}}
    assert benchmark.measure(folders, ["engine", "small"]) == both
    assert measured == ["small", "engine"]


SIZES = {"small_cnn": 225_034, "deotte": 327_242, "pytorch_example": 1_199_882, "ttdoucet": 298_442}


@pytest.mark.benchmarks
@pytest.mark.parametrize(("name", "parameters"), SIZES.items())
def test_other_networks_have_the_published_size_and_train(name, parameters, demo_dir, tmp_path):
    train = functools.partial(benchmark._train_peer, epochs=2)
    result = benchmark._run_isolated(train, benchmark.Folders(demo_dir, tmp_path), name, 0.2)
    assert (result["parameters"], len(result["right"])) == (parameters, 360)
    assert np.mean(result["right"]) == result["accuracy"] > (0.05 if name == "deotte" else 0.3)  # its averages are slow


def test_the_table_of_peers_compares_with_single(monkeypatch, tmp_path):
    right = {"fast": [1, 0, 1, 0], "single": [1, 1, 1, 0], "deotte": [0, 1, 1, 0]}
    monkeypatch.setattr(benchmark, "PEERS", {"deotte": "peers"})
    answer = lambda _, __, name, ___: {"accuracy": np.mean(right[name]), "right": right[name]}  # noqa: E731
    monkeypatch.setattr(benchmark, "_run_isolated", answer)
    peers = benchmark.measure_peers(benchmark.Folders(tmp_path, tmp_path))
    table = tables.make_peers_table({"peers": peers, "machine": benchmark.describe_machine()})
    assert "| `fast` | 50.00% ± 25.00% | +25.000 ± 25.000 points | 0 s | 0 s |" in table

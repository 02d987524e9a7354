"""Markdown tables of the stored benchmark results, for the README and docs/.

`python -m benchmarks.tables` writes them into the documents, each between a line `<!-- table: NAME -->` and the next
`<!-- end of table -->`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/benchmark.md", "docs/ablation.md")
DEOTTE_NETWORKS = 15  # networks in Deotte's ensemble; see benchmarks/peers.py
NOT_MEASURED = "not measured"


def update_document(text: str, benchmark: Mapping[str, Any], ablation: Mapping[str, Any]) -> str:
    """Return a document with all of its tables replaced.

    Args:
        text: Markdown with markers around its tables.
        benchmark: Content of docs/benchmark.json.
        ablation: Content of docs/ablation.json.
    """
    tables = {
        "summary": readme_table(benchmark),
        "ensembles": ensemble_table(benchmark),
        "hold-out": hold_out_table(benchmark),
        "single": single_table(benchmark),
        "ablation": ablation_table(ablation),
    }
    return re.sub(
        r"(?<=<!-- table: )([a-z-]+) -->\n.*?(?=<!-- end of table -->)",
        lambda found: f"{found[1]} -->\n\n{tables[found[1]]}\n\n",
        text,
        flags=re.DOTALL,
    )


def readme_table(result: Mapping[str, Any]) -> str:
    """Return the summary for the README: seven rows.

    Args:
        result: Content of docs/benchmark.json.
    """
    fast, best, deotte = result["fast"], result["best"], result["deotte"]
    cpu, wall = _deotte_costs(result, deotte["networks"])
    cpu_all, wall_all = _deotte_costs(result, DEOTTE_NETWORKS)
    hold_out, cross_validation = "10% hold-out, 3 runs", f"2-fold CV, {result['difference']['rows']:,} rows"
    return _make_table(
        ("recipe", "evaluation", "accuracy", "training, wall time", "CPU time"),
        (
            "preset `fast`",
            hold_out,
            _spread(fast["fast"]["accuracy"], _percent),
            f"{fast['fast']['seconds']['mean']:.0f} s",
            "",
        ),
        (
            "small CNN in stock Keras, 5 epochs",
            hold_out,
            _spread(fast["predecessor"]["accuracy"], _percent),
            f"{fast['predecessor']['seconds']['mean']:.0f} s",
            "",
        ),
        ("preset `single`", "none, trained on all rows", "", f"{result['single']['seconds']['mean']:.0f} s", ""),
        (
            f"preset `best`, {best['members']} networks per fold",
            cross_validation,
            f"{best['accuracy']:.3%}",
            _minutes(best["seconds"]),
            _minutes(best["processor_seconds"]),
        ),
        (
            f"Deotte's recipe, {deotte['networks']} networks per fold",
            cross_validation,
            f"{deotte['accuracy']:.3%}",
            f"{_minutes(wall)} (extrapolated)",
            f"{_minutes(cpu)} (extrapolated)",
        ),
        (
            f"Deotte's recipe, {DEOTTE_NETWORKS} networks per fold",
            "",
            NOT_MEASURED,
            f"{_minutes(wall_all)} (extrapolated)",
            f"{_minutes(cpu_all)} (extrapolated)",
        ),
        (
            f"`best` against Deotte's {deotte['networks']} (and {DEOTTE_NETWORKS}) networks",
            "same rows, paired",
            _points(result["difference"]),
            f"{_ratio(wall, best['seconds'])} ({_ratio(wall_all, best['seconds'])}) less",
            f"{_ratio(cpu, best['processor_seconds'])} ({_ratio(cpu_all, best['processor_seconds'])}) less",
        ),
    )


def benchmark_tables(result: Mapping[str, Any]) -> str:
    """Return all tables of the benchmark."""
    return "\n\n".join([ensemble_table(result), hold_out_table(result), single_table(result)])


def ensemble_table(result: Mapping[str, Any]) -> str:
    """Return the comparison of ensembles on two folds."""
    best, deotte, stock, difference = (result[name] for name in ("best", "deotte", "deotte_stock", "difference"))
    costs = {count: _deotte_costs(result, count) for count in (deotte["networks"], DEOTTE_NETWORKS)}

    def compare(count: int, accuracy: str) -> tuple[str, ...]:
        cpu, wall = costs[count]
        against = f"`best` against {count} networks in stock Keras"
        return against, accuracy, "", "", _ratio(cpu, best["processor_seconds"]), _ratio(wall, best["seconds"])

    return _make_table(
        (
            "",
            f"2-fold CV accuracy ({difference['rows']:,} rows)",
            "single-network accuracy",
            "processes x threads",
            "CPU time",
            "wall time",
        ),
        (
            f"`best`, {best['members']} networks per fold",
            f"{best['accuracy']:.3%}",
            _spread(best["alone"], _percent),
            _threads(best),
            _minutes(best["processor_seconds"]),
            _minutes(best["seconds"]),
        ),
        (
            f"Deotte's recipe, {deotte['networks']} networks per fold, on this kit's training engine",
            f"{deotte['accuracy']:.3%}",
            _spread(deotte["alone"], _percent),
            _threads(deotte),
            NOT_MEASURED,
            _minutes(deotte["seconds"]),
        ),
        *(
            (
                f"Deotte's recipe, {count} networks per fold, in stock Keras (extrapolated)",
                "as above" if count == deotte["networks"] else NOT_MEASURED,
                "",
                _threads(stock),
                *map(_minutes, costs[count]),
            )
            for count in costs
        ),
        (
            f"`best` against {deotte['networks']} networks on the same engine",
            _points(difference),
            "",
            "",
            NOT_MEASURED,
            _ratio(deotte["seconds"], best["seconds"]),
        ),
        compare(deotte["networks"], "as above"),
        compare(DEOTTE_NETWORKS, NOT_MEASURED),
        ("difference on the first fold, on the second", ", ".join(map(_points, result["halves"])), "", "", "", ""),
    )


def hold_out_table(result: Mapping[str, Any]) -> str:
    """Return the comparison of `fast` with a small CNN in stock Keras."""
    fast = result["fast"]
    rows = [("`fast`", fast["fast"]), ("small CNN in stock Keras, 5 epochs", fast["predecessor"])]
    return _make_table(
        ("10% hold-out", "validation accuracy", "processes x threads", "training, wall time"),
        *(
            (name, _spread(values["accuracy"], _percent), _threads(fast), _spread(values["seconds"], _seconds))
            for name, values in rows
        ),
        ("ratio", "", "", _ratio(fast["predecessor"]["seconds"]["mean"], fast["fast"]["seconds"]["mean"])),
    )


def single_table(result: Mapping[str, Any]) -> str:
    """Return time, memory and throughput of one network."""
    single, engine, best = result["single"], result["engine"], result["best"]
    memory = f"{single['memory_bytes']['mean'] / 1e9:.1f} GB (`best`: {best['memory_bytes'] / 1e9:.1f} GB)"
    return _make_table(
        (f"`single` on all rows, processes x threads: {_threads(single)}", ""),
        ("training, wall time", _spread(single["seconds"], _seconds)),
        ("time to the end of the first step, data loaded", _spread(single["first_step_seconds"], _seconds)),
        ("peak memory of all processes", memory),
        ("prediction throughput, images/s", _spread(single["predictions_per_second"], _count)),
        (f"training throughput, images/s ({engine['precision']})", _spread(engine["images_per_second"], _count)),
        ("training throughput, GFLOP/s", _spread(engine["gflops"], _count)),
        ("convolution peak, GFLOP/s", _spread(engine["convolutions_gflops"], _count)),
        ("training throughput vs. convolution peak", f"{engine['share']['mean']:.0%}"),
    )


def ablation_table(result: Mapping[str, Any]) -> str:
    """Return the ablation.

    Args:
        result: Content of docs/ablation.json.
    """
    return _make_table(
        ("setting", "one network", "difference to the first row", "two networks", "CPU time of two", "used in"),
        *(
            (
                name,
                f"{values['accuracy']:.3%}",
                _points(values["difference"]),
                f"{values['together']:.3%}",
                f"{values['processor_seconds'] / 60:.1f} min",
                values["kept"],
            )
            for name, values in result["variations"].items()
        ),
    )


def _make_table(*rows: Sequence[str]) -> str:
    """Return a Markdown table; the first row is the header."""
    header, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *others))


def _deotte_costs(result: Mapping[str, Any], networks: int) -> tuple[float, float]:
    """Return the CPU and wall seconds of some of Deotte's networks per fold in stock Keras; 15 were extrapolated."""
    factor = networks / DEOTTE_NETWORKS
    return factor * result["deotte_stock"]["processor_seconds"], factor * result["deotte_stock"]["seconds"]


def _spread(value: Mapping[str, float], form: Callable[[float], str]) -> str:
    return f"{form(value['mean'])} ± {form(value['deviation'])}"


def _points(difference: Mapping[str, float]) -> str:
    return f"{100 * difference['accuracy']:+.3f} ± {100 * difference['standard_error']:.3f} points"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _seconds(value: float) -> str:
    return f"{value:,.1f} s"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _ratio(theirs: float, ours: float) -> str:
    ratio = theirs / ours
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:.0f}x"


def _threads(part: Mapping[str, Any]) -> str:
    return f"{part['processes']} x {part['threads']}"


def main() -> None:
    """Update the tables of all documents."""
    benchmark, ablation = (
        json.loads((ROOT / "docs" / f"{name}.json").read_text()) for name in ("benchmark", "ablation")
    )
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(update_document(path.read_text(), benchmark, ablation))


if __name__ == "__main__":
    main()

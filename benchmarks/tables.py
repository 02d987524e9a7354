"""Markdown tables of the stored benchmark results, for the README and docs/.

`python -m benchmarks.tables` writes them into the documents, each between a line `<!-- table: NAME -->` and the next
`<!-- end of table -->`.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/benchmark.md", "docs/ablation.md", "docs/handwriting.md")
DEOTTE_NETWORKS = 15  # networks in Deotte's ensemble; see benchmarks/peers.py
Result = Mapping[str, Any]


def update_document(
    text: str, benchmarks: Sequence[Result], ablations: Sequence[Result], handwriting: Sequence[Result]
) -> str:
    """Return a document with all of its tables replaced.

    Args:
        text: Markdown with markers around its tables.
        benchmarks: Contents of docs/benchmark*.json: the first has all parts, others those that depend on the machine.
        ablations: Contents of docs/ablation*.json.
        handwriting: Contents of docs/handwriting-before.json and docs/handwriting.json.
    """
    first = benchmarks[0]
    tables = {
        "machines": machines_table(benchmarks),
        "accuracy": accuracy_table(first),
        "ensembles": ensemble_table(first),
        "engine": engine_table(benchmarks),
        "ablation": ablation_tables(ablations),
        "handwriting": handwriting_tables(handwriting),
    }
    return re.sub(
        r"(?<=<!-- table: )([a-z-]+) -->\n.*?(?=<!-- end of table -->)",
        lambda found: f"{found[1]} -->\n\n{tables[found[1]]}\n\n",
        text,
        flags=re.DOTALL,
    )


def benchmark_tables(result: Result) -> str:
    """Return the tables of those parts that were measured."""
    tables = []
    if "small" in result:
        tables.append(machines_table([result]))
    if "engine" in result:
        tables.append(engine_table([result]))
    if {"folds", "best", "deotte"} <= set(result):
        tables.append(accuracy_table(result))
    if {"difference", "deotte_stock"} <= set(result):
        tables.append(ensemble_table(result))
    return "\n\n".join(tables)


def machines_table(results: Sequence[Result]) -> str:
    """Return a row for each machine: small networks on it, and the default preset."""
    return _make_table(
        (
            "machine, 2 cores",
            "`fast`: accuracy",
            "training",
            "small CNN in stock Keras, 5 epochs",
            "training",
            "ratio",
            "`single`: training",
        ),
        *(
            (
                _describe(result),
                _mean(small["fast"], "accuracy", _percent),
                _mean(small["fast"], "seconds", _seconds),
                _mean(small["predecessor"], "accuracy", _percent),
                _mean(small["predecessor"], "seconds", _seconds),
                _ratio(small["fast"]["seconds"]["mean"], small["predecessor"]["seconds"]["mean"]),
                _mean(result["single"], "seconds", _seconds) if "single" in result else "not measured",
            )
            for result in results
            if "small" in result
            for small in [result["small"]]
        ),
    )


def accuracy_table(result: Result) -> str:
    """Return accuracies of all 42,000 rows, out of fold, with the measured cost of the training."""
    single, best, deotte = result["folds"], result["best"], result["deotte"]
    halves = "half of the rows"
    return _make_table(
        ("networks", "each trained on", "out-of-fold accuracy", "CPU time of the training"),
        (
            f"`single`, {single['folds']} networks, mean of {single['repetitions']} seeds",
            f"{1 - 1 / single['folds']:.0%} of the rows",
            _mean(single, "accuracy", _permille),
            _minutes(single["processor_seconds"]["mean"]),
        ),
        (f"`best`, {best['networks']} per half", halves, _permille(best["accuracy"]), _cpu(best)),
        (f"Deotte's, {deotte['networks']} per half", halves, _permille(deotte["accuracy"]), _cpu(deotte)),
        (
            "`best` less Deotte's, paired",
            "",
            _points(result["difference"]),
            f"{_ratio(best['processor_seconds'], deotte['processor_seconds'])} of it",
        ),
    )


def ensemble_table(result: Result) -> str:
    """Return costs and accuracies of the ensembles on two folds."""
    best, deotte, stock = result["best"], result["deotte"], result["deotte_stock"]
    return _make_table(
        ("two folds", "accuracy", "accuracy of one network", "processes x threads", "CPU time", "wall time"),
        (f"`best`, {best['networks']} networks per fold", *_ensemble(best)),
        (f"Deotte's recipe, {deotte['networks']} networks per fold, on this kit's engine", *_ensemble(deotte)),
        *(
            (
                f"Deotte's recipe, {count} networks per fold, in stock Keras",
                "not measured",
                "",
                _threads(stock),
                *(f"{_minutes(count * stock[name])} (extrapolated)" for name in ("processor_seconds", "seconds")),
            )
            for count in (deotte["networks"], DEOTTE_NETWORKS)
        ),
    )


def engine_table(results: Sequence[Result]) -> str:
    """Return time, memory and arithmetic rate of one network on each machine."""
    rows: list[tuple[str, str, str, Callable[[float], str]]] = [
        ("training of `single`, wall time", "single", "seconds", _seconds),
        ("time to the end of the first step, data loaded", "single", "first_step_seconds", _seconds),
        ("peak memory of all processes, GB", "single", "memory_bytes", lambda value: f"{value / 1e9:.1f}"),
        ("predictions per second", "single", "predictions_per_second", _count),
        ("training, images per second", "engine", "images_per_second", _count),
        ("training, GFLOP/s", "engine", "gflops", _count),
        ("its convolutions alone, GFLOP/s", "engine", "convolutions_gflops", _count),
        ("a matrix product, GFLOP/s", "engine", "matrix_gflops", _count),
        ("training relative to its convolutions", "engine", "share", lambda value: f"{value:.0%}"),
        ("convolutions relative to the matrix product", "engine", "convolutions_share", lambda value: f"{value:.0%}"),
    ]
    return _make_table(
        ("", *map(_describe, results)),
        *(
            (name, *(_mean(result[part], value, form) if part in result else "" for result in results))
            for name, part, value, form in rows
        ),
    )


def ablation_tables(results: Sequence[Result]) -> str:
    """Return a table for each ablation, with the machine that it was measured on."""
    tables = []
    for result in results:
        rows = [
            (
                name,
                _permille(values["accuracy"]),
                _points(values["difference"]) if name != values["basis"] else "",
                values["basis"] if name != values["basis"] else "",
                f"{values['processor_seconds'] / 60:.1f} min",
            )
            for name, values in result["variations"].items()
        ]
        tables.append(_make_table(("setting", "accuracy", "difference", "compared with", "CPU time"), *rows))
        tables.append(f"Measured on {_describe(result)}.")
    return "\n\n".join(tables)


def handwriting_tables(results: Sequence[Result]) -> str:
    """Return how pictures are read by kind: of one version, or of a former and the present one."""
    tables = []
    for part, title in (("lines", "lines"), ("digits", "one digit"), ("others", "no digit")):
        wanted = "refused" if part == "others" else "correct"
        names = [f"{wanted} before", f"{wanted} now"] if len(results) > 1 else [wanted]
        rows = [(kind, *(_tenths(result[part][kind][wanted]) for result in results)) for kind in results[-1][part]]
        tables.append(_make_table((title, *names), *rows))
    now = results[-1]
    (digits, others), speed, machine = now["refused"][str(now["refuse"])], now["speed"], now["machine"]
    sentences = (
        f"{now['count']} pictures of each kind, read by {now['networks']}.",
        f"Refused at {now['refuse']}: {digits:.1%} of the pictures with a digit,",
        f"{others:.1%} of those without.",
        f"On {machine['cores']} cores ({', '.join(machine['features'])}) a photo of 12 megapixels takes",
        f"{speed['large_photo_seconds']:.2f} s,",
        f"{speed['small_pictures_per_second']:.0f} pictures of 28x28 a second;",
        f"peak memory {speed['peak_bytes'] / 1e9:.1f} GB.",
    )
    tables.append(" ".join(sentences))
    return "\n\n".join(tables)


def _tenths(value: float) -> str:
    return f"{value:.1%}"


def _make_table(*rows: Sequence[str]) -> str:
    """Return a Markdown table; the first row is the header."""
    header, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *others))


def _describe(result: Result) -> str:
    """Return the processor with its best features, its precision, and how it was imitated."""
    machine = result["machine"]
    name = f"{machine['processor']} with {', '.join(machine['features'])}; {machine['precision']}"
    return f"{machine['processor']}, oneDNN limited to AVX2; {machine['precision']}" if machine["limited"] else name


def _ensemble(part: Result) -> tuple[str, ...]:
    alone = part["alone"]
    single = f"{alone['mean']:.3%} ± {alone['deviation'] / math.sqrt(2 * part['networks']):.3%}"
    return _permille(part["accuracy"]), single, _threads(part), _cpu(part), _minutes(part["seconds"])


def _mean(part: Result, name: str, form: Callable[[float], str]) -> str:
    """Return the mean of the repetitions with its standard error."""
    value = part[name]
    return f"{form(value['mean'])} ± {form(value['deviation'] / math.sqrt(part['repetitions']))}"


def _points(difference: Result) -> str:
    return f"{100 * difference['accuracy']:+.3f} ± {100 * difference['standard_error']:.3f} points"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _permille(value: float) -> str:
    return f"{value:.3%}"


def _seconds(value: float) -> str:
    return f"{value:,.1f} s"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min"


def _cpu(part: Result) -> str:
    return _minutes(part["processor_seconds"])


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}"


def _threads(part: Result) -> str:
    return f"{part['processes']} x {part['threads']}"


def read_results() -> tuple[list[Any], list[Any], list[Any]]:
    """Return the further arguments of `update_document`, from docs/."""

    def read(name: str) -> Any:
        return json.loads((ROOT / "docs" / f"{name}.json").read_text())

    benchmarks, ablations = (
        [read(stem) for stem in sorted(path.stem for path in (ROOT / "docs").glob(f"{name}*.json"))]
        for name in ("benchmark", "ablation")
    )
    handwriting = [read("handwriting-before"), read("handwriting")]
    return sorted(benchmarks, key=len, reverse=True), ablations, handwriting


def main() -> None:
    """Update the tables of all documents."""
    results = read_results()
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(update_document(path.read_text(), *results))


if __name__ == "__main__":
    main()

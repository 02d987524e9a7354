"""Markdown tables of the stored results: `python -m benchmarks.tables` writes them into README.md and docs/.

Each table stands between a line `<!-- table: NAME -->` and the next `<!-- end of table -->`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/benchmark.md", "docs/ablation.md", "docs/handwriting.md")
COLUMNS = 4  # kinds of pictures in a row of a table
REFUSE_LIMITS = ("0.1", "0.2", "0.3", "0.5", "0.7", "0.9")  # columns of the table of refused pictures
Result = Mapping[str, Any]


def read_results() -> dict[str, list[Any]]:
    """Return the results in docs/ by kind; the first benchmark has all parts, the others those of one machine."""
    kinds = "benchmark", "ablation", "handwriting"
    paths = {kind: sorted((ROOT / "docs").glob(f"{kind}*.json"), key=lambda path: path.stem) for kind in kinds}
    return {kind: [json.loads(path.read_text()) for path in paths[kind]] for kind in kinds}


def update_document(text: str, results: Mapping[str, Sequence[Result]]) -> str:
    """Return a Markdown document with all tables between its markers made anew from `read_results`."""
    tables = {
        "machines": make_machines_table(results["benchmark"]),
        "accuracy": make_accuracy_table(results["benchmark"][0]),
        "peers": make_peers_table(results["benchmark"][0]),
        "engine": make_engine_table(results["benchmark"]),
        "ablation": make_ablation_table(results["ablation"]),
        "handwriting": "\n\n".join(map(make_handwriting_tables, results["handwriting"])),
    }
    return re.sub(
        r"(?<=<!-- table: )([a-z-]+) -->\n.*?(?=<!-- end of table -->)",
        lambda match: f"{match[1]} -->\n\n{tables[match[1]]}\n\n",
        text,
        flags=re.DOTALL,
    )


def make_benchmark_tables(result: Result) -> str:
    """Return the tables of those parts that were measured."""
    tables = []
    if "small" in result:
        tables.append(make_machines_table([result]))
    if {"single", "engine"} & set(result):
        tables.append(make_engine_table([result]))
    if "best" in result:
        tables.append(make_accuracy_table(result))
    if "peers" in result:
        tables.append(make_peers_table(result))
    return "\n\n".join(tables)


def make_machines_table(results: Sequence[Result]) -> str:
    """Return a row for each machine: small networks on it, and the default preset."""
    rows = []
    for result in results:
        fast, small_cnn = result["small"]["fast"], result["small"]["small_cnn"]
        row = [_describe(result)]
        for part in (fast, small_cnn):
            row += [_mean(part, "accuracy", ".2%"), _mean(part, "seconds", ",.1f", " s")]
        row.append(f"{fast['seconds']['mean'] / small_cnn['seconds']['mean']:.2f}")
        rows.append((*row, _mean(result["single"], "seconds", ",.1f", " s") if "single" in result else ""))
    names = (
        "machine, 2 cores",
        "`fast`: accuracy",
        "training",
        "small CNN in stock Keras, 5 epochs",
        "training",
        "ratio",
    )
    return _make_table((*names, "`single`: training"), rows)


def make_accuracy_table(result: Result) -> str:
    """Return accuracies of all 42,000 rows, out of fold, with the measured cost of the training."""
    best = result["best"]
    rows = f"{1 - 1 / best['folds']:.0%} of the rows"
    cells = [
        (f"one, mean of {best['networks']['repetitions']}", rows, _mean(best["networks"], "accuracy", ".3%"), ""),
        (f"{best['members']}, `best`", rows, f"{best['accuracy']:.3%}", f"{best['processor_seconds'] / 60:.0f} min"),
    ]
    return _make_table(("networks", "each trained on", "out-of-fold accuracy", "CPU time of all"), cells)


def make_peers_table(result: Result) -> str:
    """Return a row for each network that was trained on the rows of the part `peers`, with its costs."""
    peers = result.get("peers", {"rows": 0, "networks": {}})
    rows = []
    for name, network in peers["networks"].items():
        accuracy, seconds = network["accuracy"], (network["processor_seconds"], network["all_seconds"])
        error = math.sqrt(accuracy * (1 - accuracy) / peers["rows"])
        compared = _points(network["difference"]) if name != "single" else ""
        rows.append((f"`{name}`", f"{accuracy:.2%} ± {error:.2%}", compared, *(f"{value:,.0f} s" for value in seconds)))
    header = "network", "accuracy", "`single` less it, paired", "CPU time", "wall time"
    names = ", ".join(" ".join(pair) for pair in result["machine"]["versions"].items())
    note = f"Measured at commit {_name_commit(result)} on {_describe(result)} with {names}."
    return _make_table(header, rows) + (f"\n\n{note}" if rows else "")


def make_engine_table(results: Sequence[Result]) -> str:
    """Return time, memory and arithmetic rate of one network, with a column for each machine."""
    measures = [
        ("training of `single`, wall time", "single", "seconds", ",.1f", " s"),
        ("training, images per second", "engine", "images_per_second", ",.0f", ""),
        ("training, GFLOP/s", "engine", "gflops", ",.0f", ""),
        ("its convolutions alone, GFLOP/s", "engine", "convolutions_gflops", ",.0f", ""),
        ("a matrix product, GFLOP/s", "engine", "matrix_gflops", ",.0f", ""),
        ("training relative to its convolutions", "engine", "share", ".0%", ""),
        ("convolutions relative to the matrix product", "engine", "convolutions_share", ".0%", ""),
    ]
    rows = [
        (title, *(_mean(result[part], *how) if part in result else "" for result in results))
        for title, part, *how in measures
    ]
    return _make_table(("", *map(_describe, results)), [*rows, ("commit", *map(_name_commit, results))])


def make_ablation_table(results: Sequence[Result]) -> str:
    """Return a row for each setting, and the machine of each commit that was measured."""
    rows = []
    for result in results:
        for name, values in result["variations"].items():
            compared = (_points(values["difference"]), values["basis"]) if name != values["basis"] else ("", "")
            minutes = f"{values['processor_seconds'] / 60:.1f} min"
            arithmetic = f"{values['arithmetic']:.2f}" if "arithmetic" in values else ""
            seeds = str(len(result.get("seeds", "0")))
            rows.append(
                (name, f"{values['accuracy']:.3%}", *compared, seeds, arithmetic, minutes, _name_commit(result))
            )
    machines = "; ".join(f"{_name_commit(result)} on {_describe(result)}" for result in results)
    header = "setting", "accuracy", "difference", "compared with", "seeds", "arithmetic", "CPU time", "commit"
    return f"{_make_table(header, rows)}\n\nMeasured at commit {machines}."


def draw_ablation(results: Sequence[Result]) -> Figure:
    """Draw the differences of settings to their basis, ± the standard error, against the arithmetic of the training."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(1, 0, "ks", label="`single`")
    for name, values in (item for result in results for item in result["variations"].items()):
        if "arithmetic" in values and name != values["basis"]:
            gain, error = (100 * values["difference"][key] for key in ("accuracy", "standard_error"))
            axes.errorbar(values["arithmetic"], gain, error, fmt="o", capsize=3, label=name)
    axes.set(xlabel="arithmetic of the training, `single` is 1", ylabel="out-of-fold accuracy (points)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def make_handwriting_tables(result: Result) -> str:
    """Return how pictures are read by kind, how many are refused by the value of `--refuse`, and the speed."""
    tables = []
    for part, value in (("lines", "correct"), ("digits", "correct"), ("others", "refused")):
        cells = [(kind, f"{scores[value]:.1%}") for kind, scores in result[part].items()]
        cells += [("", "")] * (-len(cells) % COLUMNS)
        rows = [sum(cells[first : first + COLUMNS], ()) for first in range(0, len(cells), COLUMNS)]
        tables.append(_make_table((part, value) * COLUMNS, rows))
    refused = zip(*(result["refused"][limit] for limit in REFUSE_LIMITS), strict=True)
    names = "pictures with a digit", "pictures without a digit"
    refusals = [(name, *(f"{share:.1%}" for share in shares)) for name, shares in zip(names, refused, strict=True)]
    tables.append(_make_table(("refused with `--refuse`", *REFUSE_LIMITS), refusals))
    speed = result["speed"]
    tables.append(
        f"{result['count']} pictures of each kind, read by {result['networks']}, at commit {_name_commit(result)}, on "
        f"{result['machine']['cores']} cores of {_describe(result)}. A photo of 12 megapixels takes "
        f"{speed['large_photo_seconds']:.2f} s; {speed['small_pictures_per_second']:.0f} pictures of 28x28 pixels take "
        f"one second. Peak memory {speed['peak_bytes'] / 1e9:.1f} GB."
    )
    return "\n\n".join(tables)


def _make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))


def _describe(result: Result) -> str:
    """Return the processor with its features, and the precision."""
    machine = result["machine"]
    return f"{machine['processor']} with {', '.join(machine['features'])} ({machine['precision']})"


def _name_commit(result: Result) -> str:
    """Return the short commit, with "-dirty" as git appends it for uncommitted changes."""
    commit = str(result["machine"]["git_commit"])
    return commit[:7] + commit[40:]


def _mean(part: Result, name: str, form: str, unit: str = "") -> str:
    """Return the mean of the repetitions with its standard error."""
    mean, error = part[name]["mean"], part[name]["deviation"] / math.sqrt(part["repetitions"])
    return f"{mean:{form}}{unit} ± {error:{form}}{unit}" if part["repetitions"] > 1 else f"{mean:{form}}{unit}"


def _points(difference: Result) -> str:
    return f"{100 * difference['accuracy']:+.3f} ± {100 * difference['standard_error']:.3f} points"


def main() -> None:
    """Update the tables of all documents and the picture of the ablation."""
    results = read_results()
    draw_ablation(results["ablation"]).savefig(ROOT / "docs" / "ablation.png", dpi=100)
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(update_document(path.read_text(), results))


if __name__ == "__main__":
    main()

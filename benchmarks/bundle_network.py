"""Replace the network that the package ships by that of a finished run: `make bundled RUN=`."""

import hashlib
import sys
from pathlib import Path

import click
import numpy as np

from digit_recognizer.config import COMPETITION
from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation.metrics import fit_temperature
from digit_recognizer.files import replacing, write_json
from digit_recognizer.model.bundled import RECORD, WEIGHTS
from digit_recognizer.training import run_folder

KEPT = ("run", "config", "data", "code", "git_commit", "versions", "finished_at")  # of the run's record


def bundle_network(run_dir: Path, weights: Path = WEIGHTS, record: Path = RECORD) -> None:
    """Write layers and weights (float16) of a run's only network, and the record of how they were made.

    Raises:
        UserError: The run is not finished, has several networks or no validation rows, or not the competition's data.
    """
    run = run_folder.read_finished_record(run_dir)
    folders = run_folder.member_dirs(run_dir)
    if len(folders) > 1 or run["competition"] != COMPETITION:
        trained = f"{len(folders)} on the {run['competition']} data"
        raise UserError(f"expected one network trained on the {COMPETITION} data, found {trained}; name another RUN=")
    _, labels, probabilities = run_folder.require_held_out(run_folder.read_predictions(run_dir), run_dir)
    with hide_native_messages():
        from digit_recognizer.model.prediction import load_network

    network = load_network(folders[0] / "model.keras")
    with replacing(weights) as temporary:
        arrays = (values.astype(np.float16) for values in network.get_weights())
        np.savez_compressed(temporary, network.to_json(), *arrays)
    made = {"validation_accuracy": run["scores"]["validation_accuracy"], "images": len(labels)}
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    made |= {"temperature": fit_temperature(labels, probabilities), "weights_sha256": digest}
    write_json(record, {name: run[name] for name in KEPT} | made)


@click.command()
@click.option("--run", help="Name of the run; by default the latest.")
def main(run: str | None) -> None:
    """Replace the network that the package ships by that of a finished run."""
    run_dir = run_folder.find_run(Path("models"), run)
    bundle_network(run_dir)
    click.echo(f"Wrote {WEIGHTS} and {RECORD.name} from {run_dir}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bundle_network: {error}")

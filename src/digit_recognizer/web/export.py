"""Write the page as static files, with the networks in the browser.

The layers are those of `model.to_json`, the weights float16; browser/network.js computes them with TensorFlow.js.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from digit_recognizer.config import IMAGE_SIZE
from digit_recognizer.errors import UserError
from digit_recognizer.files import write_json
from digit_recognizer.handwriting import normalisation, reader

STATIC, BROWSER = (Path(__file__).with_name(name) for name in ("static", "browser"))
LAYERS = {"InputLayer", "Conv2D", "MaxPooling2D", "ReLU", "Add", "GlobalAveragePooling2D", "Dropout", "Dense"}
SETTINGS = "network.json"
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:; connect-src 'self'"


def export_page(run_dir: Path | None, folder: Path) -> None:
    """Write the page to a folder, which is created or replaced as a whole.

    Args:
        run_dir: Folder of the run whose networks read; None: the network of the package.
        folder: The files of a web site; a server of static files is enough for it.

    Raises:
        UserError: A network has a layer that the page cannot compute, or the folder has other files than an export.
    """
    temperature, networks = reader.load_networks(run_dir)
    described = [_describe(network) for network in networks]
    settings = {"name": reader.name_networks(run_dir).partition(";")[0], "temperature": temperature}
    settings |= {"side": IMAGE_SIZE, "digitSize": normalisation.DIGIT_SIZE, "centre": normalisation.CENTRE}
    settings |= {"strokeWidths": normalisation.STROKE_WIDTHS, "oversampling": normalisation.OVERSAMPLING}
    settings |= {"variantScales": normalisation.VARIANT_SCALES, "confident": reader.CONFIDENT, "networks": described}
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        page = Path(temporary, "page")
        shutil.copytree(STATIC, page)
        shutil.copytree(BROWSER, page, dirs_exist_ok=True)  # its backend.js takes the place of the server's
        policy, index = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">', page / "index.html"
        index.write_text(index.read_text().replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}'))
        write_json(page / SETTINGS, settings)
        weights = [array.astype("<f2").tobytes() for network in networks for array in network.get_weights()]
        (page / "network.bin").write_bytes(b"".join(weights))
        earlier, own = _list_files(folder), _list_files(page)
        if earlier and (SETTINGS not in earlier or earlier - own):
            other = min(earlier - own or earlier)
            raise UserError(f"{folder} is not an export of the page: it has {other}; choose another folder (PAGE=)")
        if folder.exists():
            folder.rename(Path(temporary, "earlier"))
        page.rename(folder)


def _list_files(folder: Path) -> set[str]:
    """Return the paths of all files in a folder, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _describe(network: Any) -> dict[str, Any]:
    """Return the layers of a network, in Keras' description, and the shapes of their weights."""
    layers = json.loads(network.to_json())["config"]["layers"]
    if foreign := sorted({layer["class_name"] for layer in layers} - LAYERS):
        raise UserError(
            f"the exported page cannot compute {', '.join(foreign)}, only {', '.join(sorted(LAYERS))}; "
            "`make draw` and `make predict` read with this network"
        )
    shapes = [[array.shape for array in network.get_layer(layer["config"]["name"]).get_weights()] for layer in layers]
    return {"layers": layers, "shapes": shapes}

"""Write the page as static files, with the networks in the browser.

The layers are those of `model.to_json`, the weights float16; browser/network.js computes them with TensorFlow.js.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from digit_recognizer.config import IMAGE_SIZE
from digit_recognizer.errors import UserError
from digit_recognizer.files import replacing, write_json
from digit_recognizer.handwriting import normalisation, reader

STATIC, BROWSER = (Path(__file__).with_name(name) for name in ("static", "browser"))
LAYERS = {"InputLayer", "Conv2D", "MaxPooling2D", "ReLU", "Add", "GlobalAveragePooling2D", "Dropout", "Dense"}
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:; connect-src 'self'"


def export_page(run_dir: Path | None, folder: Path) -> None:
    """Write the page to a folder, which is created; files of an earlier export are replaced.

    Args:
        run_dir: Folder of the run whose networks read; None: the network of the package.
        folder: The files of a web site; a server of static files is enough for it.

    Raises:
        UserError: A network has a layer that the page cannot compute.
    """
    temperature, networks = reader.load_networks(run_dir)
    described = [_describe(network) for network in networks]
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    shutil.copytree(BROWSER, folder, dirs_exist_ok=True)  # its backend.js takes the place of the server's
    page = folder / "index.html"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    page.write_text(page.read_text().replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}'))
    settings = {"name": reader.name_networks(run_dir).partition(";")[0], "temperature": temperature}
    settings |= {"side": IMAGE_SIZE, "digitSize": normalisation.DIGIT_SIZE, "centre": normalisation.CENTRE}
    settings |= {"strokeWidths": normalisation.STROKE_WIDTHS, "oversampling": normalisation.OVERSAMPLING}
    settings |= {"variantScales": normalisation.VARIANT_SCALES, "sure": reader.SURE}
    write_json(folder / "network.json", settings | {"networks": described})
    with replacing(folder / "network.bin") as temporary:
        arrays = [one.astype("<f2").tobytes() for network in networks for one in network.get_weights()]
        temporary.write_bytes(b"".join(arrays))


def _describe(network: Any) -> dict[str, Any]:
    """Return the layers of a network, in Keras' description, and the shapes of their weights."""
    layers = json.loads(network.to_json())["config"]["layers"]
    if foreign := sorted({layer["class_name"] for layer in layers} - LAYERS):
        raise UserError(f"expected a network of the layers {', '.join(sorted(LAYERS))}, found {', '.join(foreign)}")
    shapes = [[one.shape for one in network.get_layer(layer["config"]["name"]).get_weights()] for layer in layers]
    return {"layers": layers, "shapes": shapes}

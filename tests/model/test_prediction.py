"""Prediction with saved networks."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest

from digit_recognizer.data.csv_files import normalise
from digit_recognizer.errors import UserError
from digit_recognizer.model import bundled
from digit_recognizer.model.networks import build_model
from digit_recognizer.model.prediction import load_network, make_predictor
from digit_recognizer.training import run_folder

BFLOAT16 = 0.03  # largest difference of probabilities computed in half precision


def test_probabilities_of_networks_are_averaged_in_the_order_of_the_images():
    models = [build_model(architecture="residual", channels=(4, 8), dropout=0) for _ in range(2)]
    images = np.random.default_rng(0).integers(0, 256, (1203, 28, 28), np.uint8)
    each = [model.predict(images[..., np.newaxis] / np.float32(255), verbose=0) for model in models]
    predict = make_predictor(models)
    assert predict(images) == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert predict(images[:0]).shape == (0, 10)


def test_probabilities_are_averaged_over_shifted_images():
    model, image = build_model(architecture="plain", channels=(4, 8), dropout=0), np.zeros((1, 28, 28), np.uint8)
    image[:, 10:20, 5:9] = 255
    copies = np.concatenate([image, *(np.roll(image, step, axis) for step in (-1, 1) for axis in (1, 2))])
    mean = make_predictor([model])(copies).mean(axis=0)
    assert make_predictor([model], shifts=True)(image)[0] == pytest.approx(mean, abs=1e-6)


def test_a_network_whose_loss_was_not_finite_prefers_no_digit():
    model = build_model(architecture="plain", channels=(4, 8), dropout=0)
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    assert make_predictor([model])(np.zeros((1, 28, 28), np.uint8)).tolist() == [[np.float32(0.1)] * 10]


def test_a_network_loaded_in_half_precision_predicts_nearly_the_same(tmp_path):
    model = build_model(architecture="residual", channels=(16, 32), dropout=0.2, folded=True)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    full, half = (
        make_predictor([load_network(tmp_path / "model.keras", name)]) for name in ("float32", "mixed_bfloat16")
    )
    assert (full(images) == make_predictor([model])(images)).all()
    assert half(images) == pytest.approx(full(images), abs=BFLOAT16)
    assert (half(images) != full(images)).any()


def test_a_saved_network_needs_nothing_but_keras(trained, rows):
    path, predictions = trained / "member-0" / "model.keras", run_folder.read_predictions(trained)
    modules = re.findall(r'"module": "([^"]+)"', zipfile.ZipFile(path).read("config.json").decode())
    assert {module.split(".")[0] for module in modules} == {"keras"}
    probabilities = keras.models.load_model(path)(normalise(rows.images[predictions.rows])).numpy()
    assert probabilities == pytest.approx(predictions.probabilities, abs=BFLOAT16)


def test_a_network_of_other_layers_of_keras_is_loaded(tmp_path):
    layers = keras.layers
    stack = [layers.Input((28, 28, 1)), layers.Conv2D(2, 3), layers.LeakyReLU(), layers.Flatten(), layers.Dense(10)]
    keras.Sequential(stack).save(tmp_path / "model.keras")
    assert load_network(tmp_path / "model.keras", "mixed_bfloat16").count_params() == 13_550


def save(folder, change, **others):
    """Save a network with another configuration, which a function changes in place; return the file."""
    path = folder / "member-0" / "model.keras"
    path.parent.mkdir()
    build_model(architecture="plain", channels=(4, 8), dropout=0, folded=True).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config)} | others).items():
            archive.writestr(name, content)
    return path


def refers_to_os_system(config):
    layer = config["config"]["layers"][-1]
    layer |= {"module": "os", "class_name": "system", "registered_name": "system", "config": "touch marker"}


def has_a_function(config):
    function = {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
    config["config"]["layers"][-1]["config"]["activation"] = function


def has_python_code(config):
    def leave_marker(x):
        open("marker", "w").close()  # noqa: PTH123
        return x

    layer = keras.layers.Lambda(leave_marker)
    config["config"]["layers"][-1] |= {"class_name": "Lambda", "config": layer.get_config()}


def has_a_million_filters(config):
    layers = config["config"]["layers"]
    layers[1]["config"]["filters"] = 10**6
    for layer in layers:
        layer.pop("build_config", None)


def has_other_images(config):
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, 32, 32, 1]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (refers_to_os_system, ".*could not be deserialized.*"),
        (has_a_function, ".*could not be deserialized.*"),
        (has_python_code, ".*could not be deserialized.*"),
        (has_a_million_filters, r"a network of \d\d\d,\d\d\d,\d\d\d bytes from .*"),
        (has_other_images, r"a network of .* from \(None, 32, 32, 1\) to \(None, 10\)"),
    ],
)
def test_a_network_of_somebody_else_is_refused_before_it_is_made(change, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, change)
    message = f"a network of `make train` as {path}, found something else .{fault}.; move {path.parent} away and run"
    with pytest.raises(UserError, match=message):
        load_network(path)
    assert list(tmp_path.iterdir()) == [path.parent]  # nothing was executed


def test_a_network_without_its_weights_is_refused(tmp_path):
    path = save(tmp_path, lambda config: None)
    config = zipfile.ZipFile(path).read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config + b" " * 100_000)
    with pytest.raises(UserError, match=r"a network of `make train` as .*model.keras, found something else"):
        load_network(path)


def test_a_network_that_another_keras_cannot_load_names_the_version_that_saved_it(tmp_path):
    path = save(tmp_path, refers_to_os_system, **{"metadata.json": '{"keras_version": "3.99.0"}'})
    with pytest.raises(UserError, match=rf"; Keras 3.99.0 saved it, this is Keras {keras.__version__}: install that"):
        load_network(path)


def test_networks_are_saved_without_keys_that_an_older_keras_rejects(trained):
    """Keras 3.15 writes them for its default initialiser; `test_install.py` loads both networks with 3.13."""
    with np.load(bundled.WEIGHTS) as shipped:
        configs = [
            str(shipped["arr_0"]),
            zipfile.ZipFile(trained / "member-0" / "model.keras").read("config.json").decode(),
        ]
    assert not any("input_axes" in config for config in configs)

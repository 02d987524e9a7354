"""Layer counts, compared with counts by hand."""

from digit_recognizer.model import summary
from digit_recognizer.model.networks import build_model


def test_shapes_parameters_and_multiply_adds():
    layers = summary.describe(build_model(architecture="residual", channels=(4, 8), dropout=0.1, folded=True))
    counted = [(layer.kind, layer.shape, layer.parameters, layer.multiply_adds) for layer in layers]
    assert counted[:4] == [
        ("InputLayer", (28, 28, 1), 0, 0),
        ("Conv2D 5x5", (28, 28, 4), 25 * 1 * 4 + 4, 28 * 28 * 25 * 1 * 4),
        ("MaxPooling2D 2x2", (14, 14, 4), 0, 0),
        ("ReLU", (14, 14, 4), 0, 0),
    ]
    convolutions = [layer for layer in counted if layer[0] == "Conv2D 3x3"]
    assert convolutions == [
        ("Conv2D 3x3", (14, 14, 4), 9 * 4 * 4 + 4, 14 * 14 * 9 * 4 * 4),
        ("Conv2D 3x3", (14, 14, 8), 9 * 4 * 8 + 8, 14 * 14 * 9 * 4 * 8),
        ("Conv2D 3x3", (7, 7, 8), 9 * 8 * 8 + 8, 7 * 7 * 9 * 8 * 8),
        ("Conv2D 3x3", (7, 7, 8), 9 * 8 * 8 + 8, 7 * 7 * 9 * 8 * 8),
    ]
    assert counted[-1] == ("Dense", (10,), 8 * 10 + 10, 8 * 10)


def test_parameters_sum_to_those_of_the_model():
    model = build_model(architecture="residual", channels=(4, 8), dropout=0)
    assert sum(layer.parameters for layer in summary.describe(model)) == model.count_params()


def test_an_addition_lists_both_inputs():
    layers = summary.describe(build_model(architecture="residual", channels=(4, 8), dropout=0))
    places = {layer.name: index for index, layer in enumerate(layers)}
    sums = [layer for layer in layers if layer.kind == "Add"]
    assert len(sums) == 2
    for layer in sums:
        skipped, last = sorted(places[name] for name in layer.inputs)
        assert (last, layers[skipped].kind) == (places[layer.name] - 1, "ReLU")
        assert skipped == last - 2
    assert all(len(layer.inputs) == 1 for layer in layers[1:] if layer.kind != "Add")
    assert layers[0].inputs == ()

"""Every verb of every layer of the reference, with each argument as it cannot be."""

import inspect

import numpy as np
import pytest
from bad_values import NOTHINGS
from reference_cases import LAYERS
from walk import Call

from kfac_core import reference
from kfac_core.reference.checked import VERBS

EMBEDDING = reference.Embedding(vocab_size=5, output_size=2)
CASES = {name: (case.layer, case.shape) for name, case in LAYERS.items()}
CASES["embedding"] = (EMBEDDING, (2,))
CLASSES = {
    kind
    for _, kind in inspect.getmembers(reference, inspect.isclass)
    if issubclass(kind, reference.Layer) and not inspect.isabstract(kind)
}


OF_ANY_BATCH = ("a case less", "empty")
OF_ANY_SHAPE = ("an axis more", "an axis less", "too wide", "no channels")
FREE_INPUTS = {
    reference.Tanh: (*OF_ANY_SHAPE, "another library"),
    reference.ReLU: (*OF_ANY_SHAPE, "another library"),
    reference.Flatten: (*OF_ANY_SHAPE, "another library"),
    reference.MeanPool2D: ("too wide", "no channels", "another library"),
    reference.Bias: ("an axis more",),
}


def test_every_layer_is_walked():
    assert {type(layer) for layer, _ in CASES.values()} == CLASSES


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_verbs(walked, kinds, case, rng):
    layer, shape = case
    x = rng.normal(size=(3, *shape))
    if layer is EMBEDDING:
        x = rng.integers(5, size=(3, *shape))
    like = np.ones(1)
    params = layer.init(rng, like=like)
    y, cache = layer.forward(params, x)
    right = {"normals": rng.normal(size=layer.num_params), "x": x, "g": y, "dg": y}
    right |= {"params": params, "tangents": params, "cache": cache, "dx": x, "v": x}
    verbs = {verb for verb in VERBS if hasattr(layer, verb)}
    data = ("x", "v", "g", "dx", "dg", *(["normals"] if params else []))
    if not params:
        verbs.remove("init_from")
    if layer is EMBEDDING:
        verbs -= {"backward", "backward_change"}  # ids have no gradient
    numbers = right if layer is not EMBEDDING else right | {"x": x + 0.5, "dx": x + 0.5}
    faults = {name: kinds.data(numbers[name]) for name in data if name != "v"}
    faults["v"] = faults["x"]
    if layer is EMBEDDING:
        faults |= {"x": kinds.ids(x, 5), "dx": {"None": None}}
        right["dx"] = None
    faults["params"] = faults["tangents"] = params_faults(kinds, params)
    faults["cache"] = NOTHINGS | {"number": 1.0, "list": []}
    free = {"dx": ("None",), "dg": ("None",), "normals": ("another library",)}
    free["x"] = (*OF_ANY_BATCH, *FREE_INPUTS.get(type(layer), ()))
    if isinstance(layer, reference.Bias):
        free["g"] = (*OF_ANY_BATCH, "an axis more")
    if layer == reference.Bias((3, 1)):  # the last axis is any
        free |= {name: (*free[name], "too wide", "no channels") for name in "xg"}
    calls = []
    for verb in sorted(verbs):
        function = getattr(layer, verb)
        names = [*inspect.signature(function).parameters]
        calls.append(
            Call(
                f"{layer.label}.{verb}",
                function,
                {name: right[name] for name in names},
                {name: faults[name] for name in names},
                {
                    name: free.get(name, ())
                    for name in names
                    if name != "g" or "dg" not in names
                },
                layer.label,
                {"x": ("inputs",)},
            )
        )
    walked(*calls)


def params_faults(kinds, params):
    """What parameters cannot be: `params` are the right ones, perhaps none."""
    found = NOTHINGS | {"number": 1.0, "an array": np.ones(2)}
    found["a part more"] = (*params, np.ones(1))
    if params:
        first, *rest = params
        wrong = {k: bad for k, bad in kinds.data(first).items() if k not in NOTHINGS}
        found |= {name: (bad, *rest) for name, bad in wrong.items()}
        found |= {"a part less": params[1:], "of None": (None, *rest)}
    return found

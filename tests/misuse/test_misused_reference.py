"""Constructors, networks, models and Fishers of the reference: wrong arguments."""

import numpy as np
import pytest
from bad_values import NOTHINGS, flag, size
from loss_table import keys
from registration_faults import padding, steps
from test_misused_reference_layers import params_faults
from walk import Call

import kfac_core as kc
from kfac_core import reference as ref

RIGHT = {"input_size": 3, "output_size": 2, "vocab_size": 4, "first_size": 2}
RIGHT |= {"second_size": 3, "has_bias": True, "mirrored": False, "num_groups": 1}


def shapes():
    """A shape of positive sizes."""
    sizes = {"zero": (0, 5), "below": (-1, 5), "fraction": (2.5, 5), "text": ("1", 5)}
    free = {"None in it": (None, 5), "number": 5, "flag": (True, 5)}
    return NOTHINGS | sizes | free | {"array": np.ones(2)}


def constructor(kind, right, faults, allowed=None, words=None):
    label = kind.__name__
    faults = {name: faults[name] for name in right}
    return Call(label, kind, right, faults, allowed or {}, label, words or {})


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (ref.Dense, ("input_size", "output_size", "has_bias")),
        (ref.Embedding, ("vocab_size", "output_size")),
        (ref.Bilinear, ("first_size", "second_size", "output_size", "has_bias")),
    ],
)
def test_sizes_of_layers(walked, kind, names):
    right = {name: RIGHT[name] for name in names}
    faults = {name: flag() if name == "has_bias" else size() for name in names}
    walked(constructor(kind, right, faults))


def test_shapes_of_layers(walked):
    conv = {"filter_shape": (3, 3, 1, 2), "strides": (1, 1), "padding": "SAME"}
    transposed = {"filter_shape": (3, 3, 2, 2), "strides": 1, "padding": "VALID"}
    transposed |= {"output_padding": 0, "dilations": 1, "num_groups": 1}
    bias, mirrored = {"has_bias": True}, {"mirrored": False}
    faults = {"filter_shape": shapes(), "strides": steps(), "padding": padding()}
    faults |= {"output_padding": steps(), "dilations": steps(), "num_groups": size()}
    faults |= {"has_bias": flag(), "mirrored": flag()}
    free = {"padding": ("zero",)}
    free |= {"output_padding": ("None", "zero", "zeros")}
    words = {"strides": ("stride",), "filter_shape": ("kernel",)}
    walked(
        constructor(ref.Bias, {"shape": (2,)}, {"shape": shapes()}),
        constructor(
            ref.MeanPool2D, {"size": (2, 2)}, {"size": shapes()}, {"size": ("None",)}
        ),
        constructor(ref.Conv2D, conv | bias, faults, {}, words),
        constructor(
            ref.ConvTranspose, transposed | bias | mirrored, faults, free, words
        ),
    )


@pytest.fixture
def network():
    return ref.Sequential((ref.Dense(3, 4), ref.Tanh(), ref.Dense(4, 2)))


@pytest.fixture
def params(network, rng):
    return network.init(rng, like=np.ones(1))


X = np.random.default_rng(1).normal(size=(5, 3))
LOSS = kc.losses.NormalMeanNegativeLogProbLoss()
LAYER = size() | {"flag": True, "too large": 2, "below": -3}
del LAYER["None"], LAYER["zero"]


def network_faults(kinds, params):
    first, *rest = params
    bad = params_faults(kinds, first)
    nested = {k: (x, *rest) for k, x in bad.items() if k not in NOTHINGS}
    return NOTHINGS | nested | {"a layer less": params[1:], "an array": np.ones(2)}


def test_networks(walked, kinds, network, params, rng):
    forward = network.forward(params, X)
    vector = network.params_to_vector(params)
    right = {"key": rng, "like": np.ones(1), "params": params, "x": X, "layer": 0}
    right |= {"forward": forward, "g_outputs": forward.outputs, "tangents": params}
    right |= {"vector": vector}
    of_params = network_faults(kinds, params)
    like = {name: kinds.data(X)[name] for name in ("booleans", "integers", "complex")}
    faults = {"key": keys(), "like": NOTHINGS | like, "params": of_params}
    faults |= {"x": kinds.data(X), "layer": LAYER, "tangents": of_params}
    faults |= {"forward": NOTHINGS | {"an array": X, "tuple": (X, (), ())}}
    faults |= {"g_outputs": kinds.data(forward.outputs), "vector": kinds.data(vector)}
    words = {"x": ("inputs",), "g_outputs": ("g ", "g:", "g,")}
    verbs = {
        "init": ("key", "like"),
        "forward": ("params", "x"),
        "output_gradients": ("params", "forward", "g_outputs"),
        "backward": ("params", "forward", "g_outputs"),
        "case_gradients": ("params", "forward", "g_outputs", "layer"),
        "jacobian": ("params", "x", "layer"),
        "push_forward": ("params", "forward", "tangents"),
        "params_to_vector": ("params",),
        "vector_to_params": ("vector",),
        "layer_slice": ("layer",),
    }
    free = {"x": ("a case less", "empty"), "vector": ("another library",)}
    walked(
        constructor(ref.Sequential, {"layers": network.layers}, {"layers": NOTHINGS}),
        *(
            Call.of(
                f"Sequential.{verb}",
                getattr(network, verb),
                names,
                right,
                faults,
                free,
                words=words,
            )
            for verb, names in verbs.items()
        ),
    )


def test_fishers(walked, kinds, network, params, rng):
    layers = NOTHINGS | {"a layer": network.layers[0]}
    losses = NOTHINGS | {"class": kc.losses.NormalMeanNegativeLogProbLoss, "number": 1}
    targets = np.ones((5, 2))
    right = {"network": network, "params": params, "x": X, "loss": LOSS, "layer": 0}
    right |= {"targets": targets, "key": rng, "num_samples": 2}
    faults = {"network": layers, "params": network_faults(kinds, params)}
    faults |= {"x": kinds.data(X), "loss": losses, "layer": LAYER, "key": keys()}
    faults |= {"targets": kinds.data(targets), "num_samples": size()}
    free = {"targets": ("booleans", "integers")}
    words = {"x": ("inputs",)}
    names = ("network", "params", "x", "loss")
    verbs = {
        "exact_fisher": (*names, "layer"),
        "exact_sources": names,
        "empirical_fisher": (*names, "targets", "layer"),
        "sampled_fisher": (*names, "key", "num_samples", "layer"),
    }
    for verb, arguments in verbs.items():
        any_batch = ("a case less",) if "targets" not in arguments else ()
        walked(
            Call.of(
                verb,
                getattr(ref, verb),
                arguments,
                right,
                faults,
                free | {"x": any_batch},
                words=words,
            )
        )


def test_blocks_of_layers(walked):
    wrong = NOTHINGS | {"class": ref.Dense, "without parameters": ref.Tanh()}
    faults = {"layer": wrong, "no_such_option": {"given": 1}}
    right = {"layer": ref.Dense(3, 2)}
    walked(
        Call("block_for", ref.block_for, right, faults),
        Call("diagonal_block_for", ref.diagonal_block_for, right, faults),
    )


def test_models(walked, kinds, network, params, rng):
    model = ref.SequentialModel(network)
    named = model.named(params)
    batch = ref.Batch(X, np.ones((5, 2)))
    linearization = model.linearize(named, batch)
    vectors = dict(linearization.loss_inputs)
    forms = {"a layer less", "an array", "a part more", "a part less", *NOTHINGS}
    of_params = network_faults(kinds, params)
    of_params = {name: bad for name, bad in of_params.items() if name in forms}
    of_named = NOTHINGS | {
        "a name less": {k: x for k, x in named.items() if k[-1] != "s"}
    }
    of_named |= {"a name more": named | {"more": X}, "list": [*named.values()]}
    of_named |= {
        name: named | {"dense_0/weights": bad}
        for name, bad in kinds.data(named["dense_0/weights"]).items()
        if name not in of_named
    }
    of_vectors = NOTHINGS | {"nothing": {}, "array": X, "a pair": {"outputs": (X, X)}}
    of_vectors |= {
        name: {"outputs": bad} for name, bad in kinds.data(vectors["outputs"]).items()
    }
    batches = NOTHINGS | {"an array": X, "tuple": (X, None)}
    right = {"params": named, "batch": batch, "key": rng, "like": np.ones(1)}
    right |= {"loss": LOSS, "coeff": 1.0, "vectors": vectors, "tangents": named}
    faults = {"params": of_named, "batch": batches, "key": keys(), "like": NOTHINGS}
    faults |= {"loss": NOTHINGS, "coeff": {"below": -1.0, "flag": True, "text": "1"}}
    faults |= {"vectors": of_vectors, "tangents": of_named}
    faults |= {"no_such_option": {"given": 1}}
    words = {
        "params": ("weights", "bias"),
        "vectors": ("g_outputs", "g ha", "g ho", "g, "),
    }
    words |= {"tangents": ("params",)}
    calls = [
        (model, "init", ("key", "like")),
        (model, "linearize", ("params", "batch")),
        (model, "layer_collection", ("loss", "coeff")),
        (linearization, "output_gradients", ("vectors",)),
        (linearization, "param_gradients", ("vectors",)),
        (linearization, "push_forward", ("tangents",)),
        (linearization, "param_gradients_change", ("vectors", "tangents")),
    ]
    # Names alone: what they stand for is checked where it is used.
    of_names = {
        k: x for k, x in of_named.items() if k not in kinds.data(X) or k in NOTHINGS
    }
    walked(
        Call(
            "SequentialModel.unnamed",
            model.unnamed,
            {"params": named},
            {"params": of_names},
        )
    )
    for owner, verb, names in calls:
        walked(
            Call(
                f"{type(owner).__name__}.{verb}",
                getattr(owner, verb),
                {name: right[name] for name in names},
                {name: faults[name] for name in names},
                words=words,
            )
        )
    walked(
        constructor(ref.SequentialModel, {"network": network}, {"network": NOTHINGS}),
        Call(
            "SequentialModel.named",
            model.named,
            {"params": params},
            {"params": of_params},
        ),
    )


def test_a_language_model(walked, kinds, rng):
    model = ref.TiedLanguageModel(4, 2)
    matrix, bias = rng.normal(size=(4, 2)), rng.normal(size=4)
    ids = rng.integers(4, size=(3, 2))
    logits = model.logits((matrix, bias), ids)
    right = {"params": (matrix, bias), "matrix": matrix, "ids": ids, "g": logits}
    right |= {"logits": logits}
    faults = {"params": params_faults(kinds, (matrix, bias)), "ids": kinds.ids(ids, 4)}
    faults |= {name: kinds.data(right[name]) for name in ("matrix", "g", "logits")}
    verbs = {
        "logits": ("params", "ids"),
        "hidden": ("matrix", "ids"),
        "data": ("params", "ids", "g"),
        "case_gradients": ("params", "ids", "g"),
        "output_columns": ("logits",),
        "exact_fisher": ("params", "ids"),
    }
    free = {"logits": ("a case less", "empty", "another library")}
    for verb, names in verbs.items():
        any_batch = (
            ("a case less", "empty") if verb != "exact_fisher" else ("a case less",)
        )
        free["ids"] = () if "g" in names else any_batch
        walked(
            Call.of(
                f"TiedLanguageModel.{verb}",
                getattr(model, verb),
                names,
                right,
                faults,
                free,
                label=model.label,
                words={"ids": ("g has",)},
            )
        )
    sizes = {"vocab_size": size(), "size": size()}
    walked(constructor(type(model), {"vocab_size": 4, "size": 2}, sizes))

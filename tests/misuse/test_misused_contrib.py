"""Factors and blocks in the original's convention, with arguments as they cannot be."""

import inspect

import numpy as np
import pytest
from bad_values import NOTHINGS, flag, power
from walk import Call

from kfac_core.contrib import PackagedFunc, fisher_blocks, fisher_factors
from kfac_core.contrib.damping_functions import damping_of

RNG = np.random.default_rng(0)
X, G = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
IMAGES, OUTPUTS = RNG.normal(size=(6, 3, 3, 1)), RNG.normal(size=(6, 2, 2, 2))
USES = RNG.normal(size=(3, 6, 3))
IDS = np.asarray([0, 1, 2, 1, 0, 3])
NORM = RNG.normal(size=(6, 4, 3))
FILTER = {"filter_shape": (2, 2, 1, 2), "padding": "VALID"}
DIMS = {"broadcast_dims_scale": (1,), "broadcast_dims_shift": (1,)}
FACTORS = {
    "FullyConnectedKroneckerFactor": {"tensors": X},
    "FullyConnectedDiagonalFactor": {"inputs": X, "outputs_grads": G},
    "FullyConnectedMultiKF": {"tensors": USES},
    "DiagonalKroneckerFactor": {"tensors": X},
    "DiagonalMultiKF": {"tensors": USES, "num_uses": None},
    "ConvInputKroneckerFactor": {"inputs": IMAGES, **FILTER},
    "ConvInputSUAKroneckerFactor": {"inputs": IMAGES, "filter_shape": (2, 2, 1, 2)},
    "ConvInputMultiKF": {"inputs": IMAGES[None], **FILTER},
    "ConvOutputKroneckerFactor": {"outputs_grads": OUTPUTS},
    "ConvOutputMultiKF": {"outputs_grads": OUTPUTS[None]},
    "ConvDiagonalFactor": {
        "inputs": IMAGES,
        "outputs_grads": OUTPUTS,
        "strides": (1, 1, 1, 1),
        **FILTER,
    },
    "EmbeddingInputKroneckerFactor": {"input_ids": IDS, "vocab_size": 4},
    "NaiveFullFactor": {"params_grads": [G[0]], "batch_size": 4},
    "NaiveDiagonalFactor": {"params_grads": [G[0]], "batch_size": 4},
    "ScaleAndShiftFullFactor": {"inputs": NORM, "outputs_grads": NORM, **DIMS},
    "ScaleAndShiftDiagonalFactor": {"inputs": NORM, "outputs_grads": NORM, **DIMS},
}
LABEL = "some/layer"
DATA = ("tensors", "inputs", "outputs_grads", "input_ids", "params_grads")
NO_DATA = {**NOTHINGS, "number": 1.0, "a list of None": [None], "no sources": [[]]}
NO_DATA |= {"an empty tuple": (), "no axes": np.asarray(1.0)}
OTHERS = {**NOTHINGS, "below": -1, "fraction": 2.5, "array": np.ones(2)}
DAMPING = {**NOTHINGS, "flag": True, "array": np.ones(2), "list": [0.1]}
DAMPING |= {"an id that is a list": PackagedFunc(lambda: 0.1, [])}
VERBS = {
    *(f"register_{kind}" for kind in ("matpower", "inverse", "cholesky")),
    *("register_cholesky_inverse", "get_matpower", "get_inverse", "get_cholesky"),
    *("get_cholesky_inverse", "left_multiply_matpower", "right_multiply_matpower"),
}
OPTIONS = {f"{verb}_option{n}quants" for verb in ("get", "register") for n in (1, 2)}
WALKED = (
    VERBS
    | OPTIONS
    | {
        "instantiate_factors",
        "register_additional_tower",
        "register_additional_minibatch",
    }
)


def ready(factor):
    """Do what an estimator does, in its order."""
    for verb in ("inverse", "cholesky", "cholesky_inverse"):
        getattr(factor, f"register_{verb}")(weak)
    factor.instantiate_cov_variables()
    factor.make_covariance_update_op(0.5)()
    factor.instantiate_inv_variables()
    for op in factor.make_inverse_update_ops():
        op()
    return factor


def weak():
    return 0.1


@pytest.mark.parametrize("kind", FACTORS)
def test_constructors_of_factors(walked, kind):
    right = FACTORS[kind]
    construct = getattr(fisher_factors, kind)

    def made_and_updated(**given):
        """Return statistics: what is no data may be found at the first update."""
        factor = construct(name=LABEL, **given)
        factor.instantiate_cov_variables()
        return factor.make_covariance_update_op(0.5)()

    faults = {name: NO_DATA if name in DATA else OTHERS for name in right}
    allowed = {
        "num_uses": ("None",),
        "strides": ("None",),
        "batch_size": ("fraction",),
    }
    if kind.startswith("Naive"):  # a number is a vector of one entry
        allowed["params_grads"] = ()
    words = {"inputs": ("filter_shape",), "vocab_size": ("input_ids",)}
    allowed = {name: those for name, those in allowed.items() if name in right}
    walked(Call(kind, made_and_updated, right, faults, allowed, LABEL, words))


@pytest.mark.parametrize("verb", sorted(VERBS | OPTIONS))
def test_verbs_of_factors(walked, kinds, verb):
    factor = fisher_factors.FullyConnectedKroneckerFactor(X, name=LABEL)
    if verb in OPTIONS:
        factor = fisher_factors.FullyConnectedMultiKF(USES, name=LABEL)
        factor.register_option1quants(weak)
        factor.register_option2quants(weak)
    factor = ready(factor)
    function = getattr(factor, verb)
    known = {
        "damping_func": (weak, DAMPING),
        "exp": (-1, power()),
        "x": (np.ones((3, 3)), kinds.data(np.ones((3, 3)))),
    }
    names = inspect.signature(function).parameters
    allowed = {"x": ("a case less", "empty")} if verb.startswith("right") else {}
    if verb.startswith("left"):
        allowed = {"x": ("too wide", "no channels")}
    walked(
        Call(
            f"contrib.FisherFactor.{verb}",
            function,
            {name: known[name][0] for name in names},
            {name: known[name][1] for name in names},
            allowed,
            LABEL,
            {"exp": ("matpower",), "damping_func": ("damping id",)},
        )
    )


def dense_block():
    block = fisher_blocks.FullyConnectedKFACBasicFB(None, has_bias=True, name=LABEL)
    block.register_additional_tower(inputs=X, outputs=G)
    return block


def test_instantiating_a_block(walked):
    def run(grads_list, damping):
        block = dense_block()
        block.instantiate_factors(grads_list, damping)
        block.make_covariance_update_op(0.5)()
        block.instantiate_inv_variables()
        for op in block.make_inverse_update_ops():
            op()
        return block.multiply_inverse((np.ones((3, 2)), np.ones(2)))

    right = {"grads_list": [[G]], "damping": 0.1}
    faults = {"grads_list": NO_DATA, "damping": {**DAMPING, "below": -1.0}}
    faults["damping"].pop("an id that is a list")  # a block asks for no id
    words = {"grads_list": ("outputs_grads",)}
    walked(Call("contrib.FisherBlock", run, right, faults, {}, LABEL, words))


def test_products_of_a_block(walked, kinds):
    block = dense_block()
    block.instantiate_factors([[G]], weak)
    block.register_cholesky()
    block.register_cholesky_inverse()
    block.instantiate_inv_variables()
    block.make_covariance_update_op(0.5)()
    for op in block.make_inverse_update_ops():
        op()
    vector = (np.ones((3, 2)), np.ones(2))
    faults = kinds.vector(vector)
    del faults["an axis more"]  # rows may have several axes
    for verb in ("multiply", "multiply_inverse", "multiply_matpower"):
        right, bad = {"vector": vector}, {"vector": faults}
        if verb == "multiply_matpower":
            right, bad = right | {"exp": -1}, bad | {"exp": power()}
        words = {"exp": ("matpower",)}
        name = f"contrib.FisherBlock.{verb}"
        walked(Call(name, getattr(block, verb), right, bad, {}, LABEL, words))
    for verb in ("multiply_cholesky", "multiply_cholesky_inverse"):
        right = {"vector": vector, "transpose": False}
        bad = {"vector": faults, "transpose": flag()}
        name = f"contrib.FisherBlock.{verb}"
        walked(Call(name, getattr(block, verb), right, bad, {}, LABEL))


@pytest.mark.parametrize("batch_size", [None, "3", 2.5, -1, 0, True, [3], np.ones(2)])
def test_a_batch_size_that_is_none(batch_size):
    block = fisher_blocks.NaiveFullFB(None, (G[0],), name=LABEL)
    with pytest.raises(ValueError, match=f"{LABEL}: batch_size"):
        block.register_additional_tower(batch_size)


def test_too_many_arguments_of_an_op():
    factor = fisher_factors.FullyConnectedKroneckerFactor(X, name=LABEL)
    factor.instantiate_cov_variables()
    with pytest.raises(ValueError, match=f"{LABEL}: 2 arguments of data, expected 1"):
        factor.make_covariance_update_op(0.5)(X, X)
    block = dense_block()
    block.instantiate_factors([[G]], 0.1)
    with pytest.raises(ValueError, match=f"{LABEL}: 1 arguments, expected inputs and"):
        block.make_covariance_update_op(0.5)(X)


def test_a_damping_function_that_returns_none():
    factor = fisher_factors.FullyConnectedKroneckerFactor(X, name=LABEL)
    factor.register_inverse(lambda: None)
    factor.instantiate_cov_variables()
    factor.make_covariance_update_op(0.5)()
    factor.instantiate_inv_variables()
    (op,) = factor.make_inverse_update_ops()
    with pytest.raises(TypeError, match=f"{LABEL}: damping.*NoneType"):
        op()
    assert damping_of(0.1) == 0.1

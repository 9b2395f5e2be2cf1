"""What a factor and a block cannot be given in each array library, also compiled."""

import importlib

import numpy as np
import pytest
from bad_values import Kinds
from more_cases import BLOCK_CASES, FACTOR_CASES
from test_misused_blocks import Block
from test_misused_factors import Factor

import kfac_core as kc

OF_LIBRARY = {
    *("another library", "another device", "no axes", "an axis less", "too wide"),
    *("booleans", "integers", "complex", "real numbers", "NaN", "an array of NaN"),
    *("an array below", "a complex array", "two numbers", "list", "None", "string"),
    *("number", "flag", "flag of NumPy", "huge", "empty", "no channels"),
}
"""The faults that libraries may answer each in their way."""

FACTORS = ("rows-bias", "ids", "groups")
BLOCKS = ("dense-bias", "embedding", "naive-full")
# JAX compiles every operation for every shape: one of each will do.
NOT_IN_JAX = {*FACTORS, *BLOCKS} - {"ids", "dense-bias"}
VERBS = ("update_cov", "update_covs", "update_inverses", "multiply_inverse")
PRODUCTS = ("left_multiply_matpower",)


@pytest.fixture
def kinds(plain_library, request):
    """The kinds of arguments that are arrays of a library, beside one of another."""
    name = request.getfixturevalue("name")
    if plain_library.name == "numpy":
        pytest.skip("walked in whole elsewhere")
    if plain_library.name == "jax" and name in NOT_IN_JAX:
        pytest.skip("walked in the other libraries")
    there = None
    if plain_library.name == "strict":
        strict = importlib.import_module("array_api_strict")
        device = strict.Device("device1")
        there = lambda x: strict.asarray(x, device=device)  # noqa: E731
    return Kinds(plain_library.asarray, other=np.array, there=there)


def with_faults_of_libraries(call, **dropped):
    """Return a call with the faults alone that depend on the library."""
    faults = {
        argument: {name: bad for name, bad in faults.items() if name in OF_LIBRARY}
        for argument, faults in call.faults.items()
        if argument not in {"state", "exp", "damping_id", *dropped}
    }
    allowed = {
        argument: tuple(name for name in names if name in faults.get(argument, ()))
        for argument, names in call.allowed.items()
    }
    return type(call)(**{**vars(call), "faults": faults, "allowed": allowed})


def calls(spec):
    made = [v for v in (*VERBS, *PRODUCTS) if hasattr(spec.spec, v)]
    return [with_faults_of_libraries(spec.call(verb)) for verb in made]


@pytest.mark.parametrize("name", FACTORS)
def test_factors(walked, plain_library, kinds, rng, name):
    walked(*calls(Factor(FACTOR_CASES[name], kinds, plain_library, rng)))


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(walked, plain_library, kinds, rng, name):
    walked(*calls(Block(BLOCK_CASES[name], kinds, plain_library, rng)))


TRACED = {"no axes", "an axis less", "too wide", "booleans", "integers", "complex"}
TRACED |= {"None", "number", "a case less", "empty", "no channels"}


@pytest.mark.parametrize("argument", ["inputs", "outputs_grads", "weights"])
def test_what_has_another_form_is_refused_under_a_trace(jax, rng, argument):
    """Shapes and dtypes are known then: no value is needed to refuse them."""
    block = kc.FullyConnectedKFACBasicFB(3, 2, name="some/layer")
    right = {
        "inputs": rng.normal(size=(6, 3)),
        "outputs_grads": rng.normal(size=(6, 2)),
        "weights": np.ones(6),
    }
    kinds = Kinds(jax.numpy.asarray)
    faults = kinds.weights(6) if argument == "weights" else kinds.data(right[argument])
    # Booleans and integers are weights as good as others.
    names = TRACED - (
        {"booleans", "integers", "None"} if argument == "weights" else set()
    )
    state = block.init(jax.numpy.zeros(1))
    update = jax.jit(
        lambda state, given: block.update_covs(state, **given, ema_decay=0.5)
    )
    tried = 0
    for name in sorted(names & faults.keys()):
        with pytest.raises(kc.KfacError, match=f"some/layer.*{argument}"):
            update(state, {**right, argument: faults[name]})
        tried += 1
    assert tried >= 4

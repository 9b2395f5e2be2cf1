"""What a factor and a block cannot be given in each array library, also compiled."""

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


def chosen(names, library):
    return [n for n in names if library.name != "jax" or n not in NOT_IN_JAX]


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


def test_factors(walked, plain_library, library_kinds, rng):
    for name in chosen(FACTORS, plain_library):
        case = FACTOR_CASES[name]
        walked(*calls(Factor(case, library_kinds, plain_library, rng)))


def test_blocks(walked, plain_library, library_kinds, rng):
    for name in chosen(BLOCKS, plain_library):
        case = BLOCK_CASES[name]
        walked(*calls(Block(case, library_kinds, plain_library, rng)))


TRACED = {"no axes", "an axis less", "too wide", "booleans", "integers", "complex"}
TRACED |= {"None", "number", "a case less", "empty", "no channels"}


@pytest.mark.parametrize("argument", ["inputs", "outputs_grads", "weights"])
def test_what_has_another_form_is_refused_under_a_trace(jax, rng, argument):
    """Shapes and dtypes are known then: no value is needed to refuse them."""
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="some/layer")
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

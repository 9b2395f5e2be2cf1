"""What an error advises can be done: a wider dtype only where there is one."""

import numpy as np
import pytest

import kfac_core as kc

WIDER = "use a float64 state"


def overflowing(library, dtype, size):
    spec = kc.factors.FullyConnectedKroneckerFactor(2, name="fc7")
    x = library.asarray(np.full((3, 2), size, dtype))
    return lambda: spec.update_cov(spec.init(x), x, 0.0)


def singular(library, dtype, size):
    spec = kc.factors.FullyConnectedKroneckerFactor(2, matpowers=(-1,), name="fc7")
    x = library.asarray(np.ones((3, 2), dtype))
    state = spec.update_cov(spec.init(x), x * 0, 0.0)
    return lambda: spec.update_inverses(state, 0.0)


def singular_groups(library, dtype, size):
    spec = kc.factors.FullyConnectedKroneckerFactor(
        4, form=kc.factors.BlockDiagonal(blocks=2), matpowers=(-1,), name="fc7"
    )
    x = library.asarray(np.zeros((3, 4), dtype))
    state = spec.update_cov(spec.init(x), x, 0.0)
    return lambda: spec.update_inverses(state, 0.0)


def overflowing_block(library, dtype, size):
    block = kc.blocks.FullyConnectedKFACBasicFB(1, 1, damping_type="exact", name="fc7")
    x = library.asarray(np.full((1, 1), size**0.5 * 4, dtype))
    state = block.update_covs(block.init(x), x, x, 0.0)
    return lambda: block.update_inverses(state, 1e-3)


SIZES = {"float32": 1e30, "float64": 1e200}


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize(
    "make", [overflowing, singular, singular_groups, overflowing_block]
)
def test_a_wider_dtype_is_advised_where_there_is_one(plain_library, make, dtype):
    call = make(plain_library, dtype, SIZES[dtype])
    with pytest.raises(kc.KfacError, match=f"fc7.*{dtype}") as caught:
        call()
    message = str(caught.value)
    assert (WIDER in message) == (dtype == "float32")
    assert "The state is unchanged" in message


def test_what_has_no_float64_is_told_how_to_have_it(jax):
    with jax.enable_x64(False):
        x = jax.numpy.full((3, 2), 1e30)
        spec = kc.factors.FullyConnectedKroneckerFactor(2)
        with pytest.raises(kc.errors.NotFiniteError, match=f"jax_enable_x64.*{WIDER}"):
            spec.update_cov(spec.init(x), x, 0.0)

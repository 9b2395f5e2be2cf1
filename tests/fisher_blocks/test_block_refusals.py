"""Values and dtypes that a block cannot make anything of, whatever it is of."""

import numpy as np
import pytest
from block_case import tree
from block_cases import BLOCKS

import kfac_core as kc

BATCHED = {name: case for name, case in BLOCKS.items() if case.axis is not None}
SMALL = ["dense", "dense-diagonal", "series-1", "conv-bias", "grouped", "bias"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", SMALL)
def test_a_vector_that_is_not_finite_is_refused(library, name, bad, rng):
    case = BLOCKS[name]
    block = case.made(case.kinds[0], name="layer")
    state = block.init(library.asarray(np.zeros(1)))
    state = case.fold(library, block, state, case.draw(rng, 5))
    state = block.update_inverses(state, 0.5)
    vector = tree(lambda x: library.asarray(x * 0 + bad), case.vector(rng))
    for multiply in case.products(block, -1).values():
        with pytest.raises(
            kc.errors.NotFiniteError, match=r"vector holds NaN or infinity"
        ):
            multiply(state, vector)


def test_under_a_trace_its_product_is_nan():
    jax = pytest.importorskip("jax")
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
    x = jax.numpy.ones((3, 2))
    state = block.update_covs(block.init(x), x, x[:, :1], ema_decay=0.0)
    state = block.update_inverses(state, 0.5)
    product = jax.jit(block.multiply_inverse)(state, jax.numpy.full((2, 1), np.nan))
    assert np.isnan(np.asarray(product)).all()


@pytest.mark.parametrize("name", BATCHED)
def test_data_without_an_axis_of_cases_are_refused(name, rng):
    case = BATCHED[name]
    block = case.made(case.kinds[0], name="layer")
    data = tree(lambda x: np.asarray(x.ravel()[0]), case.draw(rng, 2))
    arrays = data if block.takes_inputs else data[1:]
    state = block.init(np.zeros(1))
    with pytest.raises(kc.errors.ShapeError, match="layer"):
        block.update_covs(state, *arrays, **case.extra, ema_decay=0.5)


@pytest.mark.parametrize("dtype", [np.longdouble, complex, int, object, "U1"])
def test_statistics_have_a_dtype_of_the_machine(dtype):
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 1, name="layer")
    with pytest.raises(kc.KfacError, match="layer"):
        block.init(np.zeros(1).astype(dtype))


@pytest.mark.parametrize("name", ["dense", "conv-bias", "dense-uses"])
def test_weights_of_samples_stay_in_the_range(library, name, rng):
    case = BLOCKS[name]
    block = case.made(case.kinds[0], name="layer")
    state = block.init(library.asarray(np.zeros(1, "float32")))
    data = tree(lambda x: x.astype("float32"), case.draw(rng, 3))
    with pytest.raises(kc.errors.ArgumentError, match="ema_weight is 1e"):
        case.fold(library, block, state, data, ema_weight=1e38)


def test_so_they_do_under_a_trace():
    jax = pytest.importorskip("jax")
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((1, 1, 1, 1), padding="VALID")
    )
    x = jax.numpy.ones((1, 2, 2, 1), "float32")
    state = block.init(x)

    @jax.jit
    def fold(state, weight):
        return block.update_covs(state, x, x, ema_decay=0.5, ema_weight=weight)

    assert bool(fold(state, jax.numpy.float32(2.0)).ok)
    refused = fold(state, jax.numpy.float32(1e38))
    assert not bool(refused.ok)
    assert float(refused.uses.total) == float(state.uses.total)


def test_states_are_in_the_order_of_bytes_of_the_machine():
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
    state = block.init(np.zeros(1, ">f8"))
    assert state.input_factor.cov.total.dtype == np.dtype("float64")

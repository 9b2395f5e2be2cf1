"""Libraries and dtypes agree, to a bound that follows from the condition."""

import numpy as np
import pytest
from block_case import NumPy, asarrays, flat, leaves, tree
from block_cases import BLOCKS, EVERYWHERE

import kfac_core as kc

DAMPING = 0.5


def astype(data, dtype):
    return tree(lambda x: x if x.dtype.kind == "i" else x.astype(dtype), data)


def products(library, name, kind, data, vector, dtype="float64", compiled=False):
    """Return all products after two batches, and the condition."""
    case = BLOCKS[name]
    block = case.made(kind, (-1, -0.5))

    def run(state, data, vector):
        for batch in data:
            batch = batch[not block.takes_inputs :]
            state = block.update_covs(state, *batch, **case.extra, ema_decay=0.9)
        state = block.update_inverses(state, DAMPING)
        known = case.products(block, 1, -1, -0.5).values()
        found = [multiply(state, vector) for multiply in known]
        return found, block.full_fisher_block(state)

    arrays = asarrays(library, astype((tuple(data), vector), dtype))
    state = block.init(library.asarray(np.zeros(1, dtype)))
    found, dense = (library.compiled(run) if compiled else run)(state, *arrays)
    condition = np.linalg.norm(library.to_numpy(dense).astype(float), 2) / DAMPING + 1
    return [flat(library, x) for x in found], condition


def check_agreement(library, name, kind, dtype, rng, compiled=False):
    case = BLOCKS[name]
    data, vector = [case.draw(rng, 8), case.draw(rng, 8)], case.vector(rng)
    expected, condition = products(NumPy, name, kind, data, vector)
    found, _ = products(library, name, kind, data, vector, dtype, compiled)
    # Data rounded to the dtype move the product by eps times the condition.
    tolerance = 1e-12 if dtype == "float64" else 16 * np.finfo(dtype).eps * condition
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == dtype
        assert np.linalg.norm(x - y) <= tolerance * np.linalg.norm(y)


@pytest.mark.parametrize(("name", "kind"), EVERYWHERE)
def test_every_library_agrees_with_numpy_in_float64(library, name, kind, rng):
    check_agreement(library, name, kind, "float64", rng)


@pytest.mark.parametrize(("name", "kind"), EVERYWHERE)
def test_float32_is_off_by_the_condition(plain_library, name, kind, rng):
    check_agreement(plain_library, name, kind, "float32", rng, compiled=True)


@pytest.mark.parametrize("name", BLOCKS)
def test_half_data_and_vectors_give_half_products(plain_library, name, rng):
    # The last half precision of a library for every block, and each for one of them.
    types = plain_library.half_types
    for half in types[0 if name == "dense-bias" else -1 :]:
        check_half(plain_library, BLOCKS[name], half, rng)


def check_half(library, case, half, rng):
    block = case.make()

    def halved(data):
        return tree(
            lambda x: (
                library.asarray(x)
                if x.dtype.kind == "i"
                else library.half(np.round(x * 16) / 16, half)
            ),
            data,
        )

    x = halved(case.draw(rng, 8))[not block.takes_inputs :]
    state = block.init(library.half(np.zeros(1), half))
    state = block.update_covs(state, *x, **case.extra, ema_decay=0.5)
    state = block.update_inverses(state, 1.0)
    vector = halved(case.vector(rng))
    xp = kc.backend_of(state.ok).xp
    found = block.multiply_inverse(state, vector)
    for product, given in zip(leaves(found), leaves(vector), strict=True):
        assert product.dtype == given.dtype
    wide = tree(
        lambda v: library.asarray(library.to_numpy(v).astype("float32")), vector
    )
    in_float32 = flat(library, block.multiply_inverse(state, wide))
    error = flat(library, found).astype(float) - in_float32
    unit = 2.0 ** (-11 if half == "float16" else -8)
    assert np.all(np.abs(error) <= unit * np.abs(in_float32) + 1e-6)
    assert in_float32.dtype == "float32"
    for _, factor in block.factors(state).values():
        assert factor.cov.total.dtype == xp.float32


@pytest.mark.parametrize("name", ["dense-bias", "embedding", "dense-diagonal"])
@pytest.mark.parametrize(
    ("stored", "given"), [("float32", "float64"), ("float64", "float32")]
)
def test_a_product_has_the_dtype_of_the_vector(library, name, stored, given, rng):
    case = BLOCKS[name]
    block = case.make(cholesky=True)
    data = astype(case.draw(rng, 8), stored)
    state = case.updated(library, block, data, stored)
    state = library.compiled(block.update_inverses)(state, 0.1)
    vector = asarrays(library, case.vector(rng, given))
    for product in (
        block.multiply(state, vector),
        block.multiply_inverse(state, vector),
        block.multiply_cholesky(state, vector),
    ):
        assert flat(library, product).dtype == given


def test_ids_may_be_counted_in_another_dtype_than_gradients(library, rng):
    case = BLOCKS["embedding"]
    block = kc.blocks.EmbeddingKFACFB(4, 2, dtype="float64")
    ids, g = case.draw(rng, 8)
    state = block.init(library.asarray(np.zeros(1, "float32")))
    data = asarrays(library, (ids, g.astype("float32")))
    state = block.update_covs(state, *data, ema_decay=0.5)
    state = block.update_inverses(state, 0.1)
    v = library.asarray(rng.normal(size=(4, 2)).astype("float32"))
    found = block.multiply_inverse(state, block.multiply(state, v))
    assert found.dtype == v.dtype
    np.testing.assert_allclose(library.to_numpy(found), library.to_numpy(v), rtol=1e-4)

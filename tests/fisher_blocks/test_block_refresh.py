"""When the stored inverses of a block are good enough, and what is then kept."""

import numpy as np
import pytest
from block_case import NumPy, flat
from block_cases import BLOCKS, DAMPED

import kfac_core as kc
from kfac_core.errors import ArgumentError, UnsupportedError

KINDS = [
    (name, kind)
    for name, kind in DAMPED
    if kind != "exact" and not BLOCKS[name].inverse_alone
]


def dense(case, multiply):
    """Return the matrix of a product with vectors."""
    sizes = [int(np.prod(shape)) for shape in case.shapes]

    def column(i):
        unit = np.zeros(sum(sizes))
        unit[i] = 1.0
        parts = np.split(unit, np.cumsum(sizes)[:-1])
        tensors = tuple(
            part.reshape(shape) for part, shape in zip(parts, case.shapes, strict=True)
        )
        product = multiply(tensors if len(tensors) > 1 else tensors[0])
        return flat(NumPy, product)

    return np.stack([column(i) for i in range(sum(sizes))], axis=1)


def drifted(case, block, rng):
    """Return a state whose inverses are of one batch, and its statistics of two."""
    state = case.updated(NumPy, block, case.draw(rng, 8))
    state = block.update_inverses(state, 0.1)
    return case.fold(NumPy, block, state, case.draw(rng, 8), 0.9)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_the_error_is_that_of_the_damped_block_of_now(name, kind, rng):
    """Exact, as all factors are small: by dense matrices, split damping and all."""
    case = BLOCKS[name]
    block = case.made(kind)
    state = drifted(case, block, rng)
    stored = dense(case, lambda v: block.multiply_inverse(state, v))
    now = block.update_inverses(state, 0.3)
    matrix = dense(case, lambda v: block.multiply(now, v))
    residual = np.eye(len(matrix)) - matrix @ stored
    expected = np.abs(np.linalg.eigvals(residual)).max()
    found = block.inverse_error(state, 0.3)
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert block.inverse_error(now, 0.3) < 1e-10


def state_of(block, library, rng, dtype="float64"):
    """Return the state of a dense block with stale inverses."""
    draw = [rng.normal(size=(9, n)).astype(dtype) for n in (3, 2, 3, 2)]
    x, g, more, others = map(library.asarray, draw)
    state = block.update_covs(block.init(like=x), x, g, 0.5)
    state = block.update_inverses(state, 0.1)
    return block.update_covs(state, more, others, 0.9)


BLOCK = kc.blocks.FullyConnectedKFACBasicFB(3, 2, cholesky=True)


def snapshots(library, state):
    """Return all that both factors have computed, and what it was computed with."""
    sides = [state.input_factor.derived, state.output_factor.derived]
    arrays = [x for side in sides for field in side for x in field]
    return [library.to_numpy(x) for x in (*arrays, state.scale, state.damping)]


def same(library, state, other):
    pairs = zip(snapshots(library, state), snapshots(library, other), strict=True)
    return [np.array_equal(x, y) for x, y in pairs]


def test_inverses_are_kept_up_to_the_tolerance_and_renewed_beyond(library, rng):
    state = state_of(BLOCK, library, rng)
    error = float(library.to_numpy(BLOCK.inverse_error(state, 0.1)))
    kept = BLOCK.refresh_inverses(state, 0.1, error * 1.001)
    assert all(same(library, kept, state))
    renewed = BLOCK.refresh_inverses(state, 0.1, error * 0.999)
    expected = BLOCK.update_inverses(state, 0.1)
    assert all(same(library, renewed, expected))
    assert not all(same(library, renewed, state))
    for new in (kept, renewed):
        assert bool(library.to_numpy(new.ok))
    # The limit may be an array; and what it is checked as.
    limit = library.asarray(np.asarray(error * 2))
    assert all(same(library, BLOCK.refresh_inverses(state, 0.1, limit), state))
    with pytest.raises(ArgumentError, match="tolerance is -1"):
        BLOCK.refresh_inverses(state, 0.1, -1.0)


def test_the_factors_of_a_block_are_of_one_age(plain_library, rng):
    """One of them is still good, and is renewed with the other all the same."""
    library = plain_library
    x, g, other = (rng.normal(size=(9, n)) for n in (3, 2, 2))
    x, g, other = map(library.asarray, (x, g, other))
    state = BLOCK.update_covs(BLOCK.init(like=x), x, g, 0.5)
    state = BLOCK.update_inverses(state, 0.1)
    state = BLOCK.update_covs(state, x, other * 2, 0.5)
    good = BLOCK.input_factor.inverse_error(
        state.input_factor, state.input_factor.derived.dampings[0]
    )
    assert float(library.to_numpy(good)) < 1e-10
    new = BLOCK.refresh_inverses(state, 0.1, 0.05)
    for side in ("input_factor", "output_factor"):
        before, after = (
            library.to_numpy(getattr(s, side).derived.dampings[0]) for s in (state, new)
        )
        assert before != after


def test_nothing_computed_yet_is_never_good_enough(library, rng):
    x = library.asarray(rng.normal(size=(9, 3)))
    g = library.asarray(rng.normal(size=(9, 2)))
    state = BLOCK.update_covs(BLOCK.init(like=x), x, g, 0.5)
    assert float(library.to_numpy(BLOCK.inverse_error(state, 0.1))) == np.inf
    new = BLOCK.refresh_inverses(state, 0.1, 1e30)
    assert all(same(library, new, BLOCK.update_inverses(state, 0.1)))


def test_what_stores_no_inverse_says_so(rng):
    exact = kc.blocks.FullyConnectedKFACBasicFB(3, 2, damping_type="exact", name="fc1")
    series = kc.blocks.FullyConnectedSeriesFB(3, 2, num_uses=3, name="fc1")
    for block, word in ((exact, "update_inverses"), (series, "MultiIndepFB")):
        state = block.init(like=np.zeros(1))
        with pytest.raises(UnsupportedError, match=word) as caught:
            block.refresh_inverses(state, 0.1, 0.1)
        assert "fc1" in str(caught.value)


def test_options_of_inverting_reach_the_factors(rng):
    options = {"newton_steps": 2, "inverse_dtype": "float64"}
    block = kc.blocks.EmbeddingKFACFB(5, 2, **options)
    for factor in (block.input_factor, block.output_factor):
        assert factor.newton_steps == 2
        assert factor.inverse_dtype == "float64"
    assert kc.blocks.NaiveFullFB(4, **options).factor.newton_steps == 2
    with pytest.raises(ArgumentError, match="newton_steps"):
        kc.blocks.FullyConnectedKFACBasicFB(3, 2, newton_steps=1, damping_type="exact")
    with pytest.raises(ArgumentError, match="newton_steps"):
        kc.blocks.FullyConnectedSeriesFB(3, 2, num_uses=3, newton_steps=1)
    with pytest.raises(ArgumentError, match="newton_steps"):
        kc.blocks.FullyConnectedKFACBasicFB(3, 2, newton_steps=1, cholesky=True)


@pytest.mark.parametrize("name", ["dense-bias", "grouped", "embedding"])
def test_all_ways_to_invert_agree(name, rng):
    case = BLOCKS[name]
    batches = [case.draw(rng, 8) for _ in range(3)]
    vector, products = case.vector(rng), []
    for options in ({}, {"newton_steps": 5}, {"inverse_dtype": "float64"}):
        block = case.make(**options)
        state = case.updated(NumPy, block, batches[0])
        state = block.update_inverses(state, 0.1)
        for batch in batches[1:]:
            state = case.fold(NumPy, block, state, batch, 0.95)
            state = block.update_inverses(state, 0.1)
        products.append(flat(NumPy, block.multiply_inverse(state, vector)))
    for product in products[1:]:
        np.testing.assert_allclose(product, products[0], rtol=1e-10, atol=1e-12)

"""Of an embedding, the products of some rows alone are these rows of the product."""

import numpy as np
import pytest

import kfac_core as kc

VOCABULARY = 11
OPTIONS = {
    "matpowers": (-1, -0.5),
    "cholesky": True,
    "cholesky_inverse": True,
}
BLOCKS = {
    "one use": lambda **o: kc.blocks.EmbeddingKFACFB(VOCABULARY, 3, **o),
    "exact damping": lambda **o: kc.blocks.EmbeddingKFACFB(
        VOCABULARY, 3, damping_type="exact", **o
    ),
    "both sides diagonal": lambda **o: kc.blocks.EmbeddingKFACFB(
        VOCABULARY, 3, diagonal_approx_for_output=True, **o
    ),
    "two uses": lambda **o: kc.blocks.EmbeddingKFACMultiIndepFB(
        VOCABULARY, 3, num_uses=2, **o
    ),
}


def ready(library, name, rng):
    block = BLOCKS[name](**OPTIONS)
    ids = library.asarray(rng.integers(VOCABULARY, size=8).astype(np.int32))
    g = library.asarray(rng.normal(size=(8, 3)))
    state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.0)
    return block, block.update_inverses(state, 0.3)


@pytest.mark.parametrize("name", BLOCKS)
def test_rows_are_those_of_the_whole_product(name, library, rng):
    block, state = ready(library, name, rng)
    ids = np.asarray([9, 2, 2, 0], dtype=np.int32)  # in any order, and repeated
    vector = rng.normal(size=(VOCABULARY, 3))
    whole = library.asarray(vector)
    rows, of_rows = block.restricted(state, library.asarray(ids))
    some = library.asarray(vector[ids])
    for exp in (-1, -0.5, 1):
        wanted = library.to_numpy(block.multiply_matpower(state, whole, exp))[ids]
        got = library.to_numpy(rows.multiply_matpower(of_rows, some, exp))
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)
    for verb in ("multiply_cholesky", "multiply_cholesky_inverse"):
        for transpose in (False, True):
            wanted = getattr(block, verb)(state, whole, transpose=transpose)
            got = getattr(rows, verb)(of_rows, some, transpose=transpose)
            np.testing.assert_allclose(
                library.to_numpy(got),
                library.to_numpy(wanted)[ids],
                rtol=1e-13,
                atol=1e-13,
            )


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([[1]], kc.errors.ShapeError, r"ids has shape \(1, 1\), expected \[ids\]"),
        ([0, 11], kc.errors.ArgumentError, "ids are from 0 to 11, expected 0 to 10"),
        ([0.5], kc.errors.DTypeError, "expected integers"),
    ],
)
def test_ids_are_checked(ids, error, words, plain_library, rng):
    block, state = ready(plain_library, "one use", rng)
    given = np.asarray(ids)
    given = given if given.dtype.kind == "f" else given.astype(np.int32)
    with pytest.raises(error, match=words):
        block.restricted(state, plain_library.asarray(given))


def test_one_trace_serves_all_ids(jax, rng):
    class Library:
        asarray = staticmethod(jax.numpy.asarray)

    block, state = ready(Library, "one use", rng)
    traces = []

    @jax.jit
    def multiply(state, ids, rows):
        traces.append(1)
        some, of_some = block.restricted(state, ids)
        return some.multiply_inverse(of_some, rows)

    vector = rng.normal(size=(VOCABULARY, 3))
    wanted = np.asarray(block.multiply_inverse(state, jax.numpy.asarray(vector)))
    for ids in ([1, 5], [5, 8]):
        got = multiply(state, jax.numpy.asarray(ids), vector[ids])
        np.testing.assert_allclose(got, wanted[ids], rtol=1e-13)
    assert sum(traces) == 1

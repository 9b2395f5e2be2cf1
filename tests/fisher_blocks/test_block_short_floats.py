"""Floats of ml_dtypes, which NumPy itself does not know, are promoted as others."""

import numpy as np
import pytest

import kfac_core as kc

ml_dtypes = pytest.importorskip("ml_dtypes")
BLOCKS = {
    "dense": kc.blocks.FullyConnectedKFACBasicFB(3, 2),
    "diagonal": kc.blocks.FullyConnectedDiagonalFB(3, 2),
    "ekfac": kc.blocks.EigenvalueCorrectedFB(kc.blocks.FullyConnectedKFACBasicFB(3, 2)),
}


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("name", BLOCKS)
def test_short_floats_count_as_float32(name, kind, rng):
    block, dtype = BLOCKS[name], getattr(ml_dtypes, kind)
    x, g, v = (rng.normal(size=s).astype(dtype) for s in ((6, 3), (6, 2), (3, 2)))
    found = []
    for data in ((x, g, v), tuple(part.astype("float32") for part in (x, g, v))):
        state = block.init(like=data[0])
        state = block.update_covs(state, *data[:2], 0.9, weights=data[0][:, 0] * 0 + 1)
        state = block.update_inverses(state, np.asarray(0.5, data[0].dtype))
        found += [
            block.full_fisher_block(state),
            block.multiply_inverse(state, data[2]),
        ]
    short, product, wide, expected = found
    assert short.dtype == np.float32
    assert np.array_equal(short, wide)
    assert product.dtype == dtype
    assert np.array_equal(product, expected.astype(dtype))


def test_a_sum_of_short_floats_goes_on():
    ones = np.ones((4097, 1), ml_dtypes.bfloat16)
    block = kc.blocks.FullyConnectedKFACBasicFB(1, 1)
    state = block.update_covs(block.init(like=ones), ones, ones, 0.0)
    assert block.full_fisher_block(state) == 1


def test_labels_and_logits_may_be_short():
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    logits = np.zeros((2, 4), ml_dtypes.bfloat16)
    assert loss.evaluate(logits, np.asarray([0, 1])) == pytest.approx(
        2 * np.log(4), 1e-2
    )


def test_short_integers_are_refused():
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="layer")
    with pytest.raises(kc.errors.BackendError, match=r"^layer: like: .* int4"):
        block.init(like=np.ones(3, ml_dtypes.int4))

"""A shared layer whose bias some of its uses do not add."""

import numpy as np
import pytest

import kfac_core as kc

FLAGS = (True, False, True)


def weights_and_bias(dense, size):
    return dense[:size, :size], dense[size:, size:]


def fold(library, block, x, g, **options):
    state = block.init(library.asarray(np.zeros(1)))
    moved = [library.asarray(array) for array in (x, g)]
    return block.update_covs(state, *moved, ema_decay=0.0, **options)


@pytest.mark.parametrize("form", ["axes", "flat", "uses"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_bias_has_the_fisher_of_the_uses_that_add_it(
    library, batch_first, form, rng
):
    x, g = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 2))
    block = kc.blocks.FullyConnectedMultiPartialBiasFB(
        4, 2, FLAGS, batch_first=batch_first
    )

    def given(data):
        if form == "uses":
            return kc.Uses(tuple(map(library.asarray, data)))
        axes = np.swapaxes(data, 0, 1) if batch_first else data
        return library.asarray(axes.reshape(15, -1) if form == "flat" else axes)

    state = block.init(library.asarray(np.zeros(1)))
    state = block.update_covs(state, given(x), given(g), ema_decay=0.0)
    dense = library.to_numpy(block.full_fisher_block(state))
    a = np.einsum("tni,tnj->ij", x, x) / 15
    b = np.einsum("tni,tnj->ij", g, g) / 15
    summed = g[[0, 2]].sum(0)
    found = weights_and_bias(dense, 8)
    np.testing.assert_allclose(found[0], 3 * np.kron(a, b), rtol=1e-12)
    np.testing.assert_allclose(found[1], summed.T @ summed / 5, rtol=1e-12)
    assert not dense[:8, 8:].any()


def test_a_derivative_does_not_count_the_bias(library):
    x, g = np.zeros((2, 1, 1)), np.asarray([[[1.0]], [[10.0]]])
    block = kc.blocks.FullyConnectedMultiPartialBiasFB(1, 1, (True, False))
    dense = library.to_numpy(block.full_fisher_block(fold(library, block, x, g)))
    assert dense[1, 1] == pytest.approx(1.0)
    # A one at the end of all inputs counts it in both.
    whole = kc.blocks.FullyConnectedMultiIndepFB(1, 1, True)
    dense = library.to_numpy(whole.full_fisher_block(fold(library, whole, x, g)))
    assert dense[1, 1] == pytest.approx(101.0)


@pytest.mark.parametrize("weights", ["cases", "uses"])
def test_rows_have_weights(weights, rng):
    x, g = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 2))
    block = kc.blocks.FullyConnectedMultiPartialBiasFB(3, 2, (True, False))
    w = np.asarray([1.0, 0.0, 1.0, 1.0])
    given = w if weights == "cases" else kc.Uses((w, w))
    state = block.init(np.zeros(1))
    found = block.full_fisher_block(
        block.update_covs(state, x, g, ema_decay=0.0, weights=given)
    )
    kept = w > 0
    expected = block.full_fisher_block(
        block.update_covs(
            state, x[:, kept], g[:, kept], ema_decay=0.0, num_cases=len(w)
        )
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_products_are_of_the_dense_block(rng):
    x, g = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 2))
    block = kc.blocks.FullyConnectedMultiPartialBiasFB(
        3, 2, (False, True), layout="out_in", damping_type="exact"
    )
    state = block.update_covs(block.init(x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.3)
    vector = (rng.normal(size=(2, 3)), rng.normal(size=2))
    flat = np.concatenate([part.ravel() for part in vector])
    damped = block.full_fisher_block(state) + 0.3 * np.eye(8)
    product = block.multiply_inverse(state, vector)
    found = np.concatenate([part.ravel() for part in product])
    np.testing.assert_allclose(found, np.linalg.solve(damped, flat), rtol=1e-10)


@pytest.mark.parametrize("flags", [(), (False, False), (1, 0), "TF", None, (True, "x")])
def test_flags_that_are_none_are_refused(flags):
    with pytest.raises(kc.errors.ArgumentError, match="layer: uses_with_bias is"):
        kc.blocks.FullyConnectedMultiPartialBiasFB(3, 2, flags, name="layer")


def test_a_registration_says_which_uses_add_the_bias():
    variables = {"w": (3, 2), "b": (2,)}
    collection = kc.LayerCollection.of(variables).register_fully_connected_multi(
        ("w", "b"), ("net", "derivative"), uses_with_bias=(True, False), name="shared"
    )
    (layer,) = collection.layers
    assert isinstance(layer.block, kc.blocks.FullyConnectedMultiPartialBiasFB)
    assert layer.block.uses_with_bias == (True, False)
    other = kc.LayerCollection.of(variables)
    with pytest.raises(kc.errors.ArgumentError, match="the layer has no bias"):
        other.register_fully_connected_multi(
            "w", ("net", "derivative"), uses_with_bias=(True, False)
        )
    with pytest.raises(kc.errors.ArgumentError, match="each of 2 uses"):
        other.register_fully_connected_multi(
            ("w", "b"), ("net", "derivative"), uses_with_bias=(True,)
        )

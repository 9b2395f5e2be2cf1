"""Arrays that mean something else than numbers end in one error that names them."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.errors import BackendError

BLOCK = kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="layer")
X, G, V = np.ones((4, 3)), np.ones((4, 2)), np.ones((3, 2))


class WithUnits(np.ndarray):
    """An array whose products are its own, as those of astropy and unyt."""

    def __array_ufunc__(self, *args, **kwargs):
        return NotImplemented


class Renamed(np.ndarray):
    """An array that computes as NumPy's."""


def given(make, as_plain, place):
    """Take a step with one array of the kind, in the place that is named."""
    x, g, v = map(as_plain, (X, G, V))
    like = make() if place == "like" else x
    state = BLOCK.init(like=like)
    state = BLOCK.update_covs(state, make() if place == "inputs" else x, g, 0.9)
    state = BLOCK.update_inverses(state, damping=0.5)
    return BLOCK.multiply_inverse(state, make() if place == "vector" else v)


PLACES = pytest.mark.parametrize("place", ["like", "inputs", "vector"])


@PLACES
def test_numpy_arrays_with_products_of_their_own_are_refused(place):
    with pytest.raises(BackendError, match=r"^layer: .*WithUnits, .* np\.asarray"):
        given(lambda: X.view(WithUnits), np.asarray, place)


@pytest.mark.parametrize("kind", [Renamed, np.recarray, np.memmap])
def test_other_subclasses_of_numpy_arrays_are_plain(kind):
    found = given(lambda: X.view(kind), np.asarray, "inputs")
    assert np.array_equal(found, given(lambda: X, np.asarray, "inputs"))


@pytest.mark.parametrize("dtype", ["M8[s]", [("x", float)], object])
def test_what_holds_no_numbers_is_told_to_be_converted(dtype):
    with pytest.raises(BackendError, match=r"of dtype .*: make an array of a real"):
        BLOCK.init(like=np.zeros(3, dtype))


TENSORS = {
    "nested": lambda torch: torch._nested_tensor_from_tensor_list(
        [torch.ones(2, 3), torch.ones(1, 3)]
    ),
    "MaskedTensor": lambda torch: torch.ones(4, 3).as_subclass(
        type("MaskedTensor", (torch.Tensor,), {"__module__": "torch.masked.own"})
    ),
    "UninitializedParameter": lambda torch: torch.nn.UninitializedParameter(),
    "UninitializedBuffer": lambda torch: torch.nn.UninitializedBuffer(),
    "FakeTensor outside of its mode": lambda torch: fake(torch),
}


def fake(torch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(torch.ones(4, 3))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@PLACES
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_hold_no_plain_numbers_are_refused(torch, kind, place):
    with pytest.raises(BackendError, match=rf"^layer: .* {kind}"):
        given(lambda: TENSORS[kind](torch), torch.from_numpy, place)


def test_a_fake_tensor_is_one_within_its_mode(torch):
    x = fake(torch)
    with x.fake_mode:
        state = BLOCK.update_covs(BLOCK.init(like=x), x, torch.ones(4, 2), 0.9)
        state = BLOCK.update_inverses(state, damping=0.5)
        step = BLOCK.multiply_inverse(state, torch.ones(3, 2))
    assert step.shape == (3, 2)


@PLACES
def test_a_deleted_array_is_refused(jax, place):
    def deleted():
        x = jax.numpy.ones((4, 3))
        x.delete()
        return x

    with pytest.raises(BackendError, match=r"^layer: .* one that was deleted"):
        given(deleted, jax.numpy.asarray, place)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float4_e2m1fn"])
def test_short_floats_of_jax_count_as_longer_ones(jax, kind):
    dtype = getattr(jax.numpy, kind)
    v = jax.numpy.asarray(V, dtype)
    found = given(lambda: v, jax.numpy.asarray, "vector")
    wanted = given(lambda: v.astype(float), jax.numpy.asarray, "vector")
    assert found.dtype == dtype
    assert np.array_equal(found, wanted.astype(dtype))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_number_in_an_array_of_numpy_is_told_to_be_a_number(library, request):
    made = request.getfixturevalue(library)
    as_array = made.from_numpy if library == "torch" else made.numpy.asarray
    state = BLOCK.update_covs(BLOCK.init(as_array(X)), as_array(X), as_array(G), 0.9)
    advice = rf"^layer: damping: .*two libraries.*{library} and numpy.*float\(damping\)"
    with pytest.raises(BackendError, match=advice):
        BLOCK.update_inverses(state, damping=np.asarray(0.1))
    BLOCK.update_inverses(state, damping=np.float32(0.1))


@PLACES
def test_a_random_key_is_told_where_it_belongs(jax, place):
    def keys():
        return jax.random.split(jax.random.key(0), (4, 3))

    with pytest.raises(BackendError, match=r"^layer: .* for an argument `key` alone"):
        given(keys, jax.numpy.asarray, place)


@PLACES
def test_gradients_of_integers_are_named(jax, place):
    def zero():
        return np.zeros((4, 3), jax.dtypes.float0)

    with pytest.raises(
        BackendError, match=r"^layer: .* float0, JAX's gradient for int"
    ):
        given(zero, np.asarray, place)


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_short_integers_are_ids_and_labels_of_jax_and_named_in_numpy(jax, dtype, rng):
    jnp, block = jax.numpy, kc.blocks.EmbeddingKFACFB(3, 2, name="table")
    ids = np.asarray([0, 2, 1, 2])
    expected = block.update_covs(block.init(like=G), ids, G, 0.9)
    short, g = jnp.asarray(ids, dtype), jnp.asarray(G)
    found = block.update_covs(block.init(like=g), short, g, 0.9)
    np.testing.assert_array_equal(
        block.full_fisher_block(found), block.full_fisher_block(expected)
    )
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    logits = rng.normal(size=(4, 3))
    value = loss.evaluate(jnp.asarray(logits), short)
    np.testing.assert_allclose(value, loss.evaluate(logits, ids), rtol=1e-14)
    with pytest.raises(BackendError, match=r"^table: .* \.astype\(np\.int32\)"):
        block.update_covs(block.init(like=G), np.asarray(short), G, 0.9)

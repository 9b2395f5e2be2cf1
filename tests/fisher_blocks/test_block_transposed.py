"""A transposed convolution, by its input locations or by its output locations."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from block_case import NumPy, dense_power, flat
from grouped_truth import assert_close
from transposed_truth import CASES

import kfac_core as kc
from kfac_core.reference import (
    ConvTranspose,
    Dense,
    Flatten,
    Sequential,
    Tanh,
    block_for,
    exact_fisher,
    exact_sources,
)

DAMPING = 0.3
LOSS = kc.losses.NormalMeanNegativeLogProbLoss(var=0.7)
BOTH = ("input", "output")


def updated(block, x, g):
    return block.update_covs(block.init(like=np.zeros(1)), x, g, ema_decay=0.0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_that_by_enumeration(name, mirrored, rng):
    case = replace(CASES[name], mirrored=mirrored)
    data = case.draw(rng, 5)
    block = case.block(matpowers=(-1, -0.5))
    state = block.update_inverses(updated(block, *data), DAMPING)
    assert_close(block.full_fisher_block(state), case.fisher(*data), 1e-12)
    vector = tuple(rng.normal(size=shape) for shape in case.shapes)
    dense = case.fisher(*data, DAMPING)
    for exp in (1, -1, -0.5):
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        assert_close(found, dense_power(dense, exp) @ flat(NumPy, vector))


def network_of(layer, x):
    """Return the layer in front of a dense one, and the Fisher of the former."""
    size = int(np.prod(layer.output_shape(x)[1:]))
    return Sequential((layer, Tanh(), Flatten(), Dense(size, 2)))


def both_and_truth(layer, x, rng, locations):
    network = network_of(layer, x)
    params = network.vector_to_params(rng.normal(size=network.num_params))
    data = exact_sources(network, params, x, LOSS)[0]
    block = block_for(layer, locations=locations)
    truth = exact_fisher(network, params, x, LOSS, layer=0)
    return block.full_fisher_block(updated(block, *data)), truth


def distance(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("groups", [1, 2])
def test_with_one_input_location_and_one_case_the_first_is_exact(groups, rng):
    layer = ConvTranspose(
        (3, 2, 2, 3), padding=((1, 0), 0), num_groups=groups, has_bias=False
    )
    x = rng.normal(size=(1, 1, 1, 2))
    found, truth = both_and_truth(layer, x, rng, "input")
    if groups == 1:
        assert distance(found, truth) < 1e-12
    # Between groups there is a correlation, which is dropped.
    own = [block_places(layer, i) for i in range(groups)]
    for places in own:
        cells = np.ix_(places, places)
        assert distance(found[cells], truth[cells]) < 1e-12
    # The negative twin.
    other, truth = both_and_truth(layer, x, rng, "output")
    assert distance(other, truth) > 0.05


def block_places(layer, i):
    *_, channels, outputs = layer.filter_shape
    a = channels // layer.num_groups
    order = np.arange(int(np.prod(layer.filter_shape))).reshape(-1, channels, outputs)
    return order[:, i * a : i * a + a].ravel()


@pytest.mark.parametrize("has_bias", [False, True])
def test_with_one_output_location_and_one_case_the_second_is_exact(has_bias, rng):
    # All but one of the outputs are cut off.
    layer = ConvTranspose((3, 2, 2), padding=2, has_bias=has_bias)
    x = rng.normal(size=(1, 3, 2))
    assert layer.output_shape(x) == (1, 1, 2)
    found, truth = both_and_truth(layer, x, rng, "output")
    assert distance(found, truth) < 1e-12
    other, truth = both_and_truth(layer, x, rng, "input")
    assert distance(other, truth) > 0.05


@pytest.mark.parametrize("locations", BOTH)
def test_with_several_locations_neither_is_exact(locations, rng):
    layer = ConvTranspose((3, 2, 2), strides=2)
    found, truth = both_and_truth(layer, rng.normal(size=(1, 3, 2)), rng, locations)
    assert distance(found, truth) > 0.05


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2)])
def test_in_a_small_generator_the_first_is_nearer(kernel, stride, rng):
    layer = ConvTranspose((kernel, kernel, 3, 2), strides=stride, has_bias=False)
    rest = ConvTranspose((2, 2, 2, 1))
    network = Sequential((Tanh(), layer, Tanh(), rest, Flatten()))
    x = rng.normal(size=(8, 2, 2, 3))
    params = network.init(rng, like=x)
    data = exact_sources(network, params, x, LOSS)[0]
    truth = exact_fisher(network, params, x, LOSS, layer=0)
    near, far = (
        distance(block.full_fisher_block(updated(block, *data)), truth)
        for block in (block_for(layer, locations=locations) for locations in BOTH)
    )
    assert near < 0.8 * far


def test_the_bias_of_the_first_is_exact_always_and_of_the_second_is_not(rng):
    layer = ConvTranspose((3, 2, 2), strides=2)
    x = rng.normal(size=(6, 4, 2))
    bias = slice(-2, None)
    for locations, exact in (("input", True), ("output", False)):
        found, truth = both_and_truth(layer, x, rng, locations)
        apart = distance(found[bias, bias], truth[bias, bias])
        assert (apart < 1e-12) if exact else (apart > 0.05)


def test_independent_sides_make_the_first_exact_for_one_location(rng):
    # Every input meets every gradient; the negative twin pairs each with one.
    layer = ConvTranspose((2, 2, 2), strides=2, has_bias=False)
    block = block_for(layer)
    x, g = rng.normal(size=(3, 1, 2)), rng.normal(size=(3, 2, 2))
    for pairs, exact in (
        ([*product(range(3), range(3))], True),
        ([(i, i) for i in range(3)], False),
    ):
        xs, gs = (
            np.stack([a[i] for i in k])
            for a, k in zip((x, g), zip(*pairs, strict=True), strict=True)
        )
        _, cache = layer.forward((np.zeros((2, 2, 2)),), xs)
        rows = layer.case_gradients(cache, gs)[0].reshape(len(xs), -1)
        truth = rows.T @ rows / len(rows)
        apart = distance(block.full_fisher_block(updated(block, xs, gs)), truth)
        assert (apart < 1e-12) if exact else (apart > 0.05)


def test_without_overlap_it_is_the_layer_that_all_locations_share(rng):
    # Kernel and stride equal: each input makes outputs of its own, as a dense layer.
    x, g = rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(4, 6, 6, 5))
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 2, 5), padding="VALID", strides=2)
    )
    found = block.full_fisher_block(updated(block, x, g))
    cells = g.reshape(4, 3, 2, 3, 2, 5).transpose(0, 1, 3, 2, 4, 5)
    dense = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((1, 1, 2, 20), padding="VALID")
    )
    same = dense.full_fisher_block(updated(dense, x, cells.reshape(4, 3, 3, 20)))
    order = np.arange(40).reshape(2, 4, 5).transpose(1, 0, 2).ravel()
    assert_close(found, same[np.ix_(order, order)], 1e-13)


@pytest.mark.parametrize("locations", BOTH)
def test_stride_one_is_a_convolution_with_its_roles_or_kernel_turned(locations, rng):
    x, g = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 5, 3))
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((3, 2, 3), padding=1), locations=locations
    )
    found = block.full_fisher_block(updated(block, x, g))
    taps = np.arange(18).reshape(3, 2, 3)
    if locations == "output":
        conv = kc.blocks.ConvKFCBasicFB(kc.ConvolutionGeometry((3, 2, 3), padding=1))
        order = taps[::-1].ravel()
        same = conv.full_fisher_block(updated(conv, x, g))
        assert_close(found, same[np.ix_(order, order)], 1e-13)
    else:
        conv = kc.blocks.ConvKFCBasicFB(kc.ConvolutionGeometry((3, 3, 2), padding=1))
        same = conv.full_fisher_block(updated(conv, g, x))
        order = np.arange(18).reshape(3, 3, 2).transpose(0, 2, 1).ravel()
        assert_close(found, same[np.ix_(order, order)], 1e-13)


def test_towers_are_shards_and_may_differ_in_size(rng):
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 1), padding="VALID", strides=2), has_bias=True
    )
    x, g = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 6, 1))
    whole = block.full_fisher_block(updated(block, x, g))
    shards = updated(block, (x[:2], x[2:]), (g[:2], g[2:]))
    assert_close(block.full_fisher_block(shards), whole, 1e-13)
    sources = ((g,), (2 * g,))
    assert_close(block.full_fisher_block(updated(block, (x,), sources)), 5 * whole)
    wide = updated(
        block,
        (x, rng.normal(size=(6, 5, 2))),
        (g, rng.normal(size=(6, 10, 1))),
    )
    assert float(wide.parts[0].uses.total / wide.parts[0].uses.weight) == 4


@pytest.mark.parametrize("locations", BOTH)
def test_it_is_what_pytorch_computes(locations, torch, rng):
    conv = torch.nn.ConvTranspose2d(
        4, 6, (3, 2), stride=(2, 1), padding=(1, 0), output_padding=(1, 0), groups=2
    ).double()
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry(
            tuple(conv.weight.shape),
            num_groups=2,
            padding=(1, 0),
            strides=(2, 1),
            data_format="NCHW",
            layout="IOHW",
        ),
        output_padding=(1, 0),
        has_bias=True,
        locations=locations,
    )
    x = torch.from_numpy(rng.normal(size=(1, 4, 3, 3)))
    y = conv(x)
    g = torch.from_numpy(rng.normal(size=tuple(y.shape)))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.1)
    y.backward(g)
    gradient = conv.weight.grad, conv.bias.grad
    product = block.multiply_inverse(state, gradient)
    assert [p.shape for p in product] == [conv.weight.shape, conv.bias.shape]
    assert [p.dtype for p in product] == [torch.float64] * 2
    # The same in the library's own order.
    standard = replace(block.geometry, filter_shape=(3, 2, 4, 3), layout="HWIO")
    plain = replace(block, geometry=standard)
    weights = conv.weight.grad.permute(2, 3, 0, 1)
    same, _ = plain.multiply_inverse(state, (weights, conv.bias.grad))
    assert torch.equal(product[0], same.permute(2, 3, 0, 1))
    # And on the parameters as one vector, as they lie: a step with its own block.
    vector = torch.cat([x.ravel() for x in gradient])
    damped = block.full_fisher_block(state)
    block = replace(block, matpowers=())
    state = block.update_inverses(block.init_inverses(state), 0.0)
    undamped = block.multiply(state, gradient)
    assert_close(
        (damped @ vector).numpy(), np.concatenate([x.numpy().ravel() for x in undamped])
    )


REFUSED = {
    "stride": ({"strides": 0}, kc.errors.ArgumentError, "strides"),
    "padding": ({"padding": "FULL"}, kc.errors.ArgumentError, "padding"),
    "output": ({"output_padding": 2}, kc.errors.ArgumentError, "output_padding"),
    "same": (
        {"output_padding": 0, "padding": "SAME"},
        kc.errors.ArgumentError,
        "output_padding",
    ),
    "groups": ({"num_groups": 3}, kc.errors.ArgumentError, "num_groups"),
    "locations": ({"locations": "both"}, kc.errors.ArgumentError, "locations"),
    "kernel": ({"filter_shape": (2, 1)}, kc.errors.ShapeError, "axes"),
    "layout": ({"layout": "IHW"}, kc.errors.ArgumentError, "layout"),
    "empty": ({"filter_shape": (3, 0, 1)}, kc.errors.ArgumentError, "filter_shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_specs_that_make_no_sense_are_refused(name):
    fields, error, word = REFUSED[name]
    own = ("output_padding", "locations")
    options = {field: fields[field] for field in own if field in fields}
    given = {"filter_shape": (3, 2, 2), "padding": "VALID", "strides": 2}
    given |= {field: fields[field] for field in fields if field not in own}
    with pytest.raises(error, match=rf"layer7.*{word}"):
        kc.blocks.TransposedConvKFCBasicFB(
            kc.ConvolutionGeometry(**given, name="layer7"), name="layer7", **options
        )


@pytest.mark.parametrize("locations", BOTH)
def test_outputs_of_another_size_are_refused(locations, rng):
    block = kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((3, 2, 1), padding=1, strides=2),
        locations=locations,
        name="layer7",
    )
    x = rng.normal(size=(4, 3, 2))
    for size in (5, 6):
        updated(block, x, rng.normal(size=(4, size, 1)))
    for size in (4, 7):
        with pytest.raises(kc.errors.ShapeError, match=r"layer7.*expected \[5 to 6\]"):
            updated(block, x, rng.normal(size=(4, size, 1)))
    exact = replace(block, output_padding=1)
    with pytest.raises(kc.errors.ShapeError, match=r"expected \[6\]"):
        updated(exact, x, rng.normal(size=(4, 5, 1)))
    state = block.update_inverses(updated(block, x, rng.normal(size=(4, 5, 1))), 0.1)
    for wrong in (np.ones((2, 3, 1)), (np.ones((3, 2, 1)), np.ones(1))):
        with pytest.raises(kc.errors.ShapeError, match=r"layer7.*vector"):
            block.multiply(state, wrong)


def test_a_failure_in_one_part_leaves_all_as_it_was(jax, rng):
    block = CASES["strided"].block(name="layer7")
    x, g = map(jax.numpy.asarray, CASES["strided"].draw(rng, 4))
    state = block.update_inverses(block.update_covs(block.init(g), x, g, 0.5), 0.1)
    for bad in ((x.at[0, 0, 0, 0].set(np.nan), g), (x, g.at[0].set(np.inf))):
        after = jax.jit(block.update_covs)(state, *bad, 0.5)
        assert not bool(after.ok)
        leaves = jax.tree_util.tree_leaves
        pairs = zip(leaves(after), leaves(state), strict=True)
        for new, old in pairs:
            if new.dtype != bool:
                np.testing.assert_array_equal(new, old)
        with pytest.raises(kc.errors.NotFiniteError, match="layer7"):
            block.update_covs(state, *bad, 0.5)

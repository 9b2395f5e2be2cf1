"""Convolutions whose uses differ in size, as on the levels of a pyramid, or in groups.

The truth is by enumeration: all patches and gradients of all uses, of each group.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from block_case import NumPy

import kfac_core as kc
from kfac_core.typing import RowWeights, Uses

CASES, OUT, KERNEL = 5, 4, 2
SIZES = ((3, 3), (2, 4), (3, 3))


@dataclass(frozen=True)
class Layer:
    """A shared convolution of 2 x 2 pixels, with bias.

    Attributes:
        make: Class of its block.
        groups: Number of groups.
        channels: Number of input channels of a group.
    """

    make: type[kc.blocks.FisherBlock]
    groups: int
    channels: int

    def block(self, **options):
        shape = (KERNEL, KERNEL, self.channels, OUT)
        geometry = kc.ConvolutionGeometry(
            shape, padding="VALID", num_groups=self.groups
        )
        return self.make(geometry, has_bias=True, name="head", **options)

    def draw(self, rng, cases=CASES, sizes=SIZES):
        """Return inputs and gradients of each use."""
        x = [rng.normal(size=(cases, *s, self.groups * self.channels)) for s in sizes]
        g = [rng.normal(size=(cases, s[0] - 1, s[1] - 1, OUT)) for s in sizes]
        return x, g

    def rows(self, x, g):
        """Return the rows of a use, ``[cases, locations, n]``, of each group."""
        n, height, width, _ = g.shape
        found = []
        for i in range(self.groups):
            own = x[..., i * self.channels : (i + 1) * self.channels]
            patches = [
                own[:, a : a + KERNEL, b : b + KERNEL].reshape(n, -1)
                for a, b in np.ndindex(height, width)
            ]
            p = np.stack(patches, axis=1)
            p = np.concatenate([p, np.ones((*p.shape[:2], 1))], axis=-1)
            outs = OUT // self.groups
            found.append((p, g[..., i * outs : (i + 1) * outs].reshape(n, -1, outs)))
        return found

    def places(self, i):
        """Return where the parameters of a group are in the vector of all."""
        taps, outs = KERNEL**2 * self.channels, OUT // self.groups
        order = np.arange((taps + 1) * OUT).reshape(taps + 1, OUT)
        return order[:, i * outs : (i + 1) * outs].ravel()

    def in_place(self, blocks):
        size = sum(map(len, blocks))
        dense = np.zeros((size, size))
        for i, own in enumerate(blocks):
            dense[np.ix_(self.places(i), self.places(i))] = own
        return dense

    def fisher(self, x, g, weights=None, others=None):
        """Return ``P T kron(A, G) / mean weight``, the means by weight over all rows.

        Args:
            x: Inputs of each use.
            g: Gradients of each use.
            weights: Of the rows of inputs of each use, ``[cases, locations]``.
            others: Of the rows of gradients; None: the same.
        """
        blocks, number = [], sum(own[0, ..., 0].size for own in g)
        if weights is None:
            weights = [np.ones((len(own), own[0, ..., 0].size)) for own in g]
        others = weights if others is None else others
        mean = sum(own.sum() for own in weights) / (number * len(x[0]))
        for i in range(self.groups):
            pairs = [self.rows(*use)[i] for use in zip(x, g, strict=True)]
            a = sum(
                np.einsum("nl,nlp,nlq->pq", w, p, p)
                for (p, _), w in zip(pairs, weights, strict=True)
            )
            s = sum(
                np.einsum("nl,nlp,nlq->pq", w, q, q)
                for (_, q), w in zip(pairs, others, strict=True)
            )
            rows = number * len(x[0])
            blocks.append(number * np.kron(a / rows, s / rows) / mean)
        return self.in_place(blocks)


LAYERS = {
    "whole": Layer(kc.blocks.ConvKFCBasicMultiIndepFB, 1, 2),
    "groups": Layer(kc.blocks.GroupedConvKFCBasicMultiIndepFB, 2, 1),
}
EACH = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
NUMPY = NumPy()


def uses(library, arrays):
    return Uses(tuple(map(library.asarray, arrays)))


def updated(library, block, x, g, **options):
    state = library.moved(block.init(np.zeros(1)))
    return library.compiled(block.update_covs)(state, x, g, ema_decay=0.0, **options)


def assert_close(found, expected, rtol=1e-12):
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@EACH
def test_all_rows_of_all_uses_count(layer, library, rng):
    block = layer.block()
    x, g = layer.draw(rng)
    state = updated(library, block, uses(library, x), uses(library, g))
    expected = layer.fisher(x, g)
    found = library.to_numpy(block.full_fisher_block(state))
    assert_close(found, expected)
    # The mean over uses, each with its own locations, is another matrix.
    others = [layer.fisher([a], [b]) for a, b in zip(x, g, strict=True)]
    assert np.abs(sum(others) - expected).max() > 0.1


@EACH
def test_the_inverse_is_that_of_all_rows(layer, library, rng):
    block = layer.block(damping_type="exact")
    x, g = layer.draw(rng)
    state = updated(library, block, uses(library, x), uses(library, g))
    state = block.update_inverses(state, 0.3)
    dense = layer.fisher(x, g)
    shapes = (block.geometry.filter_shape, (OUT,))
    vector = [rng.normal(size=shape) for shape in shapes]
    flat = np.concatenate([v.ravel() for v in vector])
    expected = np.linalg.solve(dense + 0.3 * np.eye(len(dense)), flat)
    product = block.multiply_inverse(state, tuple(map(library.asarray, vector)))
    found = np.concatenate([library.to_numpy(v).ravel() for v in product])
    assert_close(found, expected, 1e-10)


@EACH
@pytest.mark.parametrize("batch_first", [False, True])
def test_one_size_in_one_array_is_the_same_as_in_uses(layer, batch_first, rng):
    x, g = layer.draw(rng, sizes=((3, 3),) * 3)
    axis = int(batch_first)
    arrays = np.stack(x, axis), np.stack(g, axis)
    block = layer.block(batch_first=batch_first)
    whole = updated(NUMPY, block, *arrays)
    apart = updated(NUMPY, block, Uses(tuple(x)), Uses(tuple(g)))
    folded = layer.block(batch_first=batch_first, num_uses=3)
    flat = (own.reshape(-1, *own.shape[2:]) for own in arrays)
    joined = updated(NUMPY, folded, *flat)
    expected = layer.fisher(x, g)
    for state in (whole, apart, joined):
        assert_close(block.full_fisher_block(state), expected)
    assert block.count_cases(arrays[0]) == block.count_cases(Uses(tuple(x))) == CASES


def by_location(weights, g):
    """Return the weights of each use at each of its locations."""
    return [
        np.broadcast_to(w.reshape(len(w), -1), (len(w), own[0, ..., 0].size))
        for w, own in zip(weights, g, strict=True)
    ]


WEIGHTS = {
    "cases": lambda rng, g: (w := rng.uniform(size=CASES), [w] * len(g)),
    "uses": lambda rng, g: (w := rng.uniform(size=(len(g), CASES)), list(w)),
    "folded": lambda rng, g: (
        (w := rng.uniform(size=(len(g), CASES))).ravel(),
        list(w),
    ),
    "locations": lambda rng, g: (
        Uses(tuple(own := [rng.uniform(size=x.shape[:-1]) for x in g])),
        own,
    ),
}


@EACH
@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_of_cases_uses_and_locations(layer, form, library, rng):
    block = layer.block()
    x, g = layer.draw(rng)
    given, each = WEIGHTS[form](rng, g)
    if isinstance(given, Uses):
        given = uses(library, given.arrays)
    else:
        given = library.asarray(given)
    data = uses(library, x), uses(library, g)
    state = updated(library, block, *data, weights=given)
    found = library.to_numpy(block.full_fisher_block(state))
    weights = by_location(each, g)
    assert_close(found, layer.fisher(x, g, weights))
    ones = by_location([np.ones(CASES)] * len(g), g)
    state = updated(library, block, *data, weights=RowWeights(given, None))
    found = library.to_numpy(block.full_fisher_block(state))
    assert_close(found, layer.fisher(x, g, weights, ones))


@EACH
def test_towers_of_several_sizes_and_sums_of_sources(layer, rng):
    (x1, g1), (x2, g2) = layer.draw(rng), layer.draw(rng, 2)
    block = layer.block()
    towers = Uses(tuple(x1)), Uses(tuple(x2))
    source = Uses(tuple(g1)), Uses(tuple(g2))
    state = updated(NUMPY, block, towers, (source, source))
    x, g = (
        [np.concatenate(pair) for pair in zip(*own, strict=True)]
        for own in ((x1, x2), (g1, g2))
    )
    assert_close(block.full_fisher_block(state), 2 * layer.fisher(x, g))
    assert block.count_cases(towers) == CASES + 2
    half = updated(NUMPY, block, towers, source, num_cases=2 * (CASES + 2))
    assert_close(block.full_fisher_block(half), layer.fisher(x, g) / 2)


@EACH
def test_corrected_eigenvalues_are_those_of_the_gradients_of_cases(layer, library, rng):
    block = kc.blocks.EigenvalueCorrectedFB(layer.block())
    x, g = layer.draw(rng)
    data = uses(library, x), uses(library, g)
    state = updated(library, block, *data)
    state = block.update_inverses(state, 1e-3)
    state = block.update_covs(state, *data, ema_decay=0.0)
    found = library.to_numpy(block.full_fisher_block(state))
    blocks = []
    for i in range(layer.groups):
        pairs = [layer.rows(*use)[i] for use in zip(x, g, strict=True)]
        a = sum(np.einsum("nlp,nlq->pq", p, p) for p, _ in pairs)
        s = sum(np.einsum("nlp,nlq->pq", q, q) for _, q in pairs)
        basis = np.kron(np.linalg.eigh(a)[1], np.linalg.eigh(s)[1])
        gradients = sum(np.einsum("nlp,nlq->npq", p, q) for p, q in pairs)
        moved = gradients.reshape(CASES, -1) @ basis
        blocks.append((basis * (moved**2).mean(0)) @ basis.T)
    assert_close(found, layer.in_place(blocks), 1e-9)


@EACH
@pytest.mark.parametrize("form", WEIGHTS)
def test_corrected_eigenvalues_have_the_weights_of_gradients(layer, form, library, rng):
    block = kc.blocks.EigenvalueCorrectedFB(layer.block())
    x, g = layer.draw(rng)
    data = uses(library, x), uses(library, g)
    given, each = WEIGHTS[form](rng, g)
    of_gradients = (
        uses(library, given.arrays)
        if isinstance(given, Uses)
        else library.asarray(given)
    )
    state = block.update_inverses(updated(library, block, *data), 1e-3)
    # Those of inputs leave the basis as it is.
    state = block.update_covs(
        state, *data, ema_decay=0.0, weights=RowWeights(None, of_gradients)
    )
    found = library.to_numpy(block.full_fisher_block(state))
    blocks, positions = [], by_location(each, g)
    of_cases = form == "cases"
    for i in range(layer.groups):
        pairs = [layer.rows(*use)[i] for use in zip(x, g, strict=True)]
        a = sum(np.einsum("nlp,nlq->pq", p, p) for p, _ in pairs)
        s = sum(np.einsum("nlp,nlq->pq", q, q) for _, q in pairs)
        basis = np.kron(np.linalg.eigh(a)[1], np.linalg.eigh(s)[1])
        gradients = sum(
            np.einsum("nl,nlp,nlq->npq", np.ones_like(w) if of_cases else w, p, q)
            for (p, q), w in zip(pairs, positions, strict=True)
        )
        moved = gradients.reshape(CASES, -1) @ basis
        # A case that counts twice has twice its square.
        count = each[0] if of_cases else np.ones(CASES)
        blocks.append((basis * (count[:, None] * moved**2).mean(0)) @ basis.T)
    assert_close(found, layer.in_place(blocks), 1e-9)


def test_pooling_is_over_all_positions_of_all_sizes(rng):
    layer = LAYERS["whole"]
    block = kc.blocks.KFACReduceFB(layer.block())
    x, g = layer.draw(rng)
    data, w = (Uses(tuple(x)), Uses(tuple(g))), rng.uniform(size=CASES)
    pairs = [layer.rows(*use)[0] for use in zip(x, g, strict=True)]
    a = np.concatenate([p for p, _ in pairs], axis=1).mean(1)
    s = sum(q.sum(1) for _, q in pairs)
    state = updated(NUMPY, block, *data)
    expected = np.kron(a.T @ a, s.T @ s) / CASES**2
    assert_close(block.full_fisher_block(state), expected)
    state = updated(NUMPY, block, *data, weights=w)
    moments = (a.T * w) @ a / CASES, (s.T * w) @ s / CASES
    assert_close(block.full_fisher_block(state), np.kron(*moments) / w.mean())
    with pytest.raises(kc.errors.UnsupportedError, match="several sizes"):
        updated(NUMPY, block, *data, weights=rng.uniform(size=(len(x), CASES)))


@EACH
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x, g: (x, g[:2]), kc.errors.ShapeError, "3 uses of 2 sizes"),
        (lambda x, g: (x, g[0]), kc.errors.ShapeError, "an array"),
        (lambda x, g: (x, [g[1], g[0], g[2]]), kc.errors.ShapeError, "outputs_grads"),
        (
            lambda x, g: ([x[0], x[1][:3], x[2]], [g[0], g[1][:3], g[2]]),
            kc.errors.ShapeError,
            "the same cases",
        ),
        (lambda x, g: ([x[0], x[1][..., :1], x[2]], g), kc.errors.ShapeError, "inputs"),
        (lambda x, g: ([x[0], x[1][0], x[2]], g), kc.errors.ShapeError, "4 axes"),
    ],
)
def test_uses_that_do_not_go_together_are_refused(layer, change, error, words, rng):
    x, g = (
        Uses(tuple(d)) if isinstance(d, list) else d for d in change(*layer.draw(rng))
    )
    with pytest.raises(error, match="head") as caught:
        updated(NUMPY, layer.block(), x, g)
    assert words in str(caught.value)


@EACH
def test_a_stated_number_of_uses_must_be_that_of_all_sizes(layer, rng):
    x, g = (Uses(tuple(own)) for own in layer.draw(rng))
    updated(NUMPY, layer.block(num_uses=3), x, g)
    with pytest.raises(kc.errors.ArgumentError, match="num_uses = 2"):
        updated(NUMPY, layer.block(num_uses=2), x, g)

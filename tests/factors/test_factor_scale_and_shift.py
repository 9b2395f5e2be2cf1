"""Factors of a scale and a shift hold the Fisher of each case's whole gradient."""

import numpy as np
import pytest

import kfac_core as kc

# Shapes of scale, shift, input and output of one case: what is broadcast, and where.
LAYERS = {
    "layer-norm": ((3,), (3,), (4, 3), (4, 3)),
    "channels-first": ((2, 1, 1), (2, 1, 1), (2, 2, 3), (2, 2, 3)),
    "with-batch-axis": ((1, 1, 3), (3,), (4, 3), (4, 3)),
    "no-shift": ((4, 1), None, (4, 3), (4, 3)),
    "one-number": ((), (3,), (3,), (3,)),
    "scale-larger-than-input": ((4, 3), (3,), (1, 3), (4, 3)),
    "shift-larger-than-input": ((1,), (4, 3), (4, 1), (4, 3)),
}


def draw(rng, name, n=5):
    _, _, inputs, outputs = LAYERS[name]
    return rng.normal(size=(n, *inputs)), rng.normal(size=(n, *outputs))


def gradients(name, x, g):
    """Return ``[batch, n]``: the layer is linear in its parameters, so take each."""
    scale_shape, shift_shape, _, outputs = LAYERS[name]
    shapes = [scale_shape, *([] if shift_shape is None else [shift_shape])]
    found = []
    for place, shape in enumerate(shapes):
        for k in range(int(np.prod(shape))):
            unit = np.zeros(shape)
            unit.flat[k] = 1.0
            y = unit * x if place == 0 else unit + 0 * x
            y = np.broadcast_to(y, (len(x), *outputs))
            found.append([np.sum(a * b) for a, b in zip(y, g, strict=True)])
    return np.asarray(found).T


def factor_of(kind, layer, **options):
    cls = {
        "full": kc.ScaleAndShiftFullFactor,
        "diagonal": kc.ScaleAndShiftDiagonalFactor,
    }[kind]
    scale, shift, inputs, outputs = LAYERS[layer]
    return cls.for_params(scale, inputs, outputs, shift, **options)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_mean_of_outer_products(name, rng):
    x, g = draw(rng, name)
    rows = gradients(name, x, g)
    fisher = rows.T @ rows / len(rows)
    for kind, wanted in (("full", fisher), ("diagonal", np.diagonal(fisher))):
        factor = factor_of(kind, name)
        state = factor.update_cov(factor.init(g), x, g, ema_decay=0.5)
        found = factor.get_cov_var(state)
        assert factor.dimension == len(fisher)
        np.testing.assert_allclose(found, wanted, atol=1e-13 * np.abs(fisher).max())


def test_it_is_not_the_product_of_sums(rng):
    # Of a case's gradient, and not of its locations one by one.
    x, g = draw(rng, "layer-norm")
    factor = factor_of("diagonal", "layer-norm")
    state = factor.update_cov(factor.init(g), x, g, ema_decay=0.5)
    other = np.concatenate(
        [np.sum((x * g) ** 2, axis=1).mean(0), np.sum(g**2, axis=1).mean(0)]
    )
    found = factor.get_cov_var(state)
    assert np.abs(found - other).max() > 0.1 * np.abs(found).max()


@pytest.mark.parametrize(
    ("scale", "outputs", "words"),
    [
        ((1, 4, 3, 3), (4, 3), "more axes than the outputs"),
        ((5, 4, 3), (4, 3), "axis for the cases, of size 5"),
        ((2, 3), (4, 3), r"2 entries along axis 1 .*expected 1 or 4.*output_shape"),
        ((4, 3), (1, 3), r"4 entries along axis 1"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(scale, outputs, words):
    for shapes in ((scale, outputs), ((3,), outputs, None, scale)):
        with pytest.raises(kc.ShapeError, match=f"norm7.*{words}"):
            kc.ScaleAndShiftFullFactor.for_params(*shapes, name="norm7")


def test_axes_that_do_not_fit_are_refused():
    make = kc.ScaleAndShiftDiagonalFactor
    for dims in ((0,), (3,), (1, 1), (-1,)):
        with pytest.raises(kc.ArgumentError, match="broadcast_dims_scale"):
            make((4, 3), dims, (), name="norm7")
    with pytest.raises(kc.ArgumentError, match="broadcast_dims_shift is None"):
        make((4, 3), (1,))
    assert make((4, 3), (1,), has_shift=False).dimension == 3
    for inputs in ((3,), (2, 3)):
        with pytest.raises(kc.ShapeError, match="cannot be broadcast"):
            make(inputs, (1,), (1,), output_shape=(4, 3))
    assert hash(make([4, 3], [2, 1], [])) == hash(make((4, 3), (1, 2), ()))

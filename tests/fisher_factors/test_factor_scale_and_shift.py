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
        "full": kc.factors.ScaleAndShiftFullFactor,
        "diagonal": kc.factors.ScaleAndShiftDiagonalFactor,
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
        with pytest.raises(kc.errors.ShapeError, match=f"norm7.*{words}"):
            kc.factors.ScaleAndShiftFullFactor.for_params(*shapes, name="norm7")


def test_axes_that_do_not_fit_are_refused():
    make = kc.factors.ScaleAndShiftDiagonalFactor
    for dims in ((0,), (3,), (1, 1), (-1,)):
        with pytest.raises(kc.errors.ArgumentError, match="broadcast_dims_scale"):
            make((4, 3), dims, (), name="norm7")
    with pytest.raises(kc.errors.ArgumentError, match="broadcast_dims_shift is None"):
        make((4, 3), (1,))
    assert make((4, 3), (1,), has_shift=False).dimension == 3
    for inputs in ((3,), (2, 3)):
        with pytest.raises(kc.errors.ShapeError, match="cannot be broadcast"):
            make(inputs, (1,), (1,), output_shape=(4, 3))
    assert hash(make([4, 3], [2, 1], [])) == hash(make((4, 3), (1, 2), ()))


FREE = {
    "positions": ((3,), (3,), (None, 3), None),
    "images": ((2, 1, 1), (2, 1, 1), (2, None, None), None),
    "broadcast-inputs": ((3,), (3,), (1, 3), (None, 3)),
    "no-shift": ((3,), None, (None, 3), None),
}


@pytest.mark.parametrize("kind", ["full", "diagonal"])
@pytest.mark.parametrize("name", FREE)
def test_axes_of_any_size(library, kind, name, rng):
    """Batches of other lengths fold as those of a factor of each length do."""
    make = {
        "full": kc.factors.ScaleAndShiftFullFactor,
        "diagonal": kc.factors.ScaleAndShiftDiagonalFactor,
    }[kind].for_params
    scale, shift, inputs, outputs = FREE[name]
    free = make(scale, inputs, outputs, shift)
    like = library.asarray(np.zeros(1))
    state, total = free.init(like), 0.0
    for length in (2, 5):
        sizes = [
            tuple(length if size is None else size for size in shape)
            for shape in (inputs, outputs or inputs)
        ]
        x, g = (library.asarray(rng.normal(size=(4, *size))) for size in sizes)
        state = free.update_cov(state, x, g, ema_decay=1.0)
        fixed = make(scale, sizes[0], sizes[1], shift)
        one = fixed.update_cov(fixed.init(like), x, g, ema_decay=1.0)
        total = total + library.to_numpy(fixed.get_cov_var(one)) / 2
    np.testing.assert_allclose(
        library.to_numpy(free.get_cov_var(state)), total, rtol=1e-13, atol=1e-14
    )
    assert hash(free) == hash(make(scale, inputs, outputs, shift))


def test_towers_may_have_other_lengths(rng):
    factor = kc.factors.ScaleAndShiftFullFactor.for_params((3,), (None, 3))
    shapes = ((2, 4, 3), (1, 6, 3))
    x, g = (tuple(rng.normal(size=shape) for shape in shapes) for _ in range(2))
    state = factor.update_cov(factor.init(x[0]), x, g, ema_decay=0.0)
    rows = np.concatenate([np.sum(a * b, axis=1) for a, b in zip(x, g, strict=True)])
    np.testing.assert_allclose(factor.get_cov(state), rows.T @ rows / 3, rtol=1e-13)


def test_a_parameter_is_broadcast_along_an_axis_of_any_size():
    make = kc.factors.ScaleAndShiftFullFactor
    with pytest.raises(kc.errors.ShapeError, match=r"^norm7: axis 1 .*any size.*scale"):
        make.for_params((4, 3), (None, 3), name="norm7")
    with pytest.raises(kc.errors.ShapeError, match=r"^norm7: axis 2 .*any size.*shift"):
        make.for_params((1, 1), (4, None), shift_shape=(3,), name="norm7")
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^norm7: the axes \[1\].*_scale"
    ):
        make((None, 3), (), (1,), name="norm7")
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^norm7: the axes \[1\].*_shift"
    ):
        make((None, 3), (1,), (), name="norm7")
    for inputs, outputs in (((None, 3), (4, 3)), ((4, 3), (None, 3))):
        with pytest.raises(kc.errors.ShapeError, match=r"norm7.*cannot be broadcast"):
            make(inputs, (1,), (1,), output_shape=outputs, name="norm7")


def test_inputs_and_gradients_agree_along_an_axis_of_any_size(rng):
    factor = kc.factors.ScaleAndShiftFullFactor.for_params(
        (3,), (None, 3), name="norm7"
    )
    x, g = rng.normal(size=(2, 1, 3)), rng.normal(size=(2, 5, 3))
    with pytest.raises(
        kc.errors.ShapeError, match=r"norm7: along axis 1.* 1 entries.* 5;"
    ):
        factor.update_cov(factor.init(x), x, g, ema_decay=0.0)
    with pytest.raises(kc.errors.ShapeError, match=r"norm7: .*\[batch, any size, 3\]"):
        factor.update_cov(factor.init(x), x[:, 0], g[:, 0], ema_decay=0.0)


@pytest.mark.parametrize(
    "shape", [(2.5, 3), (-1, 3), ("4", 3), (True, 3), 3, None, "4"]
)
def test_what_is_no_shape_is_refused(shape):
    for make in (kc.factors.ScaleAndShiftFullFactor, kc.blocks.ScaleAndShiftDiagonalFB):
        with pytest.raises(kc.errors.ArgumentError, match=r"^norm7: input_shape is"):
            make(shape, (1,), (1,), name="norm7")
        if shape is None:
            continue
        with pytest.raises(kc.errors.ArgumentError, match=r"^norm7: output_shape is"):
            make((4, 3), (1,), (1,), output_shape=shape, name="norm7")
    collection = kc.LayerCollection.of({"scale": (3,)})
    with pytest.raises(kc.errors.ArgumentError, match=r"^scale: input_shape is"):
        collection.register_scale_and_shift("scale", "x", input_shape=shape)


@pytest.mark.parametrize("dims", ["1", 1, (True,), (1.0,), None, ([1],)])
def test_what_is_no_list_of_axes_is_refused(dims):
    with pytest.raises(
        kc.errors.ArgumentError, match=r"^norm7: broadcast_dims_scale is"
    ):
        kc.factors.ScaleAndShiftFullFactor((4, 3), dims, (1,), name="norm7")


def test_a_registration_takes_axes_of_any_size():
    collection = kc.LayerCollection.of({"scale": (3,), "shift": (3,)})
    layers = collection.register_scale_and_shift(
        ("scale", "shift"), "x", input_shape=(None, 3)
    ).layers
    assert layers[0].block.broadcast_dims_scale == (1,)
    assert layers[0].block.factor.dimension == 6

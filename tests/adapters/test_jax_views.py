"""Views know where the axes of an array went, without an index being computed."""

import numpy as np
import pytest

pytest.importorskip("jax")


@pytest.mark.parametrize(
    "steps",
    [
        [("reshape", (2, 2, 6)), ("transpose", (0, 2, 1)), ("reshape", (2, 12))],
        [("transpose", (1, 0)), ("reshape", (3, 2, 4)), ("transpose", (2, 0, 1))],
        [("reshape", (1, 24)), ("reshape", (4, 1, 6))],
        [("reshape", (24,)), ("reshape", (2, 3, 4)), ("transpose", (1, 2, 0))],
    ],
)
def test_a_form_undoes_every_layout(jax, steps):
    from kfac_adapters.jax.forms import form_of
    from kfac_adapters.jax.views import whole

    array, view = np.arange(24.0).reshape(4, 6), whole((4, 6))
    for step, argument in steps:
        array = getattr(array, step)(argument)
        move = view.reshaped if step == "reshape" else view.transposed
        view = move(argument)
        if view is None:  # an axis torn apart
            return
        assert view.shape == array.shape
    form = form_of((4, 6), view.real, view.shape)
    leaf = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(form.to_core(leaf), array)
    np.testing.assert_array_equal(form.to_leaf(form.to_core(leaf)), leaf)


def test_an_axis_that_is_torn_apart_is_no_view():
    from kfac_adapters.jax.views import whole

    assert whole((4, 6)).transposed((1, 0)).reshaped((4, 6)) is None

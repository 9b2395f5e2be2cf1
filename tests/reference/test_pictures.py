"""Pictures show the matrices that they are given, whole."""

import numpy as np
import pytest

from kfac_core.reference import PICTURE_STYLE, DenseFisher, heat_maps, iris

matplotlib = pytest.importorskip("matplotlib")


def shown(figure):
    """The pictures of a figure by their titles, without the scales of colours."""
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


def test_matrices_of_every_library_and_shape_are_shown_on_one_scale(plain_library, rng):
    given = {"square": rng.normal(size=(3, 3)), "wide": rng.normal(size=(2, 5))}
    axes = shown(heat_maps({k: plain_library.asarray(m) for k, m in given.items()}))
    limit = max(abs(m).max() for m in given.values())
    assert list(axes) == list(given)
    for title, axis in axes.items():
        (image,) = axis.images
        np.testing.assert_array_equal(image.get_array(), given[title])
        assert image.get_clim() == (-limit, limit)


def test_scales_of_their_own_reach_to_the_largest_entry_of_each():
    figure = heat_maps({"one": np.eye(2), "four": 4 * np.eye(2)}, one_scale=False)
    limits = [axis.images[0].get_clim() for axis in shown(figure).values()]
    assert limits == [(-1, 1), (-4, 4)]


def test_a_power_shows_small_entries_and_keeps_zero_in_the_middle():
    figure = heat_maps({"root": np.asarray([[4.0, 1.0], [0.0, -4.0]])}, gamma=0.5)
    norm = shown(figure)["root"].images[0].norm
    np.testing.assert_allclose(norm([-4, -1, 0, 1, 4]), [0, 0.25, 0.5, 0.75, 1])


def test_layers_have_borders_and_names(rng):
    fisher = DenseFisher(np.eye(6), ("first", "second"), (4, 2))
    figure = heat_maps({"named": fisher, "plain": np.eye(6)}, borders=(1, 2, 3))
    named, plain = shown(figure).values()
    assert [label.get_text() for label in named.get_xticklabels()] == list(fisher[1])
    assert {line.get_ydata()[0] for line in named.lines[::2]} == {3.5}
    assert {line.get_ydata()[0] for line in plain.lines[::2]} == {0.5, 2.5}


def test_pictures_stand_in_rows_of_a_given_length():
    figure = heat_maps(dict.fromkeys("abc", np.eye(2)), columns=2)
    rows = [axis.get_subplotspec().rowspan.start for axis in shown(figure).values()]
    assert rows == [0, 0, 1]


def test_the_style_is_one_that_matplotlib_takes():
    with matplotlib.rc_context(dict(PICTURE_STYLE)):
        assert len(matplotlib.rcParams["axes.prop_cycle"]) == 7


def test_the_irises_are_those_that_others_have():
    datasets = pytest.importorskip("sklearn.datasets")
    batch, theirs = iris(), datasets.load_iris()
    np.testing.assert_allclose(batch.inputs, theirs.data, rtol=1e-15)
    np.testing.assert_array_equal(batch.targets, theirs.target)

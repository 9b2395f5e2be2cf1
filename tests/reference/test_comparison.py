"""Errors of approximations are those that their definitions say."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.errors import NotPositiveDefiniteError
from kfac_core.reference import compare


@pytest.fixture
def pair(rng):
    roots = rng.normal(size=(2, 6, 6))
    truth, other = (root @ root.T for root in roots)
    return truth, other


def test_a_matrix_is_no_error_from_itself(pair, rng):
    truth, _ = pair
    (own,) = compare(
        {"same": truth}, truth, gradient=rng.normal(size=6)
    ).errors.values()
    assert own.frobenius == own.spectral == own.logdet == 0
    np.testing.assert_allclose([own.trace, own.cosine, own.length], 1, rtol=1e-15)


def test_a_multiple_has_the_errors_of_its_factor(pair, rng):
    truth, _ = pair
    found = compare({"double": 2 * truth}, truth, damping=1e-12, gradient=truth[0])
    own = found.errors["double"]
    np.testing.assert_allclose([own.frobenius, own.spectral], 1, rtol=1e-14)
    np.testing.assert_allclose(own.trace, 2, rtol=1e-15)
    np.testing.assert_allclose(own.logdet, 6 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(own.cosine, 1, rtol=1e-10)
    np.testing.assert_allclose(own.length, 0.5, rtol=1e-6)


def test_each_number_is_that_of_its_definition(pair, rng):
    (truth, other), gradient = pair, rng.normal(size=6)
    found = compare({"other": other}, truth, damping=0.1, gradient=gradient)
    shift = 0.1 * np.linalg.norm(truth, 2)
    assert found.damping == pytest.approx(shift)
    damped, right = (m + shift * np.eye(6) for m in (other, truth))
    steps = np.linalg.inv(damped) @ gradient, np.linalg.inv(right) @ gradient
    lengths = [np.linalg.norm(step) for step in steps]
    expected = {
        "frobenius": np.linalg.norm(other - truth) / np.linalg.norm(truth),
        "spectral": np.linalg.norm(other - truth, 2) / np.linalg.norm(truth, 2),
        "trace": np.trace(other) / np.trace(truth),
        "logdet": np.log(np.linalg.det(damped) / np.linalg.det(right)),
        "cosine": steps[0] @ steps[1] / np.prod(lengths),
        "length": lengths[0] / lengths[1],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(
            getattr(found.errors["other"], name), value, rtol=1e-11, err_msg=name
        )


def test_matrices_of_every_library_are_compared(plain_library, pair):
    truth, other = pair
    found = compare(
        {"other": plain_library.asarray(other)}, plain_library.asarray(truth)
    )
    assert found.errors == compare({"other": other}, truth).errors


def test_ekfac_is_nearer_than_kfac_as_the_table_says(rng):
    x, g = rng.normal(size=(300, 3)) ** 3, rng.normal(size=(300, 2)) ** 3
    block = kc.blocks.EigenvalueCorrectedFB(kc.blocks.FullyConnectedKFACBasicFB(3, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, damping=0.1)
    later = block.update_covs(state, x, g, ema_decay=0.0)
    rows = (x[:, :, None] * g[:, None]).reshape(300, -1)
    matrices = {
        "K-FAC": block.full_fisher_block(state),
        "EKFAC": block.full_fisher_block(later),
    }
    found = compare(matrices, rows.T @ rows / 300, borders=(4, 2))
    first, second = found.errors.values()
    assert second.frobenius < first.frobenius
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["Frobenius", "K-FAC", "EKFAC"]
    assert f"{second.frobenius:.4g}" in lines[2]


def test_what_is_not_positive_definite_has_no_steps(pair):
    truth, _ = pair
    with pytest.raises(NotPositiveDefiniteError, match="negative plus the damping"):
        compare({"negative": -truth}, truth)


def test_the_picture_has_a_panel_for_each_matrix_and_difference(pair):
    pytest.importorskip("matplotlib")
    truth, other = pair
    figure = compare({"a": other, "b": truth}, truth, borders=(2, 4)).plot()
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert titles == ["truth", "a", "b", "a - truth", "b - truth"]
    images = [image for axis in figure.axes for image in axis.images]
    limit = max(abs(image.get_array()).max() for image in images[:-1])
    assert images[0].get_clim() == (-limit, limit)
    assert all(len(axis.lines) == 2 for axis in figure.axes if axis.get_title())


def test_a_notebook_draws_the_picture():
    pytest.importorskip("matplotlib")
    figure = compare({"same": np.eye(2)}, np.eye(2)).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")

"""Sums over very many positions of a case keep their digits, as those over rows do.

The bounds are of the sums as they are computed: see `test_long_sums`, and
`kfac_core.statistics.position_sums`.
"""

import math

import numpy as np
import pytest
from test_long_sums import MANY, ROWS, SUMS, UNIT, over

from kfac_backends.runs import ROWS_OF_SUM
from kfac_core.registry import backend_of, load_backend
from kfac_core.statistics import scale_and_shift
from kfac_core.statistics.bias import bias_gradients
from kfac_core.statistics.patches import second_moment
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.position_sums import POSITIONS_OF_RUN, products_over, sum_over

# A run, and then the runs as rows.
PRODUCTS = (
    POSITIONS_OF_RUN
    + (ROWS_OF_SUM + 1) * math.ceil(math.log(MANY / POSITIONS_OF_RUN, ROWS_OF_SUM))
    + 4
)
POINT = Window((1,), (1,), (1,), "VALID")


@pytest.fixture(params=["numpy", "strict", "torch", "compiled", "jax", "jit"])
def way(request):
    """Return a backend, and how its functions are called."""
    name = request.param
    if name == "numpy":
        return load_backend(name), lambda f: f
    if name == "strict":
        strict = pytest.importorskip("array_api_strict")
        return backend_of(strict.ones(1)), lambda f: f
    if name in {"jax", "jit"}:
        jax = request.getfixturevalue("jax")
        return load_backend("jax"), jax.jit if name == "jit" else lambda f: f
    torch = request.getfixturevalue("torch")
    torch._dynamo.reset()
    options = {"fullgraph": True, "backend": "aot_eager"}
    compiled = name == "compiled"
    return load_backend("torch"), (
        (lambda f: torch.compile(f, **options)) if compiled else lambda f: f
    )


SUMMED = {
    "last": ((2, 3, MANY), (2,)),
    "middle": ((2, MANY, 3), (1,)),
    "alone": ((1, MANY), (1,)),
    "two": ((1, 501, 800, 2), (1, 2)),
    "apart": ((1, 501, 2, 800), (1, 3)),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", SUMMED)
def test_sums(way, rng, name, kind):
    backend, compiled = way
    shape, axes = SUMMED[name]
    x = ROWS[kind](rng, shape).astype(np.float32)
    found = compiled(lambda x: sum_over(backend, x, axes))(backend.from_numpy(x))
    wide = x.astype(float)
    assert over(backend, found, wide.sum(axes), abs(wide).sum(axes), SUMS) <= 1


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("shapes", [((2, MANY, 1), (2, MANY, 3)), ((MANY, 2),) * 2])
def test_products(way, rng, shapes, kind):
    backend, compiled = way
    a, b = (ROWS[kind](rng, shape).astype(np.float32) for shape in shapes)
    arrays = map(backend.from_numpy, (a, b))
    found = compiled(lambda a, b: products_over(backend, a, b))(*arrays)
    wide = a.astype(float), b.astype(float)
    magnitude = abs(wide[0]).mT @ abs(wide[1])
    assert over(backend, found, wide[0].mT @ wide[1], magnitude, PRODUCTS) <= 1


@pytest.mark.parametrize(
    "positions", [1, POSITIONS_OF_RUN, POSITIONS_OF_RUN + 1, 3 * POSITIONS_OF_RUN + 5]
)
def test_no_position_is_left_out(way, positions):
    backend, compiled = way
    # Small integers: every order gives the same.
    x = (np.arange(4 * positions).reshape(2, positions, 2) % 5).astype(np.float32)
    given = backend.from_numpy(x)
    found = compiled(lambda x: sum_over(backend, x, (1,)))(given)
    np.testing.assert_array_equal(backend.to_numpy(found), x.sum(1))
    found = compiled(lambda x: products_over(backend, x, x[..., :1]))(given)
    np.testing.assert_array_equal(backend.to_numpy(found), x.mT @ x[..., :1])


def test_added_one_after_the_other_they_would_lose_digits():
    # What the bounds exclude; NumPy adds so along an axis that is not the last.
    x = np.full((2, MANY, 3), 0.7, np.float32)
    for terms, roundings in ((x, SUMS), (x * x, PRODUCTS)):
        in_turn = np.cumsum(terms, axis=1, dtype=np.float32)[:, -1]
        exact = terms.astype(float).sum(1)
        assert (abs(in_turn / exact - 1) > 4 * roundings * UNIT).all()


def test_gradients_of_cases_with_many_positions(way, rng):
    """A bias, a scale and a shift, and a filter."""
    backend, compiled = way
    x, g = (ROWS["normal"](rng, (1, MANY, 2)).astype(np.float32) for _ in range(2))
    wide = x.astype(float), g.astype(float)
    sums, magnitudes = wide[1].sum(1), abs(wide[1]).sum(1)
    products = (wide[0] * wide[1]).sum(1), abs(wide[0] * wide[1]).sum(1)
    outer = wide[0].mT @ wide[1], abs(wide[0]).mT @ abs(wide[1])
    cases = {
        "bias": (
            lambda x, g: bias_gradients(backend, g, (2,), "layer"),
            sums,
            magnitudes,
            SUMS,
        ),
        "scale and shift": (
            lambda x, g: scale_and_shift.scale_and_shift_gradients(
                backend, x, g, (1,), (1,)
            ),
            np.concatenate([products[0], sums], axis=1),
            np.concatenate([products[1], magnitudes], axis=1),
            SUMS + 1,
        ),
        "filter": (
            lambda x, g: second_moment.filter_gradients(
                backend, x, g, POINT, has_bias=True
            ),
            np.concatenate([outer[0], sums[:, None]], axis=1),
            np.concatenate([outer[1], magnitudes[:, None]], axis=1),
            max(PRODUCTS, SUMS),
        ),
    }
    arrays = backend.from_numpy(x), backend.from_numpy(g)
    for name, (function, exact, magnitude, roundings) in cases.items():
        found = compiled(function)(*arrays)
        assert over(backend, found, exact, magnitude, roundings) <= 1, name

"""The sum over lags, against exact fractions, and its limits."""

from fractions import Fraction

import numpy as np
import pytest

from kfac_core.linalg.series import lag_sum
from kfac_core.registry import backend_of

NEAR = [2.0**-k for k in (1, 2, 5, 10, 20, 40, 52)]
POINTS = [0.0, 1.0, -1.0, *(1 - e for e in NEAR), *(e - 1 for e in NEAR), *NEAR, 0.3]


def exact(x, uses):
    x = Fraction(float(x))
    return uses + 2 * sum((uses - d) * x**d for d in range(1, uses))


def relative_error(found, wanted):
    return float(abs(Fraction(float(found)) - wanted) / wanted) if wanted else found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("uses", [1, 2, 3, 35])
def test_the_sum_is_exact_to_rounding(plain_library, dtype, uses, rng):
    library = plain_library
    points = np.asarray([*POINTS, *rng.uniform(-1, 1, 30)], dtype)
    x = library.asarray(points)
    found = library.to_numpy(lag_sum(backend_of(x), x, x[0] + uses))
    errors = [
        relative_error(y, exact(p, uses)) for p, y in zip(points, found, strict=True)
    ]
    assert max(errors) <= 10 * np.finfo(dtype).eps
    assert np.all(found >= 0)


def test_the_plain_closed_form_is_not():
    x, uses = 1 - 1e-7, 10
    plain = (uses * (1 - x**2) - 2 * x * (1 - x**uses)) / (1 - x) ** 2
    assert relative_error(plain, exact(x, uses)) > 1e-5


def test_of_a_series_without_end_each_use_has_all_lags():
    x, uses = np.asarray([-0.9, -0.5, 0.0, 0.5, 0.9]), np.asarray(1e14)
    found = lag_sum(backend_of(x), x, uses) / uses
    np.testing.assert_allclose(found, (1 + x) / (1 - x), rtol=1e-11)


def test_a_mean_number_of_uses_lies_between_whole_ones():
    x = np.asarray([-1.0, -0.8, 0.4, 0.9, 1.0])
    low, mean, high = (
        lag_sum(backend_of(x), x, np.asarray(t)) for t in (4.0, 4.5, 5.0)
    )
    assert np.all((low < mean) & (mean < high))

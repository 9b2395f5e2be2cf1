"""Every backend fulfils the contract, and the contract notices when one does not."""

from types import SimpleNamespace

import numpy as np
import pytest

from kfac_backends.array_api import ArrayAPIBackend
from kfac_backends.numpy import NumPyBackend
from kfac_core.testing import CONTRACT, Candidate, check_backend
from kfac_core.testing.contract import STEPS

QUICK = [check for check in CONTRACT if check not in STEPS]
"""All but the steps of blocks and models, which `test_steps.py` takes."""


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_backend_fulfils_the_contract(candidate, check):
    check(candidate)


def test_float64_is_checked_unless_it_is_refused(request, candidate):
    expected = ["float32", "float64"]
    if "without-x64" in request.node.name:
        expected = ["float32"]
    assert list(candidate.floats()) == expected


class Broken(NumPyBackend):
    """A correct backend but for one method, which each case replaces."""


def half_precision(self, a):
    half = a.astype(np.float16).astype(a.dtype)
    return half.T @ half


def one_triangle(self, a):
    return np.tril(a.T @ a)


def in_place(self, a):
    result = np.array(a.T @ a)
    a.flags.writeable = True
    a *= 0
    return result


def duplicates_dropped(self, size, indices, weights):
    total = np.zeros(size, weights.dtype)
    total[indices] += weights
    return total


def by_lu(self, factor):
    return np.linalg.inv(factor @ factor.T)


def one_triangle_added(self, alpha, a, beta, c):
    product = alpha * (a.T @ a)
    return np.tril(product) + np.triu(product, 1) * (1 + 1e-6) + beta * c


def weights_swapped(self, a, x, b, y):
    return b * x + a * y


def into_its_argument(self, a, damping):
    a.flags.writeable = True
    np.fill_diagonal(a, a.diagonal() + damping)
    return a


def by_the_sum(self, x):
    with np.errstate(all="ignore"):
        return np.isfinite(x.sum())


def from_the_upper_triangle(self, a):
    return np.linalg.cholesky(a, upper=True).T


def raising(self, a):
    return np.linalg.cholesky(a)


def past_a_wrong_pivot(self, a):
    lower = np.tril(np.ones_like(a))
    return lower if np.isfinite(a).all() else np.full_like(a, np.nan)


def partly_finite(self, a):
    return tuple(np.linalg.eigh(a))


def descending(self, a):
    values, vectors = np.linalg.eigh(a)
    return values[::-1], vectors[:, ::-1]


def in_float64(self, a):
    return np.linalg.cholesky(a.astype(np.float64))


def not_transposed(self, factor, b, *, transpose=False):
    return np.linalg.solve(factor, b)


def without_keyword(self, factor, b):
    return np.linalg.solve(factor, b)


def a_view(self, x):
    return x


def always_traced(self, x):
    return True


def on_one_to_two(self, key, shape, dtype, device):
    return 1 + key.random(shape, dtype=dtype)


def without_key(self, key, shape, dtype, device):
    return np.random.default_rng().standard_normal(shape, dtype=dtype)


def all_taken_for_good(self, stack, dampings):
    inverses, _ = NumPyBackend.damped_inverses(self, stack, dampings)
    return inverses, np.ones(len(stack), bool)


DEFECTS = [
    ("gram", half_precision, "gram_is_accurate"),
    ("gram", one_triangle, "gram_is_symmetric"),
    ("gram", in_place, "leaves_arguments_alone"),
    ("syrk", one_triangle_added, "syrk_is_symmetric"),
    ("axpby", weights_swapped, "sums_are_exact"),
    ("damp", into_its_argument, "leaves_arguments_alone"),
    ("is_finite", by_the_sum, "is_finite_sees_every_entry"),
    ("known_finite", lambda self, x: True, "is_finite_sees_every_entry"),
    ("telling_entries", lambda self, a: a[:1, :1], "telling_entries_tell"),
    ("buffer", lambda self, shape, like: np.empty(shape), "keeps_dtype_and_device"),
    ("known_number", lambda self, x: np.float32(1.0), "numbers_have_values"),
    ("scalar", lambda self, value, like: np.asarray(value), "numbers_have_values"),
    ("are_alike", lambda self, arrays: True, "numbers_have_values"),
    (
        "damped_inverse",
        lambda self, a, damping: np.linalg.inv(a),
        "inverse_is_accurate",
    ),
    ("in_precision", lambda self, precision: None, "precisions_are_backends"),
    ("scatter_add", duplicates_dropped, "scatter_add_sums_by_index"),
    ("damped_inverses", all_taken_for_good, "inverses_of_a_stack_are_of_each"),
    ("cholesky_inverse", by_lu, "inverse_is_accurate"),
    ("cholesky", from_the_upper_triangle, "cholesky_is_accurate"),
    ("cholesky", raising, "failed_cholesky_is_nan"),
    ("cholesky", in_float64, "keeps_dtype_and_device"),
    ("cholesky", past_a_wrong_pivot, "failed_cholesky_is_nan"),
    ("eigh", partly_finite, "eigh_of_nan_is_nan"),
    ("eigh", descending, "eigh_is_accurate"),
    ("solve_triangular", not_transposed, "solutions_are_accurate"),
    ("solve_triangular", without_keyword, "follows_the_protocol"),
    ("from_numpy", lambda self, x, device=None: x, "survives_the_round_trip"),
    ("to_numpy", a_view, "survives_the_round_trip"),
    ("is_traced", always_traced, "arrays_have_values"),
    ("device", lambda self, x: object(), "keeps_dtype_and_device"),
    ("uniform", on_one_to_two, "random_numbers_follow_the_key"),
    ("normal", without_key, "random_numbers_follow_the_key"),
    ("jit", lambda self, function: np.tril, "compiled_functions_agree"),
]


@pytest.mark.parametrize(
    ("name", "method", "check"), DEFECTS, ids=lambda x: getattr(x, "__name__", x)
)
def test_contract_notices_a_defect(name, method, check):
    broken = type("Broken", (Broken,), {name: method})(np, "broken")
    (notices,) = [c for c in CONTRACT if c.__name__ == check]
    with pytest.raises((AssertionError, np.linalg.LinAlgError)):
        notices(Candidate(broken))


def test_an_unregistered_backend_is_not_found_by_its_arrays():
    with pytest.raises(AssertionError, match=r"register it in the entry-point group"):
        check_backend(NumPyBackend(np, "unregistered"))


def test_check_backend_names_every_failure():
    broken = type("Broken", (Broken,), {"gram": one_triangle, "eigh": descending})
    with pytest.raises(AssertionError) as caught:
        check_backend(broken(np, "broken"))
    for line in ("'broken' fails", "gram_is_symmetric", "eigh_is_accurate"):
        assert line in str(caught.value)


@pytest.mark.parametrize("pivot", [0.0, -1.0, np.nan, np.inf, 2.0])
def test_the_fallback_takes_no_wrong_pivot_for_success(pivot):
    """Some libraries return a finite triangle of an indefinite matrix."""
    factor = np.diag([1.0, pivot])
    linalg = SimpleNamespace(
        cholesky=lambda a: factor.copy(), diagonal=np.linalg.diagonal
    )
    library = SimpleNamespace(**{**vars(np), "__name__": "careless", "linalg": linalg})
    found = ArrayAPIBackend(library).cholesky(np.eye(2))
    assert np.array_equal(found, factor if pivot == 2 else np.nan * factor, True)

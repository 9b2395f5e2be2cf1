"""The contract of a backend, as checks that can be run on any backend."""

import dataclasses
from collections.abc import Callable

import numpy as np

from kfac_core.backend import Backend
from kfac_core.testing import (
    arrays,
    conversion,
    factorisations,
    families,
    products,
    random_numbers,
    sums,
    whole_models,
)
from kfac_core.testing.candidate import Candidate
from kfac_core.typing import Device, Key

Check = Callable[[Candidate], None]

STEPS: tuple[Check, ...] = (*families.CHECKS, *whole_models.CHECKS)
"""The checks that take a step of a block or a model, and compare it with NumPy's."""

CONTRACT: tuple[Check, ...] = (
    arrays.follows_the_protocol,
    conversion.survives_the_round_trip,
    arrays.arrays_have_values,
    arrays.numbers_have_values,
    conversion.is_found_by_its_arrays,
    arrays.keeps_dtype_and_device,
    arrays.leaves_arguments_alone,
    arrays.compiled_functions_agree,
    arrays.cond_chooses,
    arrays.vmap_maps,
    random_numbers.random_numbers_follow_the_key,
    random_numbers.split_keys_are_independent,
    products.matmul_is_accurate,
    products.gram_is_accurate,
    products.gram_is_symmetric,
    products.gram_scales_exactly,
    products.scatter_add_sums_by_index,
    sums.sums_are_exact,
    sums.syrk_is_symmetric,
    sums.is_finite_sees_every_entry,
    sums.telling_entries_tell,
    sums.precisions_are_backends,
    factorisations.cholesky_is_accurate,
    factorisations.solutions_are_accurate,
    factorisations.inverse_is_accurate,
    factorisations.eigh_is_accurate,
    factorisations.qr_is_accurate,
    factorisations.failed_cholesky_is_nan,
    factorisations.inverses_of_a_stack_are_of_each,
    factorisations.eigh_of_nan_is_nan,
    *STEPS,
)
"""The checks: each takes a `Candidate` and raises an error that says what is wrong.

With pytest: ``@pytest.mark.parametrize("check", CONTRACT, ids=lambda c: c.__name__)``.
"""


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of the checks of a backend.

    Attributes:
        backend: Name of the backend.
        dtypes: The dtypes that it was checked with.
        passed: Names of the checks, all of which passed.

    Example:
        >>> report = Report("mine", dtypes=("float32",), passed=("shapes", "products"))
        >>> "float64" in report.dtypes, len(report.passed)
        (False, 2)
    """

    backend: str
    dtypes: tuple[str, ...]
    passed: tuple[str, ...]


def check_backend(
    backend: Backend,
    *,
    device: Device = None,
    make_key: Callable[[int], Key] = np.random.default_rng,
) -> Report:
    """Run every check of the contract on a backend.

    Args:
        backend: The backend, registered for the type of its arrays.
        device: Where to put the arrays; the library's default if None.
        make_key: Makes from a seed what the library draws random numbers from.

    Returns:
        What was checked.

    Raises:
        ArgumentError: If `backend` is not a backend, or `make_key` not a function.
        AssertionError: If a check fails; the message names all that do, and why.

    Example:
        >>> from kfac_core.registry import load_backend
        >>> check_backend(load_backend("numpy")).dtypes
        ('float32', 'float64')
    """
    candidate = Candidate(backend, device, make_key)
    failures = []
    for check in CONTRACT:
        try:
            check(candidate)
        # Any error that a backend raises is reported.
        except Exception as error:
            failures.append(f"{check.__name__}: {type(error).__name__}: {error}")
    if failures:
        msg = (
            f"backend {backend.name!r} fails {len(failures)} of {len(CONTRACT)} checks:"
            + "".join(f"\n- {failure}" for failure in failures)
        )
        raise AssertionError(msg)
    passed = tuple(check.__name__ for check in CONTRACT)
    return Report(backend.name, tuple(candidate.floats()), passed)

"""Eigendecompositions that a library did not find are tried once more in float64."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.linalg import psd
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.state import all_finite, is_known_false
from kfac_core.typing import Array, DType

T = TypeVar("T")


class Retrying:
    """A backend whose `eigh` tries a second time, in float64.

    Everything else comes from the backend. It is for use after a failure: it tests each
    eigendecomposition, which waits for the device.

    Attributes:
        failed: Whether one was not found in float64 either.
        cause: What the library raised in float64; None where it raised nothing.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.failed = False
        self.cause: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def eigh(self, a: Array) -> tuple[Array, Array]:
        """Return the eigendecomposition; NaN where neither attempt finds one."""
        backend, xp = self._backend, self._backend.xp
        values, vectors = backend.eigh(a)
        if not self._is_missing(a, values, vectors):
            return values, vectors
        cause = _raised(backend, a)
        wide = float64_of(backend)
        if wide is not None and a.dtype != wide:
            found = backend.eigh(xp.astype(a, wide))
            if not self._is_missing(a, *found):
                values, vectors = (xp.astype(part, a.dtype) for part in found)
                return values, vectors
        self.failed, self.cause = True, cause
        return values, vectors

    def vmap(self, function: Callable[..., T], *stacks: Any) -> T:
        """Go through the members one after the other: each has a value then."""
        every = [function(*each) for each in tree.members(stacks)]
        found: T = tree.stack(self._backend, every)
        return found

    def _is_missing(self, a: Array, *found: Array) -> bool:
        """Return whether nothing was found for a matrix that is finite."""
        backend = self._backend
        if any(map(backend.is_traced, (a, *found))):
            return False
        return bool(backend.is_finite(a)) and not all(
            bool(backend.is_finite(part)) for part in found
        )


def retrying(backend: Backend) -> tuple[Backend, Retrying]:
    """Return a backend that retries, and the object that tells of its failures."""
    again = Retrying(backend)
    return cast(Backend, again), again


def retried_eigendecomposition(
    backend: Backend, matrix: Array
) -> tuple[Eigendecomposition, Retrying | None]:
    """Return the eigendecomposition of a matrix, retried where it fails.

    Args:
        backend: Backend of `matrix`.
        matrix: ``[n, n]``, or a stack of these.

    Returns:
        The eigendecomposition, as in `psd.eigendecomposition`; and the object that
        tells of a failure, None without one.
    """

    def of(backend: Backend) -> Eigendecomposition:
        if matrix.ndim == 2:
            return psd.eigendecomposition(backend, matrix)
        return backend.vmap(lambda m: psd.eigendecomposition(backend, m), matrix)

    return retried(backend, of, matrix)


def retried(
    backend: Backend, compute: Callable[[Backend], T], like: Array
) -> tuple[T, Retrying | None]:
    """Return a result of eigendecompositions, retried where one of them fails.

    Args:
        backend: The backend.
        compute: Takes a backend, and returns arrays: nested tuples of them, or one.
        like: Array on the device of the answer.

    Returns:
        The arrays; and the object that tells of a failure, None without one.
    """
    found = compute(backend)
    if not is_known_false(backend, all_finite(backend, found, like)):
        return found, None
    again, retry = retrying(backend)
    found = compute(again)
    return found, retry if retry.failed else None


def float64_of(backend: Backend) -> DType | None:
    """Return float64; None where the library has none, as JAX without x64."""
    info: Any = backend.xp.__array_namespace_info__()
    known: dict[str, DType] = info.dtypes(kind="real floating")
    return known.get("float64")


def _raised(backend: Backend, a: Array) -> Exception | None:
    """Return the error that the library raises, for which its backend gives NaN."""
    try:
        backend.xp.linalg.eigh(a)
    except Exception as error:  # any: libraries have errors of their own
        return error
    return None

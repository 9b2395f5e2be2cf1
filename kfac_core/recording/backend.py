"""`RecordingBackend`: the backend of recorded arrays, which tells the running tape."""

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.recorded import Recorded, RecordedNumber
from kfac_core.recording.tape import CannotRecordError, Tape, running
from kfac_core.registry import remember

_OF_FORMS = {"finfo", "iinfo", "isdtype", "result_type", "broadcast_shapes"}
"""Functions of the standard whose results are no arrays, and follow from forms."""


class RecordingBackend:
    """Computes with the backend of the running tape, and records each operation.

    Attributes:
        precision: Precision of products.
    """

    array_types = (Recorded, RecordedNumber)
    call = None
    chooses_once = False

    def __init__(self, precision: Any = None) -> None:
        self.precision = precision

    @property
    def real(self) -> Backend:
        """The backend that computes."""
        backend = running.get().backend
        return backend if self.precision is None else self._precise(backend)

    def _precise(self, backend: Backend) -> Backend:
        return backend.in_precision(self.precision)

    @property
    def name(self) -> str:
        """Name of the backend that computes."""
        return self.real.name

    @property
    def xp(self) -> Any:
        """Namespace whose functions are recorded."""
        return _Namespace(running.get(), self.real.xp)

    def check(self, x: Any) -> None:
        """Refuse what is not recorded, as an array that is made elsewhere."""
        if not isinstance(x, Recorded):
            msg = f"a {type(x).__name__} beside recorded arrays"
            raise CannotRecordError(msg)
        self.real.check(_value(x))

    def are_alike(self, arrays: tuple[Any, ...]) -> bool:
        """Return whether all are recorded, and alike."""
        return all(isinstance(x, Recorded) for x in arrays) and self.real.are_alike(
            tuple(map(_value, arrays))
        )

    def device(self, x: Any) -> Any:
        """Return where the array lies."""
        return self.real.device(_value(x))

    def creation_device(self, x: Any) -> Any:
        """Return where to create an array beside it."""
        return self.real.creation_device(_value(x))

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        """Return what the backend does."""
        return self.real.isdtype(dtype, kind)

    def finfo(self, dtype: Any) -> Any:
        """Return what the backend does."""
        return self.real.finfo(dtype)

    def batches(self, x: Any) -> bool:
        """Return what the backend does."""
        return self.real.batches(_value(x))

    def inverts_together(self, x: Any) -> bool:
        """Return whether the backend stacks: otherwise each update is recorded."""
        return self.batches(x)

    def buffer(self, shape: Any, like: Any) -> None:
        """Return None: what is written to an array is not recorded."""

    def chunk_bytes(self, x: Any) -> int | None:
        """Return what the backend does."""
        return self.real.chunk_bytes(_value(x))

    def is_traced(self, x: Any) -> bool:
        """Return False: the run has values."""
        return _known_to_be(False, self.real.is_traced(x.value))

    def has_graph(self, x: Any) -> bool:
        """Return False: no argument has a graph, which every run looks at."""
        return _known_to_be(False, self.real.has_graph(x.value))

    def known_number(self, x: Any) -> Any:
        """Return a recorded number; a boolean itself, which later runs must have."""
        if x.shape:
            return None
        if self.real.known_number(x.value) is None:
            msg = "a number that is not known"
            raise CannotRecordError(msg)
        if x.dtype == self.real.xp.bool:
            return running.get().expect_call(self.real.known_number, x)
        return running.get().number(self.real.known_number, x)

    def known_finite(self, x: Any) -> bool:
        """Return whether the array is seen to be finite, as in every later run."""
        if not x.shape and self.real.known_number(x.value) is not None:
            # A number tells it at less cost, and at none where it is known already.
            return bool(abs(self.known_number(x)) < math.inf)
        found: bool = running.get().expect_call(self.real.known_finite, x)
        return found

    def scalar(self, value: Any, like: Any) -> Any:
        """Record a number in an array."""
        tape = running.get()
        if not isinstance(value, RecordedNumber):
            return tape.call(self.real.scalar, value, like)
        known = value.origin or value
        made = tape.call(self.real.scalar, value.item(), like)
        if known.value.__class__ is self.real.known_number(made.value).__class__:
            tape.is_number(made, known)
        return made

    def stop_gradient(self, x: Any) -> Any:
        """Record it, where it makes an array."""
        found = self.real.stop_gradient(x.value)
        return x if found is x.value else running.get().call(self.real.stop_gradient, x)

    def as_leaf(self, x: Any, like: Any) -> Any:
        """Return the array: nothing has a graph."""
        return x

    def in_precision(self, precision: Any) -> "RecordingBackend":
        """Return the backend whose products have this precision."""
        return RecordingBackend(precision)

    def quiet(self) -> Any:
        """Return the context of the backend that computes."""
        return self.real.quiet()

    def cond(
        self,
        condition: Any,
        then: Callable[[], Any],
        otherwise: Callable[[], Any],
    ) -> Any:
        """Go the way of this run, as every later run must."""
        return then() if bool(condition) else otherwise()

    def vmap(self, function: Callable[..., Any], *stacks: Any) -> Any:
        """Go through the members one after the other, as the standard's backend does.

        Returns:
            The stacked results.

        Raises:
            CannotRecordError: If the backend would map over them at once.
        """
        if any(map(self.batches, tree.leaves(stacks))):
            msg = "a function that is mapped over stacks at once"
            raise CannotRecordError(msg)
        return tree.stack(self, [function(*each) for each in tree.members(stacks)])

    def sum_over(
        self, function: Callable[[Any], Sequence[Any]], x: Any, size: int
    ) -> list[Any]:
        """Take one chunk after the other, as the standard's backend does."""
        cases = x.shape[0]
        total: list[Any] = []
        for start in range(0, cases, size):
            parts = function(x[start : min(start + size, cases), ...])
            pairs = zip(total, parts, strict=True)
            total = [known + part for known, part in pairs] if total else [*parts]
        return total

    def __getattr__(self, name: str) -> Any:
        """Return a function of the protocol that computes arrays, recorded."""
        if name not in _RECORDED:
            if name in _IMPURE:
                msg = f"the function {name} of the backend"
                raise CannotRecordError(msg)
            raise AttributeError(name)
        function, tape = getattr(self.real, name), running.get()
        return lambda *args, **kwargs: tape.call(function, *args, **kwargs)


class _Namespace:
    """A namespace of the standard, whose functions are recorded."""

    def __init__(self, tape: Tape, xp: Any) -> None:
        self._tape, self._xp = tape, xp

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._xp, name)
        if isinstance(found, ModuleType):
            return _Namespace(self._tape, found)
        if name in _OF_FORMS:
            return lambda *args, **kwargs: found(*map(_value, args), **kwargs)
        if isinstance(found, type) or not callable(found):
            return found  # a dtype, or a number
        tape = self._tape

        def recorded(*args: Any, **kwargs: Any) -> Any:
            return tape.call(found, *args, **kwargs)

        return recorded


_RECORDED = {
    *("is_finite", "axpby", "damp", "matmul", "gram", "cross", "sum_of_rows"),
    *("transposed", "syrk", "eigh", "qr", "cholesky", "cholesky_inverse"),
    *("damped_inverse", "solve_triangular", "scatter_add", "diagonal"),
    "telling_entries",
}
_IMPURE = {"split", "uniform", "normal", "to_numpy", "from_numpy", "jit"}


def _value(x: Any) -> Any:
    """Return the array of this run, whose form is then known to have been read."""
    if isinstance(x, Recorded):
        x.recorder.looked_at(x)
        return x.value
    return x


def _known_to_be(expected: bool, found: bool) -> bool:
    if found is not expected:
        msg = "an array without values, or with a graph"
        raise CannotRecordError(msg)
    return expected


_backend: Any = RecordingBackend()
for _type in RecordingBackend.array_types:
    remember(_type, _backend)

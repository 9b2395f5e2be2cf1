"""Checks of the way in and out: NumPy arrays of every layout, and the registry."""

import numpy as np

from kfac_core.registry import backend_of
from kfac_core.testing.candidate import Candidate, require


def survives_the_round_trip(candidate: Candidate) -> None:
    """NumPy arrays of every layout come back as they were, and as copies."""
    backend = candidate.backend
    square = np.arange(12.0).reshape(3, 4)
    for dtype in (*candidate.floats(), "int32", "bool"):
        base = square.astype(dtype)
        for name, values in (
            ("C order", base),
            ("Fortran order", np.asfortranarray(base)),
            ("negative strides", base[::-1, ::-2]),
            ("a stride of zero", np.broadcast_to(base[0], (5, 4))),
            ("no axes", base[1, 1].reshape(())),
            ("no entries", base[:0]),
        ):
            source = values.copy(order="K") if values.flags.writeable else values
            x = backend.from_numpy(values, candidate.device)
            back = backend.to_numpy(x)
            require(
                isinstance(back, np.ndarray)
                and back.dtype == dtype
                and back.shape == values.shape
                and np.array_equal(back, source),
                f"{dtype} of {name}: {values!r} came back as {back!r}",
            )
            back[...] = 0
            require(
                np.array_equal(backend.to_numpy(x), source)
                and np.array_equal(values, source),
                f"{dtype} of {name}: to_numpy returned a view, expected a copy",
            )
        owned = base.copy()
        x = backend.from_numpy(owned, candidate.device)
        owned[...] = 0
        require(
            np.array_equal(backend.to_numpy(x), base),
            f"from_numpy of {dtype} shares memory with its argument, expected a copy",
        )


def is_found_by_its_arrays(candidate: Candidate) -> None:
    """`backend_of` finds the backend, and refuses its arrays beside NumPy's."""
    x = candidate.array(np.ones(3), "float32")
    found = backend_of(x, candidate.array(np.ones(2), "int32"))
    require(
        found is candidate.backend,
        f"backend_of an array of {type(x).__module__} is {found!r}, expected"
        f" {candidate.backend!r}: register it in the entry-point group"
        " 'kfac_core.backends' under the top-level package of its arrays",
    )
    if isinstance(x, np.ndarray):
        return
    try:
        backend_of(x, np.ones(3))
    except TypeError as error:
        message = str(error)
    else:
        message = "no error"
    require(
        candidate.backend.name in message and "numpy" in message,
        f"backend_of arrays of {candidate.backend.name} and numpy gave {message!r},"
        " expected an error that names both",
    )

"""How many digits of a result are right: the same is computed with more digits."""

import math
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for
from kfac_core.arguments.powers import shown
from kfac_core.arguments.scalars import as_scalar
from kfac_core.arguments.sizes import as_size
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.linalg.parameters import tensors_of
from kfac_core.registry import backend_of, load_backend
from kfac_core.typing import Array, Params

LABEL = "digits"
LEAST = 17
"""A number of digits that float64 does not have."""


class Digits(NamedTuple):
    """How many decimal digits of what a block computes are right.

    An array whose largest error is ``10^-d`` of its largest entry has ``d`` right
    digits.

    Attributes:
        fisher: Those of `full_fisher_block`.
        step: Those of `multiply_inverse`; None without a vector.

    Example:
        >>> found = Digits(fisher=15.5, step=11.0)  # a condition of about 10^4.5
        >>> found.fisher - found.step
        4.5
    """

    fisher: float
    step: float | None


def digits(
    spec: FisherBlock[Any],
    data: tuple[Any, ...],
    digits: int = 50,
    *,
    vector: Params | None = None,
    damping: float = 1e-2,
    ema_decay: float = 0.95,
) -> Digits:
    """Return how many digits are right of what a block computes from a batch.

    The block is updated with the batch twice, in the library and the dtype of the data,
    and with mparray's numbers of `digits` digits. The numbers that are given, the
    damping included, are the same in both.

    Args:
        spec: The block.
        data: What its `update_covs` takes, as a tuple: mostly inputs and gradients. The
            arrays may be of any library.
        digits: Number of digits that are taken for the truth, at least 17. The time
            grows with it slowly, and is some microseconds for each multiplication.
        vector: What the inverse is multiplied by, in the form of the layer's parameters
            and of the library of the data; None: nothing.
        damping: Damping of the inverse.
        ema_decay: Decay of the average, with which the second update counts.

    Returns:
        The digits; at most as many as `digits`.

    Raises:
        ArgumentError: If the spec is no block, or there are too few digits.
        BackendError: If mparray is not installed.
        KfacError: What the verbs of the block raise.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> x, g = np.random.default_rng(0).normal(size=(2, 8, 3))
        >>> digits(FullyConnectedKFACBasicFB(3, 3), (x, g)).fisher  # doctest: +SKIP
        15.5
    """
    block: object = spec
    if not isinstance(block, FisherBlock):
        msg = f"{LABEL}: spec is {shown(block)}, expected a Fisher block"
        raise ArgumentError(msg)
    given: object = data
    if not isinstance(given, tuple) or not given:
        msg = (
            f"{LABEL}: data is {shown(given)}, expected a tuple of what update_covs of"
            f" {spec.label} takes"
        )
        raise ArgumentError(msg)
    if as_size(digits, "digits", LABEL) < LEAST:
        msg = f"{LABEL}: digits is {digits}, expected at least {LEAST}"
        raise ArgumentError(msg)
    _check_takes(spec, given)
    like = _first_float(given)
    own = backend_of(like)
    kept = tree.first(spec.init(like=like))
    # Both are given what the dtype makes of these numbers.
    numbers = tuple(
        float(own.to_numpy(as_scalar(own, number, kept, name, LABEL, upper)))
        for name, number, upper in (
            ("damping", damping, math.inf),
            ("ema_decay", ema_decay, 1.0),
        )
    )
    found = _results(spec, data, vector, like, *numbers)
    backend: Any = load_backend("mparray")
    with backend.digits(digits):
        exact = _moved(backend, (data, vector, like))
        truth = _results(spec, *exact, *numbers)
        pairs = zip(found, truth, strict=True)
        right = [_right(backend, _moved(backend, x), y, digits) for x, y in pairs]
    return Digits(right[0], min(right[1:], default=None))


def _results(
    block: Any, data: Any, vector: Any, like: Any, damping: float, decay: float
) -> list[Array]:
    """Return the dense block, and the tensors of the step if there is a vector."""
    state = block.init(like=like)
    for _ in range(2):
        state = block.update_covs(state, *data, ema_decay=decay)
    found = [block.full_fisher_block(state)]
    if vector is not None:
        state = block.update_inverses(state, damping=damping)
        found.extend(tensors_of(block.multiply_inverse(state, vector)))
    return found


def _check_takes(spec: Any, data: tuple[Any, ...]) -> None:
    """Check that `update_covs` takes as many arguments as there are.

    Raises:
        ArgumentError: If it does not.
    """
    try:
        signature(spec.update_covs).bind(None, *data, ema_decay=None)
    except TypeError as error:
        msg = f"{LABEL}: data does not fit update_covs of {spec.label}: {error}"
        raise ArgumentError(msg) from None


def _right(backend: Any, x: Any, truth: Any, most: int) -> float:
    """Return the digits of the largest entry that all entries have right."""
    xp = backend.xp
    error, size = xp.max(xp.abs(x - truth)), xp.max(xp.abs(truth))
    if not bool(error > 0):
        return float(most)
    ratio = xp.log10(error / size) if bool(size > 0) else xp.zeros(())
    return min(float(most), max(0.0, -float(ratio)))


def _moved(backend: Any, part: Any) -> Any:
    """Return a tree with every array as one of `backend`, whose value is the same."""
    if part is None:
        return None
    if isinstance(part, list):
        part = tuple(part)
    if isinstance(part, tuple):
        return tree.map(lambda x: _moved(backend, x), part)
    values = np.asarray(backend_of(part).to_numpy(part))
    if values.dtype.kind not in "biu" and values.dtype not in ("float32", "float64"):
        values = values.astype(np.float32)
    return backend.from_numpy(values)


def _first_float(data: Any) -> Array:
    """Return the first array of floats in the data, or the first of all."""
    arrays = [x for part in data for x in _arrays(part)]
    if not arrays:
        msg = f"{LABEL}: data holds no array"
        raise ArgumentError(msg)
    first: Array = arrays[0]
    for x in arrays:
        backend = backend_for(LABEL, "data", x)
        if backend.isdtype(x.dtype, "real floating"):
            first = x
            break
    return first


def _arrays(part: Any) -> list[Any]:
    if isinstance(part, tuple | list):
        return [x for each in part for x in _arrays(each)]
    return [] if part is None else [part]

"""What a function returns, as the inputs of losses: rows of cases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.loss_functions import LossFunction
from kfac_core.loss_functions.positions import input_arrays, like_inputs

LABEL = "capture"
SITE = "loss"
"""The site of a loss that has no name."""


@dataclass(frozen=True)
class Losses:
    """The losses of what a function returns.

    Attributes:
        functions: Pairs of a site and the loss of what is there.
        is_named: Whether the function returns a dictionary by these names.
        case_axes: How many leading axes count the cases; None: all but the last.
    """

    functions: tuple[tuple[str, LossFunction], ...]
    is_named: bool
    case_axes: int | None

    def named(self, outputs: Any) -> dict[str, Any]:
        """Return the inputs of each loss, by site, in the axes of the function.

        Raises:
            ArgumentError: If the function returns nothing for a loss.
        """
        if not self.is_named:
            return {SITE: outputs}
        sites = [site for site, _ in self.functions]
        if not isinstance(outputs, Mapping) or set(outputs) != set(sites):
            got = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs)
            msg = (
                f"{LABEL}: loss has the names {sites}, but the function returns {got};"
                " return a dictionary of what goes into each loss, by its name"
            )
            raise ArgumentError(msg)
        return {site: outputs[site] for site in sites}

    def cases(self, outputs: Any) -> int:
        """Return the number of cases.

        Raises:
            ShapeError: If an output has no axis for them, or two disagree.
        """
        counts: dict[str, int] = {}
        for site, inputs in self.named(outputs).items():
            for array in _arrays(site, inputs):
                counts[site] = math.prod(array.shape[: self._leading(site, array)])
        if len(set(counts.values())) > 1:
            msg = (
                f"{LABEL}: the losses have {counts} cases, expected as many each; give"
                " case_axes=1, if the first axis counts them"
            )
            raise ShapeError(msg)
        return next(iter(counts.values()))

    def case_shape(self, outputs: Any) -> tuple[int, ...]:
        """Return the sizes of the axes that count the cases.

        One axis for all, if two losses have unlike axes.
        """
        shapes = {
            tuple(array.shape[: self._leading(site, array)])
            for site, inputs in self.named(outputs).items()
            for array in _arrays(site, inputs)
        }
        return shapes.pop() if len(shapes) == 1 else (self.cases(outputs),)

    def flat(self, outputs: Any) -> dict[str, Any]:
        """Return the inputs of each loss, ``[cases, ..., n]``."""
        return {
            site: like_inputs(
                inputs,
                [self._joined(site, array, array) for array in _arrays(site, inputs)],
            )
            for site, inputs in self.named(outputs).items()
        }

    def masked(self, vectors: Any, mask: Any) -> Any:
        """Return vectors of the structure of what the function returns, zero for some.

        Args:
            vectors: The vectors.
            mask: Which cases are left, of the shape that `case_shape` returns.
        """
        shaped = {}
        for site, inputs in self.named(vectors).items():
            parts = []
            for x in _arrays(site, inputs):
                count = self._leading(site, x)
                kept = mask.reshape(*x.shape[:count], *[1] * (x.ndim - count))
                parts.append(x * kept.astype(x.dtype))
            shaped[site] = like_inputs(inputs, parts)
        return shaped if self.is_named else shaped[SITE]

    def like_outputs(self, vectors: Mapping[str, Any], outputs: Any) -> Any:
        """Return vectors of the shapes of `flat` in those of the function.

        Args:
            vectors: By site.
            outputs: What the function returned.
        """
        shaped = {}
        for site, inputs in self.named(outputs).items():
            parts = zip(input_arrays(vectors[site]), _arrays(site, inputs), strict=True)
            shaped[site] = like_inputs(
                inputs, [jnp.reshape(v, x.shape).astype(x.dtype) for v, x in parts]
            )
        return shaped if self.is_named else shaped[SITE]

    def targets(self, targets: Any, outputs: Any) -> dict[str, Any]:
        """Return the targets of each loss, ``[cases, ...]``; none of None.

        Raises:
            ArgumentError: If there are none for a loss.
        """
        if targets is None:
            return {}
        own = targets if self.is_named else {SITE: targets}
        flat = {}
        for site, inputs in self.named(outputs).items():
            if site not in own:
                msg = f"{LABEL}: targets has nothing for the loss {site!r}"
                raise ArgumentError(msg)
            given = jnp.asarray(own[site])
            flat[site] = self._joined(site, given, _arrays(site, inputs)[0])
        return flat

    def weights(self, weights: Any, outputs: Any) -> dict[str, Any]:
        """Return weights of positions, ``[cases, ...]``, by loss; none of None."""
        if weights is None:
            return {}
        own = weights if self.is_named else {SITE: weights}
        return {
            site: self._joined(site, jnp.asarray(own[site]), _arrays(site, inputs)[0])
            for site, inputs in self.named(outputs).items()
            if site in own
        }

    def _leading(self, site: str, array: Any) -> int:
        count = len(array.shape) - 1 if self.case_axes is None else self.case_axes
        if not 1 <= count < len(array.shape):
            msg = (
                f"{LABEL}: what goes into {site!r} has shape {tuple(array.shape)} and"
                f" case_axes is {self.case_axes}, expected [batch, ..., n] with axes of"
                " cases before the last; let the function return what goes into the"
                " loss, and numbers of cases with an axis of their own, x[:, None]"
            )
            raise ShapeError(msg)
        return count

    def _joined(self, site: str, array: Any, like: Any) -> Any:
        count = self._leading(site, like)
        return array.reshape(math.prod(like.shape[:count]), *array.shape[count:])


def losses_of(loss: object, case_axes: int | None) -> Losses:
    """Return the losses that a user gives.

    Raises:
        ArgumentError: If there is none, or `case_axes` is no count.
    """
    named: dict[Any, Any] = dict(loss) if isinstance(loss, Mapping) else {SITE: loss}
    if not named or not all(isinstance(own, LossFunction) for own in named.values()):
        msg = (
            f"{LABEL}: loss is {loss!r}, expected one of kfac_core.losses, or a"
            " dictionary of these by the names of what the function returns"
        )
        raise ArgumentError(msg)
    if case_axes is not None and (isinstance(case_axes, bool) or case_axes < 1):
        msg = f"{LABEL}: case_axes is {case_axes!r}, expected a positive count, or None"
        raise ArgumentError(msg)
    return Losses(tuple(named.items()), isinstance(loss, Mapping), case_axes)


def _arrays(site: str, inputs: Any) -> tuple[Any, ...]:
    arrays = input_arrays(inputs)
    for array in arrays:
        if not hasattr(array, "shape"):
            msg = (
                f"{LABEL}: the function returns a {type(array).__name__} for {site!r},"
                " expected an array, or a tuple of arrays; let it return what goes into"
                " the loss, and nothing else"
            )
            raise ArgumentError(msg)
    return tuple(arrays)

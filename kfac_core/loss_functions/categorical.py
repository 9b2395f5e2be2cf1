"""One of several labels, by logits: softmax cross-entropy."""

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import NamedTuple, Self

from kfac_core.arguments.arrays import backend_for, check_indices, check_shape
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError
from kfac_core.loss_functions.natural import NaturalParamsNegativeLogProbLoss
from kfac_core.loss_functions.validity import roundoff
from kfac_core.typing import Array, LossInputs


class _Softmax(NamedTuple):
    """Probabilities of labels; the most likely is kept apart, so that nothing cancels.

    Attributes:
        p: ``[..., n]``.
        of_others: ``1 - p``.
        is_top: Whether a label is the most likely one, or the first of several.
    """

    p: Array
    of_others: Array
    is_top: Array


@dataclass(frozen=True)
class OnehotCategoricalLogitsNegativeLogProbLoss(NaturalParamsNegativeLogProbLoss):
    """Classification by logits ``[batch, ..., n]``: ``p = softmax(logits)``.

    Targets are one-hot, ``[batch, ..., n]``, or probabilities of the labels, which are
    not negative and sum to one, up to rounding. Invalid targets are refused where they
    have values; within a trace, value and gradient of their positions are NaN. ``F =
    diag(p) - p p'`` and ``B = (I - p 1') diag(sqrt(p))``. Nothing cancels where a label
    is nearly certain: there ``F`` and the gradient keep their digits.

    Example:
        >>> import numpy as np
        >>> loss = OnehotCategoricalLogitsNegativeLogProbLoss()
        >>> logits = np.log(np.asarray([[0.25, 0.75]]))
        >>> loss.gradient(logits, np.asarray([[1, 0]]))
        array([[-0.75,  0.75]])
        >>> loss.multiply_fisher(logits, np.asarray([[1.0, 0.0]]))
        array([[ 0.1875, -0.1875]])
    """

    input_names = ("logits",)
    expected_targets = "distributions: one-hot, or not negative and of the sum 1"

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the logits without its last axis."""
        return self.fisher_factor_inner_shape(inputs)[:-1]

    def _valid_inputs(self, backend: Backend, inputs: Array) -> Array:
        # A label of probability zero has a logit of minus infinity; not all can.
        xp = backend.xp
        some = xp.any(xp.isfinite(inputs), axis=-1, keepdims=True)
        return (inputs < math.inf) & some

    def _valid_targets(
        self, backend: Backend, given: Array, targets: Array, inputs: Array
    ) -> Array:
        xp = backend.xp
        # The sum has n rounded numbers, whose errors have either sign.
        slack = roundoff(backend, given) * max(8.0, math.sqrt(inputs.shape[-1]))
        positive = xp.all(targets >= -slack, axis=-1, keepdims=True)
        excess = xp.sum(targets, axis=-1, keepdims=True) - 1
        return positive & (xp.abs(excess) <= slack)

    def _losses(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        xp = backend.xp
        is_top = _is_top(backend, inputs)
        zero = xp.zeros_like(inputs)
        top = xp.sum(xp.where(is_top, inputs, zero), axis=-1, keepdims=True)
        below = top - inputs
        others = xp.where(is_top, zero, xp.exp(-below))
        normaliser = xp.log1p(xp.sum(others, axis=-1, keepdims=True))
        # A label of probability zero (a logit of minus infinity) may have weight zero.
        distance = xp.where(targets > 0, below + normaliser, zero)
        return xp.sum(targets * distance, axis=-1)

    def _gradient(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        softmax = _softmax(backend, inputs)
        other_targets = backend.xp.sum(targets, axis=-1, keepdims=True) - targets
        return softmax.p * other_targets - softmax.of_others * targets

    def _fisher(self, backend: Backend, inputs: Array, vector: Array) -> Array:
        softmax = _softmax(backend, inputs)
        return softmax.p * _centred(backend, softmax, vector)

    def _fisher_factor(self, backend: Backend, inputs: Array, inner: Array) -> Array:
        xp = backend.xp
        p, of_others, is_top = _softmax(backend, inputs)
        q = xp.sqrt(p)
        # B u = q (u - q (q'u)), in which the term of the top label nearly cancels.
        products = q * inner
        total = xp.sum(products, axis=-1, keepdims=True)
        rest = xp.where(is_top, xp.zeros_like(products), products)
        others = xp.sum(rest, axis=-1, keepdims=True)
        return q * xp.where(is_top, of_others * inner - q * others, inner - q * total)

    def _fisher_factor_transpose(
        self, backend: Backend, inputs: Array, vector: Array
    ) -> Array:
        softmax = _softmax(backend, inputs)
        return backend.xp.sqrt(softmax.p) * _centred(backend, softmax, vector)

    def _sample_from(self, backend: Backend, noise: Array, inputs: Array) -> Array:
        xp = backend.xp
        labels = _labels_from(backend, noise, inputs, -1)
        one_hot = xp.astype(_one_hot(backend, labels, inputs), inputs.dtype)
        if not backend.is_traced(one_hot):
            return one_hot
        nowhere = (labels < 0)[..., None]
        return xp.where(nowhere, xp.full_like(one_hot, math.nan), one_hot)


@dataclass(frozen=True)
class CategoricalLogitsNegativeLogProbLoss(OnehotCategoricalLogitsNegativeLogProbLoss):
    """Classification by logits, with labels for targets: integers ``[batch, ...]``.

    Otherwise it is `OnehotCategoricalLogitsNegativeLogProbLoss`. Labels out of range
    are refused where they have values; within a trace, value and gradient of their
    positions are NaN. A label that is drawn within a trace from logits that are NaN is
    negative.

    Attributes:
        ignore_index: The target of positions that do not count, such as -100 in other
            libraries, or None. `evaluate`, `gradient`, `half_gradient` and
            `multiply_hessian` give such a position the weight zero, as a mask does. The
            products with a Fisher take no targets: give them the mask that `mask_for`
            makes from the targets. An estimator, an optimiser and the products of a
            whole model do so themselves. A mean still divides by all cases.

    Example:
        >>> import numpy as np
        >>> loss = CategoricalLogitsNegativeLogProbLoss()
        >>> logits = np.log(np.asarray([[0.25, 0.75], [0.5, 0.5]]))
        >>> round(float(loss.evaluate(logits, np.asarray([0, 1]))), 6)  # log 4 + log 2
        2.079442
        >>> loss.gradient(logits, np.asarray([0, 1]))
        array([[-0.75,  0.75],
               [ 0.5 , -0.5 ]])

        A padded position has no effect:

        >>> mask = np.asarray([True, False])
        >>> round(float(loss.evaluate(logits, np.asarray([0, -1]), mask)), 6)
        1.386294

        And so has one whose label is to be ignored:

        >>> loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=-100)
        >>> round(float(loss.evaluate(logits, np.asarray([0, -100]))), 6)
        1.386294
        >>> loss.mask_for(np.asarray([0, -100]))
        array([ True, False])
    """

    ignore_index: int | None = None

    expected_targets = "labels, from 0 to one less than there are"

    def __post_init__(self) -> None:
        """Check the label to ignore.

        Raises:
            ArgumentError: If the label is neither None nor an integer of 32 bits.
        """
        index: object = self.ignore_index
        if index is None:
            return
        is_integer = isinstance(index, Integral) and not isinstance(index, bool)
        if not is_integer or not -(2**31) <= int(index) < 2**31:  # type: ignore[call-overload]
            msg = (
                f"{self.label}: ignore_index is {index!r}, expected None or an integer"
                " of 32 bits"
            )
            raise ArgumentError(msg)

    def targets_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the logits without its last axis."""
        return self.noise_shape(inputs)

    def mask_for(self, targets: Array, mask: Array | None = None) -> Array | None:
        """Return a mask, zero also where the target is the one to be ignored.

        Args:
            targets: Labels ``[batch, ...]``.
            mask: Weights of the positions, ``[batch, ...]``, or None.

        Returns:
            Weights of the positions, or booleans if `mask` is None; None if no label is
            to be ignored.

        Raises:
            DTypeError: If the labels are not integers, and one is to be ignored.
            ShapeError: If the mask has another shape, and a label is to be ignored.
        """
        if self.ignore_index is None:
            return super().mask_for(targets, mask)
        given = [] if mask is None else [mask]
        xp = backend_for(self.label, "targets, mask", targets, *given).xp
        if not xp.isdtype(targets.dtype, "integral"):
            msg = f"{self.label}: targets has dtype {targets.dtype}, expected integers"
            raise DTypeError(msg)
        # The dtype must hold the number: labels may have eight bits.
        default = xp.__array_namespace_info__().default_dtypes()["integral"]
        wide = xp.astype(targets, default)
        counts = xp.not_equal(wide, xp.full_like(wide, int(self.ignore_index)))
        if mask is None:
            return counts
        check_shape(mask, tuple(targets.shape), "mask", self.label)
        masked: Array = xp.where(counts, mask, xp.zeros_like(mask))
        return masked

    def counting_all(self) -> Self:
        """Return the loss that ignores no target, for targets drawn from the model."""
        if self.ignore_index is None:
            return self
        return replace(self, ignore_index=None).called(self.label)

    def _as_targets(self, backend: Backend, targets: Array, inputs: Array) -> Array:
        check_indices(backend, targets, inputs.shape[-1], "targets", self.label)
        return backend.xp.astype(_one_hot(backend, targets, inputs), inputs.dtype)

    def _valid_targets(
        self, backend: Backend, given: Array, targets: Array, inputs: Array
    ) -> Array:
        # Labels with values are checked; a one-hot vector without a one has no label.
        if not backend.is_traced(targets):
            return backend.xp.ones_like(given, dtype=backend.xp.bool)[..., None]
        return backend.xp.max(targets, axis=-1, keepdims=True) > 0

    def _sample_from(self, backend: Backend, noise: Array, inputs: Array) -> Array:
        # An invalid label, which is not the one to ignore either.
        return _labels_from(
            backend, noise, inputs, -2 if self.ignore_index == -1 else -1
        )


def _one_hot(backend: Backend, labels: Array, logits: Array) -> Array:
    """Return booleans ``[..., n]``: True at each label."""
    xp = backend.xp
    device = backend.creation_device(logits)
    places = xp.arange(logits.shape[-1], device=device)
    return xp.equal(xp.astype(labels, places.dtype)[..., None], places)


def _is_top(backend: Backend, logits: Array) -> Array:
    return _one_hot(backend, backend.xp.argmax(logits, axis=-1), logits)


def _softmax(backend: Backend, logits: Array) -> _Softmax:
    xp = backend.xp
    weights = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    p = weights / xp.sum(weights, axis=-1, keepdims=True)
    is_top = _is_top(backend, logits)
    rest = xp.sum(xp.where(is_top, xp.zeros_like(p), p), axis=-1, keepdims=True)
    return _Softmax(p, xp.where(is_top, rest, 1 - p), is_top)


def _centred(backend: Backend, softmax: _Softmax, vector: Array) -> Array:
    """Return ``v - p'v``, from the differences to the top label's entry."""
    xp = backend.xp
    entry = xp.where(softmax.is_top, vector, xp.zeros_like(vector))
    relative = vector - xp.sum(entry, axis=-1, keepdims=True)
    return relative - xp.sum(softmax.p * relative, axis=-1, keepdims=True)


def _labels_from(backend: Backend, noise: Array, logits: Array, unknown: int) -> Array:
    """Return labels by the inverse of the distribution function.

    A label is the number of labels whose cumulative probability is at most the noise;
    where probabilities are NaN within a trace, it is `unknown`.
    """
    xp = backend.xp
    cumulative = xp.cumulative_sum(_softmax(backend, logits).p, axis=-1)
    # The last sum is one, except for rounding, and must not count.
    passed = noise[..., None] * cumulative[..., -1:] >= cumulative[..., :-1]
    labels = xp.sum(xp.astype(passed, xp.int32), axis=-1)
    if not backend.is_traced(labels):
        return labels
    known = cumulative[..., -1] > 0
    return xp.where(known, labels, xp.full_like(labels, unknown))

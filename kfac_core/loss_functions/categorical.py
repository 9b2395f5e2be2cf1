"""One of several labels, by logits: softmax cross-entropy."""

from dataclasses import dataclass
from typing import NamedTuple

from kfac_core.arguments import check_indices
from kfac_core.backend import Backend
from kfac_core.loss_functions.natural import NaturalParamsNegativeLogProbLoss
from kfac_core.typing import Array, LossInputs


class _Softmax(NamedTuple):
    """Probabilities of labels; a most likely one is set apart, so nothing cancels.

    Attributes:
        p: ``[..., n]``.
        of_others: ``1 - p``.
        is_top: Whether a label is the most likely one; of equal ones, the first.
    """

    p: Array
    of_others: Array
    is_top: Array


@dataclass(frozen=True)
class OnehotCategoricalLogitsNegativeLogProbLoss(NaturalParamsNegativeLogProbLoss):
    """Classification by logits ``[batch, ..., n]``: ``p = softmax(logits)``.

    Targets are one-hot, ``[batch, ..., n]``, or weights of the labels that sum to one.
    ``F = diag(p) - p p'`` and ``B = (I - p 1') diag(sqrt(p))``. Nothing cancels where a
    label is nearly certain: there ``F`` and the gradient keep their digits.

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

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the logits without its last axis."""
        return self.fisher_factor_inner_shape(inputs)[:-1]

    def _losses(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        xp = backend.xp
        is_top = _is_top(backend, inputs)
        zero = xp.zeros_like(inputs)
        top = xp.sum(xp.where(is_top, inputs, zero), axis=-1, keepdims=True)
        below = top - inputs
        others = xp.where(is_top, zero, xp.exp(-below))
        normaliser = xp.log1p(xp.sum(others, axis=-1, keepdims=True))
        # A label without probability (a logit of minus infinity) may have no weight.
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
        labels = _labels_from(backend, noise, inputs)
        one_hot = _one_hot(backend, labels, inputs)
        return backend.xp.astype(one_hot, inputs.dtype)


@dataclass(frozen=True)
class CategoricalLogitsNegativeLogProbLoss(OnehotCategoricalLogitsNegativeLogProbLoss):
    """Classification by logits, with labels for targets: integers ``[batch, ...]``.

    As `OnehotCategoricalLogitsNegativeLogProbLoss` otherwise.

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
    """

    def targets_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the logits without its last axis."""
        return self.noise_shape(inputs)

    def _as_targets(self, backend: Backend, targets: Array, inputs: Array) -> Array:
        check_indices(backend, targets, inputs.shape[-1], "targets", self.label)
        return backend.xp.astype(_one_hot(backend, targets, inputs), inputs.dtype)

    def _sample_from(self, backend: Backend, noise: Array, inputs: Array) -> Array:
        return _labels_from(backend, noise, inputs)


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


def _labels_from(backend: Backend, noise: Array, logits: Array) -> Array:
    """Return labels by the inverse of the distribution function.

    A label is the number of labels up to which the probabilities sum to no more than
    the noise.
    """
    xp = backend.xp
    cumulative = xp.cumulative_sum(_softmax(backend, logits).p, axis=-1)
    # The last sum is one but for rounding: what it is lacks no label.
    passed = noise[..., None] * cumulative[..., -1:] >= cumulative[..., :-1]
    return xp.sum(xp.astype(passed, xp.int32), axis=-1)

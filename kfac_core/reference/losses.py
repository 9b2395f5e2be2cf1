"""Losses: negative log-likelihoods, summed over cases.

The Fisher information of a case, for the outputs ``f`` of the network, is

    E[g g'] = sum_c d_c d_c',    g the gradient, targets drawn from the model;

the directions ``d_c``, ``[batch, outputs]`` each, take its place in what
back-propagates a gradient, and make that exact: one source for each direction.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from kfac_core.arguments import check_indices, check_shape
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Key


@dataclass(frozen=True)
class Loss(ABC):
    """Abstract base of the losses; outputs of the network are ``[batch, outputs]``."""

    @abstractmethod
    def evaluate(self, outputs: Array, targets: Array) -> Array:
        """Return the negative log-likelihood of all targets, 0-d."""

    @abstractmethod
    def gradient(self, outputs: Array, targets: Array) -> Array:
        """Return each case's gradient for its outputs, ``[batch, outputs]``."""

    @abstractmethod
    def sample(self, key: Key, outputs: Array, num_samples: int | None = None) -> Array:
        """Draw targets from the model.

        Args:
            key: What the array library draws from.
            outputs: ``[batch, outputs]``.
            num_samples: Number of targets for each case; None: one.

        Returns:
            Targets, with a first axis for the samples if their number is given.
        """

    @abstractmethod
    def sample_from(self, noise: Array, outputs: Array) -> Array:
        """Return targets made of noise: deterministic, with `sample` its law."""

    @abstractmethod
    def fisher(self, outputs: Array) -> Array:
        """Return each case's Fisher for its outputs, ``[batch, outputs, outputs]``."""

    @abstractmethod
    def fisher_directions(self, outputs: Array) -> tuple[Array, ...]:
        """Return directions ``[batch, outputs]`` whose outer products sum to `fisher`.

        As sources of a block they are one tower each:
        ``tuple((g,) for g in directions)``, after back-propagation.
        """


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Classification by logits; targets are labels, integers ``[batch]``.

    Example:
        >>> import numpy as np
        >>> loss = SoftmaxCrossEntropy()
        >>> logits = np.log(np.asarray([[0.25, 0.75]]))
        >>> loss.evaluate(logits, np.asarray([0])) == np.log(4)
        np.True_
        >>> loss.gradient(logits, np.asarray([0]))
        array([[-0.75,  0.75]])
        >>> loss.fisher(logits)[0]
        array([[ 0.1875, -0.1875],
               [-0.1875,  0.1875]])
    """

    def evaluate(self, outputs: Array, targets: Array) -> Array:
        """Return ``sum_n log sum_c exp f[n, c] - f[n, target]``, 0-d."""
        backend = self._backend(outputs, targets)
        xp = backend.xp
        top = xp.max(outputs, axis=-1, keepdims=True)
        shifted = outputs - top
        normaliser = xp.log(xp.sum(xp.exp(shifted), axis=-1))
        hit = _one_hot(backend, targets, outputs)
        return xp.sum(normaliser) - xp.sum(shifted * hit)

    def gradient(self, outputs: Array, targets: Array) -> Array:
        """Return ``p - e_target``."""
        backend = self._backend(outputs, targets)
        p = self.probabilities(outputs)
        hit = _one_hot(backend, targets, outputs) > 0
        return backend.xp.where(hit, -_of_others(backend, p), p)

    def probabilities(self, outputs: Array) -> Array:
        """Return the softmax of each row."""
        xp = backend_of(outputs).xp
        weights = xp.exp(outputs - xp.max(outputs, axis=-1, keepdims=True))
        return weights / xp.sum(weights, axis=-1, keepdims=True)

    def sample(self, key: Key, outputs: Array, num_samples: int | None = None) -> Array:
        """Draw labels ``[batch]``, or ``[num_samples, batch]``; see `Loss.sample`."""
        backend = backend_of(outputs)
        shape = _samples_shape(num_samples, (outputs.shape[0],))
        device = backend.creation_device(outputs)
        uniforms = backend.uniform(key, shape, outputs.dtype, device)
        return self.sample_from(uniforms, outputs)

    def sample_from(self, noise: Array, outputs: Array) -> Array:
        """Return labels by the inverse of the distribution function.

        Args:
            noise: Uniform on [0, 1), ``[batch]`` or ``[num_samples, batch]``.
            outputs: ``[batch, outputs]``.

        Returns:
            The labels, of the shape of the noise: the number of labels up to which
            the probabilities sum to no more than the noise.
        """
        xp = backend_of(noise, outputs).xp
        cumulative = xp.cumulative_sum(self.probabilities(outputs), axis=-1)
        # The last sum is one but for rounding, and beyond it there is no label.
        passed = noise[..., None] >= cumulative[:, :-1]
        return xp.sum(xp.astype(passed, xp.int32), axis=-1)

    def fisher(self, outputs: Array) -> Array:
        """Return ``diag(p) - p p'``."""
        backend = backend_of(outputs)
        p = self.probabilities(outputs)
        diagonal = _eye(backend, outputs) > 0
        others = _of_others(backend, p)[:, None, :]
        return p[:, :, None] * backend.xp.where(diagonal, others, -p[:, None, :])

    def fisher_directions(self, outputs: Array) -> tuple[Array, ...]:
        """Return ``sqrt(p_c) (p - e_c)`` for each label ``c``."""
        backend = backend_of(outputs)
        xp = backend.xp
        p = self.probabilities(outputs)
        roots, others = xp.sqrt(p), _of_others(backend, p)
        eye = _eye(backend, outputs) > 0
        return tuple(
            roots[:, c : c + 1] * xp.where(eye[c, :], -others, p)
            for c in range(outputs.shape[-1])
        )

    def _backend(self, outputs: Array, targets: Array) -> Backend:
        check_shape(outputs, ("batch", "outputs"), "outputs", type(self).__name__)
        check_shape(targets, (outputs.shape[0],), "targets", type(self).__name__)
        backend = backend_of(outputs, targets)
        check_indices(
            backend, targets, outputs.shape[1], "targets", type(self).__name__
        )
        return backend


@dataclass(frozen=True)
class Gaussian(Loss):
    """Regression with normal noise; targets are real, ``[batch, outputs]``.

    Attributes:
        variance: Of the noise, known and the same for every output.

    Example:
        >>> import numpy as np
        >>> loss = Gaussian(variance=0.5)
        >>> outputs, targets = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]])
        >>> loss.gradient(outputs, targets)
        array([[ 2., -4.]])
        >>> round(float(loss.evaluate(outputs, targets)), 6)  # 5 + log(pi)
        6.14473
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        """Check the variance.

        Raises:
            ArgumentError: If it is not positive.
        """
        if not 0 < self.variance < math.inf:
            msg = f"Gaussian: variance is {self.variance}, expected a positive number"
            raise ArgumentError(msg)

    def evaluate(self, outputs: Array, targets: Array) -> Array:
        """Return ``|f - t|^2 / (2 variance)`` and the normaliser, summed, 0-d."""
        residual = self._residual(outputs, targets)
        squares = backend_of(residual).xp.sum(residual * residual)
        normaliser = math.prod(outputs.shape) * math.log(2 * math.pi * self.variance)
        return (squares / self.variance + normaliser) / 2

    def gradient(self, outputs: Array, targets: Array) -> Array:
        """Return ``(f - t) / variance``."""
        return self._residual(outputs, targets) / self.variance

    def sample(self, key: Key, outputs: Array, num_samples: int | None = None) -> Array:
        """Draw ``[batch, outputs]``, or ``[num_samples, ..]``; see `Loss.sample`."""
        backend = backend_of(outputs)
        shape = _samples_shape(num_samples, tuple(outputs.shape))
        device = backend.creation_device(outputs)
        return self.sample_from(
            backend.normal(key, shape, outputs.dtype, device), outputs
        )

    def sample_from(self, noise: Array, outputs: Array) -> Array:
        """Return ``f + sqrt(variance) noise`` for standard normal noise."""
        return outputs + noise * math.sqrt(self.variance)

    def fisher(self, outputs: Array) -> Array:
        """Return ``I / variance`` for each case."""
        backend = backend_of(outputs)
        shape = (outputs.shape[0], outputs.shape[1], outputs.shape[1])
        eye = _eye(backend, outputs) / self.variance
        return backend.xp.broadcast_to(eye, shape)

    def fisher_directions(self, outputs: Array) -> tuple[Array, ...]:
        """Return ``e_k / sqrt(variance)`` for each output ``k``."""
        backend = backend_of(outputs)
        eye = _eye(backend, outputs) / math.sqrt(self.variance)
        return tuple(
            backend.xp.broadcast_to(eye[k, :], outputs.shape)
            for k in range(outputs.shape[-1])
        )

    def _residual(self, outputs: Array, targets: Array) -> Array:
        check_shape(outputs, ("batch", "outputs"), "outputs", "Gaussian")
        check_shape(targets, tuple(outputs.shape), "targets", "Gaussian")
        backend_of(outputs, targets)
        return outputs - targets


def _samples_shape(num_samples: int | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if num_samples is None else (num_samples, *shape)


def _eye(backend: Backend, outputs: Array) -> Array:
    device = backend.creation_device(outputs)
    eye: Array = backend.xp.eye(outputs.shape[-1], dtype=outputs.dtype, device=device)
    return eye


def _of_others(backend: Backend, p: Array) -> Array:
    """Return ``1 - p``, summed of the others: exact to the last digit near zero."""
    return p @ (1 - _eye(backend, p))


def _one_hot(backend: Backend, targets: Array, outputs: Array) -> Array:
    """Return ``[batch, outputs]``: one at each target."""
    xp = backend.xp
    device = backend.creation_device(outputs)
    labels = xp.arange(outputs.shape[-1], dtype=targets.dtype, device=device)
    hits = xp.equal(targets[:, None], labels[None, :])
    return xp.astype(hits, outputs.dtype)

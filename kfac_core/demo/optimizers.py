"""Three optimisers as pure functions: SGD with momentum, Adam, and K-FAC.

Each is a frozen spec with ``init`` and ``step``; a state is a tuple of arrays. Small on
purpose: what matters is how little K-FAC needs beyond a block for each layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from kfac_core.fisher_blocks import KroneckerProductFB, KroneckerState
from kfac_core.linalg.parameters import tensors_of
from kfac_core.reference import (
    Forward,
    NetworkParams,
    Sequential,
    SoftmaxCrossEntropy,
    block_for,
)
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Scalar


class Batch(NamedTuple):
    """What a step sees.

    Attributes:
        x: Images, ``[batch, 8, 8, 1]``.
        y: Labels, ``[batch]``.
        noise: Uniform on [0, 1), ``[batch]``: what labels are drawn from the model by.
    """

    x: Array
    y: Array
    noise: Array


class Optimizer(Protocol):
    """A way to train a network for classification."""

    @property
    def name(self) -> str:
        """Name for tables."""

    @property
    def setting(self) -> str:
        """Name of the setting that is tried on a grid."""

    @property
    def grid(self) -> tuple[float, ...]:
        """The values that are tried."""

    def init(self, params: NetworkParams) -> Any:
        """Return the state before the first step."""

    def step(
        self, state: Any, params: NetworkParams, batch: Batch, setting: Scalar
    ) -> tuple[Any, NetworkParams]:
        """Return the state and the parameters after a step."""


def zipped(function: Callable[..., Array], *params: NetworkParams) -> NetworkParams:
    """Apply a function of arrays to all tensors of parameters."""
    return tuple(
        tuple(function(*tensors) for tensors in zip(*layers, strict=True))
        for layers in zip(*params, strict=True)
    )


def mean_gradient(
    network: Sequential, params: NetworkParams, forward: Forward, labels: Array
) -> NetworkParams:
    """Return the gradient of the mean loss."""
    g = SoftmaxCrossEntropy().gradient(forward.outputs, labels)
    summed = network.backward(params, forward, g).param_gradients
    return zipped(lambda t: t / labels.shape[0], summed)


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum: ``v = momentum v + gradient``.

    Attributes:
        network: What to train.
        momentum: In [0, 1).
        name: Name for tables.
        setting: What is tried on a grid.
        grid: The values that are tried.
    """

    network: Sequential
    momentum: float = 0.9
    name: str = "SGD with momentum"
    setting: str = "learning rate"
    grid: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)

    def init(self, params: NetworkParams) -> NetworkParams:
        """Return a velocity of zero."""
        return zipped(lambda p: p * 0, params)

    def step(
        self,
        state: NetworkParams,
        params: NetworkParams,
        batch: Batch,
        learning_rate: Scalar,
    ) -> tuple[NetworkParams, NetworkParams]:
        """Return the velocity and the parameters after a step."""
        forward = self.network.forward(params, batch.x)
        gradient = mean_gradient(self.network, params, forward, batch.y)
        velocity = zipped(lambda v, g: self.momentum * v + g, state, gradient)
        return velocity, zipped(lambda p, v: p - learning_rate * v, params, velocity)


class AdamState(NamedTuple):
    """Moving averages of the gradient and its square, and their debiasing."""

    mean: NetworkParams
    square: NetworkParams
    decay1: Array
    decay2: Array


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1).

    Attributes:
        network: What to train.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        epsilon: Added to the root of the latter.
        name: Name for tables.
        setting: What is tried on a grid.
        grid: The values that are tried.
    """

    network: Sequential
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    name: str = "Adam"
    setting: str = "learning rate"
    grid: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)

    def init(self, params: NetworkParams) -> AdamState:
        """Return averages of nothing."""
        zero = zipped(lambda p: p * 0, params)
        xp = backend_of(params[0][0]).xp
        one = xp.sum(zero[0][0]) + 1
        return AdamState(zero, zero, one, one)

    def step(
        self,
        state: AdamState,
        params: NetworkParams,
        batch: Batch,
        learning_rate: Scalar,
    ) -> tuple[AdamState, NetworkParams]:
        """Return the averages and the parameters after a step."""
        b1, b2 = self.beta1, self.beta2
        forward = self.network.forward(params, batch.x)
        gradient = mean_gradient(self.network, params, forward, batch.y)
        xp = backend_of(gradient[0][0]).xp
        new = AdamState(
            zipped(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradient),
            zipped(lambda s, g: b2 * s + (1 - b2) * g * g, state.square, gradient),
            state.decay1 * b1,
            state.decay2 * b2,
        )

        def update(p: Array, m: Array, s: Array) -> Array:
            root = xp.sqrt(s / (1 - new.decay2)) + self.epsilon
            return p - learning_rate * (m / (1 - new.decay1)) / root

        return new, zipped(update, params, new.mean, new.square)


class KFACState(NamedTuple):
    """States of the blocks, and a velocity."""

    blocks: tuple[KroneckerState, ...]
    velocity: NetworkParams


@dataclass(frozen=True)
class KFAC:
    """K-FAC with momentum, and a bound on how far a step may go.

    In each step, labels are drawn from the model, and their gradients update the
    statistics of every layer's block (Martens & Grosse, 2015, section 5). The inverses
    follow, the step is ``inverse Fisher times gradient`` for each layer, with momentum,
    and scaled down if it would change the predictions by more than `norm_constraint`
    (Ba et al., 2017, section 5).

    Attributes:
        network: What to train.
        learning_rate: Of the step that the inverse gives.
        momentum: In [0, 1).
        ema_decay: Of the statistics.
        norm_constraint: Largest squared Fisher norm of a step.
        name: Name for tables.
        setting: What is tried on a grid: what is added to the Fisher.
        grid: The values that are tried.
    """

    network: Sequential
    learning_rate: float = 0.1
    momentum: float = 0.9
    ema_decay: float = 0.95
    norm_constraint: float = 1e-3
    name: str = "K-FAC"
    setting: str = "damping"
    grid: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)

    @property
    def blocks(self) -> tuple[KroneckerProductFB, ...]:
        """The block of each layer with parameters."""
        return tuple(block_for(layer) for layer in self.network.param_layers)

    def init(self, params: NetworkParams) -> KFACState:
        """Return statistics of nothing, and a velocity of zero."""
        return KFACState(
            tuple(
                block.init(like=layer[0])
                for block, layer in zip(self.blocks, params, strict=True)
            ),
            zipped(lambda p: p * 0, params),
        )

    def step(
        self,
        state: KFACState,
        params: NetworkParams,
        batch: Batch,
        damping: Scalar,
    ) -> tuple[KFACState, NetworkParams]:
        """Return the state and the parameters after a step."""
        loss = SoftmaxCrossEntropy()
        forward = self.network.forward(params, batch.x)
        labels = loss.sample_from(batch.noise, forward.outputs)
        sampled = self.network.output_gradients(
            params, forward, loss.gradient(forward.outputs, labels)
        )
        gradient = mean_gradient(self.network, params, forward, batch.y)

        blocks, steps = [], []
        for block, old, x, g, wanted in zip(
            self.blocks, state.blocks, forward.inputs, sampled, gradient, strict=True
        ):
            new = block.update_covs(old, x, g, ema_decay=self.ema_decay)
            new = block.update_inverses(new, damping)
            blocks.append(new)
            steps.append(tensors_of(block.multiply_inverse(new, wanted)))
        direction = tuple(steps)

        scale = self._scale(direction, gradient)
        velocity = zipped(
            lambda v, d: self.momentum * v + scale * d, state.velocity, direction
        )
        moved = zipped(lambda p, v: p - self.learning_rate * v, params, velocity)
        return KFACState(tuple(blocks), velocity), moved

    def _scale(self, direction: NetworkParams, gradient: NetworkParams) -> Array:
        """Return what a step is multiplied by to obey the norm constraint."""
        xp = backend_of(gradient[0][0]).xp
        products = zipped(lambda d, g: xp.sum(d * g), direction, gradient)
        total = xp.sum(xp.stack([p for layer in products for p in layer]))
        norm = total * self.learning_rate**2
        limit = xp.full_like(norm, self.norm_constraint)
        return xp.sqrt(limit / xp.maximum(norm, limit))

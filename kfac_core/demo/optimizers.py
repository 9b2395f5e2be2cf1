"""Three ways to train as pure functions: SGD with momentum, Adam, and K-FAC.

Each is a frozen spec with ``init`` and ``step``; a state is a tuple of arrays,
parameters are a dictionary. SGD and Adam are written out, K-FAC is
`kfac_core.KfacOptimizer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from kfac_core.arguments.arrays import backend_for
from kfac_core.demo.given import (
    as_setting,
    check_by_name,
    check_is,
    check_spec,
    check_words,
    checked_step,
)
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import map_named
from kfac_core.linearization import NamedParams
from kfac_core.optimizer import KfacOptimizer, KfacState
from kfac_core.reference import Batch, SequentialModel
from kfac_core.reference.linearization import LOSS_SITE
from kfac_core.registered_losses import mean_gradient
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Scalar

Params: TypeAlias = dict[str, Array]
"""The parameters of the network, by name."""


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

    def init(self, params: NamedParams, setting: float) -> Any:
        """Return the state before the first step."""

    def step(
        self,
        state: Any,
        params: NamedParams,
        batch: Batch,
        noise: Array,
        setting: Scalar,
    ) -> tuple[Any, Params]:
        """Return the state and the parameters after a step.

        Args:
            state: The state.
            params: The parameters.
            batch: Images and labels.
            noise: Uniform on [0, 1), one number an image: what labels are drawn from
                the model by.
            setting: The value of the setting.
        """

    def stats(self, state: Any) -> Mapping[str, Array]:
        """Return numbers of a state to be kept after each epoch, by name."""


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum: ``v = momentum v + gradient``.

    Attributes:
        model: What to train.
        collection: Where its loss is registered.
        momentum: In [0, 1).
        name: Name for tables.
        setting: What is tried on a grid.
        grid: The values that are tried.
    """

    model: SequentialModel
    collection: LayerCollection
    momentum: float = 0.9
    name: str = "SGD with momentum"
    setting: str = "learning rate"
    grid: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ArgumentError: If one is none that could be.
        """
        check_spec(self)
        as_setting(self.momentum, "momentum", upper=1.0)

    def init(self, params: NamedParams, learning_rate: float) -> Params:
        """Return a velocity of zero."""
        check_by_name(self.collection, params, "params")
        as_setting(learning_rate, "learning_rate")
        return map_named(lambda p: p * 0, params)

    def step(
        self,
        state: Params,
        params: NamedParams,
        batch: Batch,
        noise: Array,
        learning_rate: Scalar,
    ) -> tuple[Params, Params]:
        """Return the velocity and the parameters after a step."""
        rate = checked_step(self.collection, [state], params, noise, learning_rate)
        gradient = mean_gradient(self.collection, self.model.linearize(params, batch))
        velocity = map_named(lambda v, g: self.momentum * v + g, state, gradient)
        return velocity, map_named(lambda p, v: p - rate * v, params, velocity)

    def stats(self, state: Params) -> Mapping[str, Array]:
        """Return nothing."""
        check_by_name(self.collection, state, "state")
        return {}


class AdamState(NamedTuple):
    """Moving averages of the gradient and its square, and their debiasing."""

    mean: Params
    square: Params
    decay1: Array
    decay2: Array


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1).

    Attributes:
        model: What to train.
        collection: Where its loss is registered.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        epsilon: Added to the root of the latter.
        name: Name for tables.
        setting: What is tried on a grid.
        grid: The values that are tried.
    """

    model: SequentialModel
    collection: LayerCollection
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    name: str = "Adam"
    setting: str = "learning rate"
    grid: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ArgumentError: If one is none that could be.
        """
        check_spec(self)
        as_setting(self.beta1, "beta1", upper=1.0)
        as_setting(self.beta2, "beta2", upper=1.0)
        as_setting(self.epsilon, "epsilon")

    def init(self, params: NamedParams, learning_rate: float) -> AdamState:
        """Return averages of nothing."""
        check_by_name(self.collection, params, "params")
        as_setting(learning_rate, "learning_rate")
        zero = map_named(lambda p: p * 0, params)
        first = next(iter(zero.values()))
        one = backend_of(first).xp.sum(first) + 1
        return AdamState(zero, zero, one, one)

    def step(
        self,
        state: AdamState,
        params: NamedParams,
        batch: Batch,
        noise: Array,
        learning_rate: Scalar,
    ) -> tuple[AdamState, Params]:
        """Return the averages and the parameters after a step."""
        self._check_state(state)
        averages = (state.mean, state.square)
        rate = checked_step(self.collection, averages, params, noise, learning_rate)
        b1, b2 = self.beta1, self.beta2
        gradient = mean_gradient(self.collection, self.model.linearize(params, batch))
        xp = backend_of(*gradient.values()).xp
        new = AdamState(
            map_named(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradient),
            map_named(lambda s, g: b2 * s + (1 - b2) * g * g, state.square, gradient),
            state.decay1 * b1,
            state.decay2 * b2,
        )

        def update(p: Array, m: Array, s: Array) -> Array:
            root = xp.sqrt(s / (1 - new.decay2)) + self.epsilon
            return p - rate * (m / (1 - new.decay1)) / root

        return new, map_named(update, params, new.mean, new.square)

    def stats(self, state: AdamState) -> Mapping[str, Array]:
        """Return nothing."""
        self._check_state(state)
        return {}

    def _check_state(self, state: AdamState) -> None:
        given: object = state
        check_is(isinstance(given, AdamState), state, "state", "that of `init`")


@dataclass(frozen=True)
class KFAC:
    """K-FAC: `kfac_core.KfacOptimizer`, the statistics from labels of the model.

    Attributes:
        optimizer: What does the work. Where it adapts its damping, the setting is the
            damping at first.
        name: Name for tables.
        setting: What is tried on a grid: what is added to the Fisher.
        grid: The values that are tried.
    """

    optimizer: KfacOptimizer[Batch]
    name: str
    setting: str
    grid: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ArgumentError: If one is none that could be.
        """
        given: object = self.optimizer
        fits = isinstance(given, KfacOptimizer)
        check_is(fits, given, "optimizer", "a KfacOptimizer")
        check_words(self)

    @classmethod
    def tuned(cls, model: SequentialModel, collection: LayerCollection) -> "KFAC":
        """Return one with a learning rate, momentum, and a bound on the step.

        The curvature changes slowly: with statistics and inverses at every eighth step
        alone, as few steps suffice, and most cost little more than those of Adam.
        """
        optimizer = KfacOptimizer(
            model,
            collection,
            learning_rate=0.1,
            momentum=0.9,
            momentum_type="regular",
            norm_constraint=5e-4,
            damping=0.03,
            cov_update_every=8,
            invert_every=8,
        )
        return cls(optimizer, "K-FAC", "damping", (0.003, 0.01, 0.03, 0.1))

    @classmethod
    def adaptive(cls, model: SequentialModel, collection: LayerCollection) -> "KFAC":
        """Return one that finds learning rate, momentum and damping by itself."""
        optimizer = KfacOptimizer(
            model, collection, momentum_type="qmodel", damping=0.1, adapt_damping=True
        )
        return cls(optimizer, "K-FAC, adaptive", "damping", (0.1, 1.0))

    def init(self, params: NamedParams, damping: float) -> KfacState:
        """Return the state of the optimiser, with this damping."""
        state = self.optimizer.init(params)
        number = as_setting(damping, "damping")
        return state._replace(damping=state.damping * 0 + number)

    def step(
        self,
        state: KfacState,
        params: NamedParams,
        batch: Batch,
        noise: Array,
        damping: Scalar,
    ) -> tuple[KfacState, Params]:
        """Return the state and the parameters after a step."""
        self.optimizer.estimator.check_vector(params, "params")
        backend_for("demo", "params, noise", next(iter(params.values())), noise)
        state, moved, _ = self.optimizer.step(
            state, params, batch, noise={LOSS_SITE: noise[None, ...]}
        )
        return state, moved

    def stats(self, state: KfacState) -> Mapping[str, Array]:
        """Return the damping and the last reduction ratio."""
        given: object = state
        check_is(isinstance(given, KfacState), state, "state", "that of `init`")
        return {"damping": state.damping, "rho": state.rho}

"""`Curvature`: the curvature of a captured function, beside any optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.linearized import Linearized
from kfac_adapters.jax.places import AxisName, check_alike, folded, names_of
from kfac_adapters.jax.shared_inverses import check_sharing, inverted
from kfac_core.arguments.sizes import as_size
from kfac_core.errors import ArgumentError
from kfac_core.estimator import EstimationMode, EstimatorState, FisherEstimator
from kfac_core.linalg.named import inner
from kfac_core.optimizer.update_rules import bounded
from kfac_core.registry import load_backend
from kfac_core.typing import Scalar

LABEL = "Curvature"


class CurvatureState(NamedTuple):
    """State of a `Curvature`.

    Attributes:
        count: 0-d integer, the number of calls of `Curvature.update_curvature`.
        estimator: Statistics and inverses.
    """

    count: Any
    estimator: EstimatorState


@dataclass(frozen=True, eq=False)
class Curvature:
    """Estimates and inverts the Fisher of a captured function; all verbs are pure.

    They are for `jax.jit`, with the state donated if one likes. Nothing is recompiled
    when a damping or a rate changes.

    Attributes:
        captured: What `kfac_adapters.jax.capture` returned.
        damping: Times the identity, added to the curvature; positive.
        ema_decay: What the weights of earlier batches are multiplied by.
        estimation_mode: ``"gradients"``, of targets drawn from the model;
            ``"empirical"``, of those of the data; or another of
            `kfac_core.estimator.sources`.
        num_samples: Number of samples of a mode that draws.
        cov_update_every: After how many calls the statistics are updated.
        statistics_share: Share of a batch's cases that they are made of; 1: all.
        invert_every: After how many calls the inverses are computed.
        norm_constraint: The largest ``learning_rate^2 g' inv(F) g`` of a step; what is
            longer is shortened. None: no limit.
        learning_rate: That of the constraint, where a call gives none.
        axis_name: Within `jax.shard_map`, `jax.pmap` or `jax.vmap`, the name of the
            axis over which the batch is mapped, or a tuple of names: statistics are
            summed over it. Parameters, state and gradients are the same at all places.
        share_inverses: Whether each place along these axes computes the inverses of
            some layers, and sends them to all, or all compute all. Under `jax.jit`, the
            mesh whose devices do so.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import kfac_core as kc
        >>> from kfac_adapters.jax import Curvature, capture
        >>> params, x = {"w": jnp.zeros((4, 3))}, jnp.eye(4)
        >>> captured = capture(
        ...     lambda params, x: x @ params["w"],
        ...     params,
        ...     x,
        ...     loss=kc.losses.CategoricalLogitsNegativeLogProbLoss(),
        ... )
        >>> curvature = Curvature(captured, damping=0.1)
        >>> state = curvature.init(params)
        >>> update = jax.jit(curvature.update_curvature)
        >>> state = update(state, params, (x,), key=jax.random.key(0))
        >>> jax.jit(curvature.precondition)(state, params)["w"].shape
        (4, 3)
    """

    captured: Captured
    damping: Scalar = 1e-2
    ema_decay: Scalar = 0.95
    estimation_mode: EstimationMode = "gradients"
    num_samples: int = 1
    cov_update_every: int = 1
    statistics_share: float = 1.0
    invert_every: int = 10
    norm_constraint: Scalar | None = None
    learning_rate: Scalar = 1.0
    axis_name: AxisName | None = None
    share_inverses: bool | Mesh = False

    estimator: FisherEstimator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the estimator.

        Raises:
            ArgumentError: If an option is of another form.
        """
        captured: object = self.captured
        if not isinstance(captured, Captured):
            msg = (
                f"{LABEL}: captured is a {type(captured).__name__}, expected what"
                " kfac_adapters.jax.capture returns"
            )
            raise ArgumentError(msg)
        for name in ("cov_update_every", "invert_every"):
            as_size(getattr(self, name), name, LABEL)
        check_sharing(self.share_inverses, names_of(self.axis_name, LABEL), LABEL)
        estimator = FisherEstimator(
            self.captured.collection,
            self.estimation_mode,
            self.num_samples,
            statistics_share=self.statistics_share,
        )
        object.__setattr__(self, "estimator", estimator)

    def init(self, params: Any) -> CurvatureState:
        """Return the state before any data.

        Args:
            params: The parameters, which give dtypes and devices.

        Raises:
            ArgumentError: If they are not those that were captured.
        """
        named = self.captured.named(params)
        return CurvatureState(jnp.zeros((), jnp.int32), self.estimator.init(named))

    def update_curvature(
        self,
        state: CurvatureState,
        params: Any,
        inputs: Sequence[Any],
        *,
        key: Any = None,
        targets: Any = None,
        weights: Any = None,
        damping: Scalar | None = None,
    ) -> CurvatureState:
        """Fold a batch into the statistics, and compute inverses, where they are due.

        Args:
            state: The state; left as it is.
            params: The parameters.
            inputs: The arguments of the function after these.
            key: What is drawn from; needed where the mode is random.
            targets: Targets of the data, for the mode ``"empirical"``, and for a
                loss that ignores some.
            weights: How much each position of the loss counts, in the axes of the
                targets: zero for padding; a dictionary, if the losses have names.
            damping: For this call; None: that of the specification.

        Returns:
            The new state. If data are not finite it keeps its statistics, and
            ``state.estimator.ok`` is False under a trace.

        Raises:
            ArgumentError: If there is no key where one is needed, or the function does
                other than when it was captured.
            KfacError: What the estimator raises.
        """
        if not isinstance(inputs, tuple | list):
            msg = (
                f"{LABEL}: inputs is a {type(inputs).__name__}, expected a tuple of the"
                " arguments of the function after its parameters, such as (x,)"
            )
            raise ArgumentError(msg)
        needs_key = self.estimator.needs_randomness
        if needs_key and key is None:
            msg = (
                f"{LABEL}: the mode {self.estimation_mode!r} draws targets; give"
                " key=jax.random.key(...), another one at each step"
            )
            raise ArgumentError(msg)
        own_key = key if needs_key else None
        level = self.damping if damping is None else damping
        names = names_of(self.axis_name, LABEL)
        if names:
            advice = "give them to shard_map with the spec PartitionSpec()"
            check_alike(params, "params", advice)
            check_alike(state, "state", advice)

        def statistics(old: EstimatorState) -> EstimatorState:
            at = Linearized(
                self.captured, params, inputs, targets, weights, axis_names=names
            )
            if names:
                decay = self.ema_decay
                return folded(self.estimator, old, at, decay, own_key, names)
            return self.estimator.update_covs(old, at, self.ema_decay, key=own_key)

        def inverses(old: EstimatorState) -> EstimatorState:
            return inverted(self.estimator, old, level, self.share_inverses, names)

        new = _where_due(state, self.cov_update_every, statistics)
        new = _where_due(new, self.invert_every, inverses)
        return new._replace(count=state.count + 1)

    def precondition(
        self,
        state: CurvatureState,
        gradients: Any,
        *,
        learning_rate: Scalar | None = None,
        params: Any = None,
    ) -> Any:
        """Return the inverse of the damped curvature, times gradients.

        Args:
            state: The state, after `update_curvature`.
            gradients: Gradients of the mean loss, in the structure of the parameters.
            learning_rate: What the result will be multiplied by, for the norm
                constraint; None: that of the specification.
            params: The parameters; needed where the function makes weights of a length
                and a direction.

        Returns:
            What to step against, of the structure and dtypes of the gradients. Leaves
            in no layer are as they were, or zero if they are ignored.

        Raises:
            ArgumentError: If the gradients are not of the parameters.
            NotComputedError: If there are no inverses yet.
        """
        if self.axis_name is not None:
            check_alike(
                gradients,
                "gradients",
                "differentiate jax.lax.pmean(loss, axis_name), the mean of all",
            )
        named = self.captured.named_gradients(gradients, params)
        product = self.estimator.multiply_inverse(state.estimator, named)
        if self.norm_constraint is not None:
            rate = self.learning_rate if learning_rate is None else learning_rate
            backend = load_backend("jax")
            norm = rate**2 * inner(backend, product, named)
            coefficient = bounded(backend, norm, self.norm_constraint)
            product = {name: x * coefficient for name, x in product.items()}
        leaves, tree = jax.tree.flatten(gradients)
        for index, step in self.captured.stepped(product, params).items():
            leaves[index] = step.astype(jnp.result_type(leaves[index]))
        frozen = self.captured.frozen
        return jax.tree.unflatten(
            tree,
            [jnp.zeros_like(x) if i in frozen else x for i, x in enumerate(leaves)],
        )


def _where_due(state: CurvatureState, every: int, update: Any) -> CurvatureState:
    """Return a state updated at each call, or where the clock says so."""
    if every == 1:
        return state._replace(estimator=update(state.estimator))
    is_due = state.count % every == 0
    new = jax.lax.cond(is_due, update, lambda old: old, state.estimator)
    return state._replace(estimator=new)

"""`Kfac`: the whole optimiser of the core, on a user's own pytree of parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.linearized import Linearized
from kfac_adapters.jax.model import Batch
from kfac_adapters.jax.placed_optimizer import PlacedOptimizer, Shard
from kfac_adapters.jax.places import AxisName, check_alike, names_of
from kfac_adapters.jax.shared_inverses import check_sharing
from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.optimizer import KfacOptimizer, KfacState, StepStatistics
from kfac_core.typing import Key, LayerDampings, Scalar

LABEL = "Kfac"


class _At(NamedTuple):
    """What the core passes on to the model: a batch, and leaves that stay."""

    params: Any
    batch: Batch


class Kfac:
    """Minimises the mean loss of a captured function; `init` and `step` are pure.

    It is `kfac_core.KfacOptimizer`, with its options: momentum types, the quadratic
    model, adapted damping, clocks of statistics and inverses. A step is one program
    for `jax.jit`, with the state and the parameters donated; it is traced once, since
    all numbers that change are arrays.

    Args:
        captured: What `kfac_adapters.jax.capture` returned.
        axis_name: As in `Curvature`: within `jax.shard_map`, `jax.pmap` or `jax.vmap`,
            the axis over which the batch is mapped, or a tuple of them.
        share_inverses: As in `Curvature`.
        **options: Those of `kfac_core.KfacOptions`. A ``loss_fn`` takes parameters in
            the structure of the user, and a `Batch`, at each place its own; what it
            returns is averaged over places.

    Attributes:
        captured: What was captured.
        core: The optimiser of the core.

    Raises:
        RegistrationError: If a parameter was captured with ``unclaimed="identity"``.
        ArgumentError: If an option is of another form.
        UnsupportedError: If layers have one inverse together, and a batch is mapped
            over axes, or inverses are shared.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import kfac_core as kc
        >>> from kfac_adapters.jax import Batch, Kfac, capture
        >>> def network(params, x):
        ...     return x @ params["w"]
        >>> params, x = {"w": jnp.zeros((4, 3))}, jnp.ones((8, 4))
        >>> loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
        >>> captured = capture(network, params, x, loss=loss)
        >>> optimizer = Kfac(captured, momentum_type="qmodel", damping=1.0)
        >>> state = optimizer.init(params)
        >>> step = jax.jit(optimizer.step, donate_argnums=(0, 1))
        >>> batch = Batch((x,), jnp.zeros(8, jnp.int32))
        >>> state, params, stats = step(state, params, batch, key=jax.random.key(0))
        >>> params["w"].shape
        (4, 3)
    """

    captured: Captured
    core: KfacOptimizer[_At]

    def __init__(
        self,
        captured: Captured,
        *,
        axis_name: AxisName | None = None,
        share_inverses: bool | Mesh = False,
        **options: Any,
    ) -> None:
        given: object = captured
        if not isinstance(given, Captured):
            msg = (
                f"{LABEL}: captured is a {type(given).__name__}, expected what"
                " kfac_adapters.jax.capture returns"
            )
            raise ArgumentError(msg)
        names = names_of(axis_name, LABEL)
        check_sharing(share_inverses, names, LABEL)
        self.captured, self._names = captured, names
        covered = {part.leaf for part in captured.names} | captured.frozen
        covered |= {chart.length for chart in captured.charts}
        left = [i for i in captured.leaves.trained if i not in covered]
        if left:
            paths = ", ".join(captured.leaves.paths[i] for i in left)
            msg = (
                f"{LABEL}: the parameters {paths} were captured with"
                " unclaimed='identity', and the optimiser has no step for them; capture"
                " with 'diagonal' or 'ignore', or use kfac with optax for theirs"
            )
            raise RegistrationError(msg)
        if callable(loss_fn := options.get("loss_fn")):

            def loss_of_named(named: Any, at: _At) -> Any:
                loss = loss_fn(captured.tree(named, at.params), at.batch)
                return jax.lax.pmean(loss, names) if names else loss

            options["loss_fn"] = loss_of_named
        made = _Model(captured, names), captured.collection
        if names or share_inverses is not False:
            self.core = PlacedOptimizer(
                *made, names=names, share=share_inverses, **options
            )
        else:
            self.core = KfacOptimizer(*made, **options)

    def init(self, params: Any) -> KfacState:
        """Return the state before the first step.

        Args:
            params: The parameters.

        Raises:
            ArgumentError: If they are not those that were captured.
        """
        return self.core.init(self.captured.named(params))

    def step(
        self,
        state: KfacState,
        params: Any,
        batch: Batch,
        *,
        key: Key | None = None,
        noise: Mapping[str, Any] | None = None,
        learning_rate: Scalar | None = None,
        momentum: Scalar | None = None,
        norm_constraint: Scalar | None = None,
        weight_decay_coeff: Scalar | None = None,
        damping: LayerDampings | None = None,
        gradient: Any = None,
        loss: Any = None,
        prev_batch: Batch | None = None,
        update_covs: Any = None,
        update_inverses: Any = None,
    ) -> tuple[KfacState, Any, StepStatistics]:
        """Make one step; the arguments are those of `kfac_core.KfacOptimizer.step`.

        Args:
            state: The state; left as it is, if it is not donated.
            params: The parameters, a pytree; left as they are, if not donated.
            batch: Inputs and targets.
            key: What targets are drawn from, where the mode is random.
            noise: Random numbers in place of a key.
            learning_rate: Takes the place of the option, in this step.
            momentum: Takes the place of the option, in this step.
            norm_constraint: Takes the place of the option, in this step.
            weight_decay_coeff: Takes the place of the option, in this step.
            damping: Takes the place of the state's, from now on.
            gradient: The gradient of the mean loss, in the structure of the parameters,
                where that is not the mean of the captured losses.
            loss: The mean loss, 0-d, where that is not the mean of the captured losses.
            prev_batch: The batch of the step before, where the damping is adapted at
                the start of a step.
            update_covs: Whether to update the statistics; None: when it is due.
            update_inverses: Whether to update the inverses; None: when it is due.

        Returns:
            The new state, the new parameters, and what happened. Leaves that were
            captured with ``unclaimed="ignore"`` and those that hold no floating-point
            numbers are as they were.

        Raises:
            ArgumentError: If the batch is none, or the parameters are others.
            KfacError: What the core raises. Under a trace, ``ok`` of the statistics is
                False in its place, and nothing changes.
        """
        for name, given in (("batch", batch), ("prev_batch", prev_batch)):
            if not isinstance(given, Batch) and not (name != "batch" and given is None):
                msg = (
                    f"{LABEL}: {name} is a {type(given).__name__}, expected a"
                    " kfac_adapters.jax.Batch(inputs, targets)"
                )
                raise ArgumentError(msg)
        captured = self.captured
        if self._names:
            advice = "give them to shard_map with the spec PartitionSpec()"
            check_alike(params, "params", advice)
            check_alike(state, "state", advice)
            mean = "take jax.lax.pmean over axis_name, the mean of all"
            check_alike(gradient, "gradient", mean)
            check_alike(loss, "loss", mean)
        new, named, stats = self.core.step(
            state,
            captured.named(params),
            _At(params, batch),
            key=key,
            noise=noise,
            learning_rate=learning_rate,
            momentum=momentum,
            norm_constraint=norm_constraint,
            weight_decay_coeff=weight_decay_coeff,
            damping=damping,
            gradient=(
                None if gradient is None else captured.named_gradients(gradient, params)
            ),
            loss=loss,
            prev_batch=None if prev_batch is None else _At(params, prev_batch),
            update_covs=update_covs,
            update_inverses=update_inverses,
        )
        return new, captured.tree(named, params), stats


class _Model:
    """The captured function as what the core trains."""

    def __init__(self, captured: Captured, names: tuple[str, ...]) -> None:
        self._captured, self._names = captured, names

    def linearize(self, params: Any, batch: _At) -> Linearized:
        tree = self._captured.tree(params, batch.params)
        if self._names:
            return Shard(self._captured, tree, *batch.batch, axis_names=self._names)
        return Linearized(self._captured, tree, *batch.batch)

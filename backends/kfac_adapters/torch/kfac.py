"""`KFAC`: an optimiser of PyTorch's own kind."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch

from kfac_adapters.coverage import Coverage, Policy
from kfac_adapters.torch.closures import Again, moving
from kfac_adapters.torch.core_steps import CoreSteps, Numbers
from kfac_adapters.torch.direction import bound, preconditioned
from kfac_adapters.torch.losses import Reduction
from kfac_adapters.torch.moving import move
from kfac_adapters.torch.param_groups import (
    check_known,
    check_whole,
    dampings_of,
    groups_by_name,
)
from kfac_adapters.torch.settings import check_settings
from kfac_adapters.torch.skipping import Skipping, StepReport
from kfac_adapters.torch.watching import watched
from kfac_core.collectives import Collective
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.estimator import EstimationMode, EstimatorState
from kfac_core.layer_collection.parts import owners
from kfac_core.loss_functions import LossFunction
from kfac_core.optimizer import MomentumType

_KEY = "kfac"
"""Where a state dictionary has the statistics."""


class KFAC(torch.optim.Optimizer):
    """K-FAC with momentum, for an ordinary training loop.

    ``step()`` comes after ``loss.backward()``, whose graph gives the statistics too.
    The model must be called itself, and its outputs must be what goes into the loss.
    A step whose gradients are not finite changes nothing, and `last_step` says so.

    Args:
        model: The model.
        lr: Learning rate; None: 0.1. The ``qmodel`` types, which find the length of a
            step themselves, multiply it by this; None: 1.
        damping: Times the identity, added to the Fisher.
        loss: What goes on top: a loss of `kfac_core.losses`; or the name of a function
            of `torch.nn.functional`: ``"cross_entropy"``,
            ``"binary_cross_entropy_with_logits"``, ``"mse_loss"``; or ``"auto"``: one
            of the first two, as the first gradient tells. Rows of gradient zero, such
            as those of ``ignore_index``, do not count.
        momentum: That of the steps; None: 0.9. The type ``qmodel`` takes none.
        momentum_type: As in `kfac_core.optimizer.KfacOptions`. The ``qmodel`` types
            take one or two products with the Jacobian at each step.
        weight_decay: Times the parameters, added to the steps, not preconditioned.
        norm_constraint: Bound of a step's squared norm in the Fisher; None: no bound.
        adapt_damping: Whether to adapt the damping, which is in the parameter groups,
            by the change of the loss: ``step(closure)`` computes it once more.
        adapt_every: Every how many steps the damping is adapted.
        reduction: ``"mean"`` or ``"sum"``: whether the user's loss is the mean over
            what counts, or the sum. A mean that is divided further, for the parts of a
            batch, or multiplied by a `torch.amp.GradScaler`, is a mean.
        mode: ``"gradients"``, of targets drawn from the model, by one more backward
            pass; ``"empirical"``, of those of the data, by none; or another of
            `kfac_core.estimator.sources`.
        decay: What the weights of statistics are multiplied by at each step.
        cov_every: Every how many steps there are statistics.
        statistics_share: Share of a batch's cases that they are made of; 1: all.
        invert_every: Every how many steps there are new inverses.
        params: Parameter groups, with ``lr``, ``damping``, ``momentum`` and
            ``weight_decay`` of their own; None: all that are trained. Those of one
            layer must be of one group.
        unclaimed: As in `capture`.
        approx: As in `capture`.
        class_axis: As in `capture`.
        output: As in `capture`.
        seed: Seed of the random numbers; PyTorch's own generator stays as it is.
        collective: The ranks that have shards of the batches; None: the process group
            of a model in ``DistributedDataParallel``, or this process alone.
        gradient_worker_fraction: The share of the ranks that keep each inverse, and
            send their products with it to the others: 1 takes most memory, and 0 sends
            most; the divisor of their number that is nearest.
        options: More of `kfac_core.optimizer.KfacOptions`, by name.

    Raises:
        ArgumentError: If an argument is out of range.
        UnsupportedError: If a module is compiled.

    Example:
        >>> import torch
        >>> from kfac_adapters.torch import KFAC
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
        ... )
        >>> optimizer = KFAC(model, lr=0.1, damping=0.1)
        >>> x = torch.randn(64, 4)
        >>> y = (x[:, 0] * x[:, 1] > 0).long()
        >>> for _ in range(60):
        ...     optimizer.zero_grad()
        ...     loss = torch.nn.functional.cross_entropy(model(x), y)
        ...     loss.backward()
        ...     optimizer.step()
        >>> loss.item() < 0.3
        True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        lr: float | None = None,
        damping: float = 1e-2,
        loss: LossFunction | str = "auto",
        *,
        momentum: float | None = None,
        momentum_type: MomentumType = "regular",
        weight_decay: float = 0.0,
        norm_constraint: float | None = None,
        adapt_damping: bool = False,
        adapt_every: int = 5,
        reduction: Reduction = "mean",
        mode: EstimationMode = "gradients",
        decay: float = 0.95,
        cov_every: int = 1,
        statistics_share: float = 1.0,
        invert_every: int = 10,
        params: Iterable[Any] | None = None,
        unclaimed: Policy = "error",
        approx: Mapping[str, str] | str | None = None,
        class_axis: int | None = None,
        output: Callable[[Any], torch.Tensor] | None = None,
        seed: int = 0,
        collective: Collective | None = None,
        gradient_worker_fraction: float = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._steps: CoreSteps | None = None
        if momentum_type != "regular" or adapt_damping or options:
            self._steps = CoreSteps(
                momentum_type=momentum_type,
                adapt_damping=adapt_damping,
                damping_adaptation_interval=adapt_every,
                norm_constraint=norm_constraint,
                estimation_mode=mode,
                momentum=momentum,
                **(options or {}),
            )
        finds = self._steps is not None and self._steps.checked.uses_qmodel
        defaults = {
            "lr": (1.0 if finds else 0.1) if lr is None else lr,
            "damping": damping,
            "momentum": 0.9 if momentum is None else momentum,
            "weight_decay": weight_decay,
        }
        self._tracker = watched(
            "KFAC",
            model,
            loss,
            reduction=reduction,
            mode=mode,
            decay=decay,
            cov_every=cov_every,
            statistics_share=statistics_share,
            unclaimed=unclaimed,
            approx=approx,
            class_axis=class_axis,
            output=output,
            seed=seed,
            told=None if self._steps is None else self._steps.told,
            collective=collective,
            gradient_worker_fraction=gradient_worker_fraction,
            **defaults,
            invert_every=invert_every,
            norm_constraint=norm_constraint,
        )
        if self._steps is not None:
            self._steps.take_tracker(self._tracker)
        self.norm_constraint, self._invert_every = norm_constraint, invert_every
        self._skipping = Skipping("KFAC")
        own = self._tracker.capture.params.values() if params is None else params
        super().__init__(own, defaults)

    @property
    def coverage(self) -> Coverage:
        """Which block stands for which parameter; from the first backward pass on."""
        return self._tracker.capture.coverage

    @property
    def last_step(self) -> StepReport:
        """What the last step did."""
        return self._skipping.report

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: Computes the loss of one batch and its gradients, as for other
                optimisers: it zeroes gradients, calls the model and ``backward()``, and
                returns the loss. With `adapt_damping` it is needed, and called once
                more for the same batch in some steps.

        Returns:
            What the closure returned, or None.

        Raises:
            ArgumentError: If a layer's parameters are of several groups; or if there is
                no closure, and one is needed.
            NotComputedError: If no backward pass was seen.
        """
        if closure is None and self._steps is not None and self._steps.is_adapting():
            msg = (
                "KFAC: adapt_damping needs step(closure), a function that zeroes"
                " gradients, computes the loss, calls backward() and returns the loss"
            )
            raise ArgumentError(msg)
        loss, again = None, None
        if closure is not None:
            again = Again(self._tracker, closure)
            with torch.enable_grad():
                loss = closure()
        steps = self._steps
        if steps is None:
            self._skipping.take(self._tracker, self._move)
            torch.clear_autocast_cache()  # it has the casts of what they were
        else:
            move = partial(self._move_by, steps, loss, again)
            self._skipping.take(self._tracker, move)
            steps.clear()
        self._tracker.next_step()
        return loss

    def remove(self) -> None:
        """Take the hooks off the model."""
        self._tracker.remove()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters of the model, such as those that were frozen.

        Raises:
            ArgumentError: If one is none of the model's, or a number is out of range.
        """
        given = param_group["params"]
        listed = [given] if isinstance(given, torch.Tensor) else list(given)
        check_known(listed, self._tracker.capture.model)
        numbers = {k: v for k, v in param_group.items() if k in self.defaults}
        check_settings("KFAC", **numbers)
        super().add_param_group({**param_group, "params": listed})

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, for ``torch.save``; it is loaded as weights only."""
        own = self._tracker.state_dict()
        if self._steps is not None:
            own["core"] = self._steps.state_dict()
        return {**super().state_dict(), _KEY: own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` returned.

        Raises:
            ArgumentError: If it is that of another optimiser.
            StateError: If it is of a model with other layers.
        """
        if _KEY not in state_dict:
            msg = (
                f"KFAC: the state has {list(state_dict)}, expected {_KEY!r} among them"
            )
            raise ArgumentError(msg)
        super().load_state_dict({k: v for k, v in state_dict.items() if k != _KEY})
        params = [param for group in self.param_groups for param in group["params"]]
        for i, own in state_dict["state"].items():  # not in the precision of the model
            velocity = own["velocity"].to(params[i].device, copy=True)
            self.state[params[i]]["velocity"] = velocity
        self._tracker.load_state_dict(state_dict[_KEY])
        if self._steps is not None:
            self._steps.load_state_dict(state_dict[_KEY].get("core", {}))

    def __getstate__(self) -> Any:
        """Refuse to be copied: a copy would watch no model.

        Raises:
            UnsupportedError: Always.
        """
        msg = (
            "KFAC watches its model, and a copy would watch none: copy the model, make"
            " KFAC of the copy, and give it state_dict() by load_state_dict"
        )
        raise UnsupportedError(msg)

    def _move(self) -> StepReport:
        """Move the parameters by preconditioned gradients."""
        tracker, params = self._tracker, self._tracker.capture.params
        groups = groups_by_name(params, self.param_groups)
        if tracker.inverts(self._invert_every):
            tracker.invert(dampings_of(tracker, groups, self.defaults["damping"]))
        gradients = {n: params[n].grad for n in groups}
        directions = preconditioned(tracker, gradients)
        directions = {n: x for n, x in directions.items() if n in groups}
        rates = {n: group["lr"] for n, group in groups.items()}
        factor = bound(self.norm_constraint, rates, directions, gradients)
        for name, direction in directions.items():
            if self.norm_constraint is not None:
                direction = factor * direction
            own = self.state[params[name]]
            move(params[name], own, direction, groups[name])
        return StepReport(taken=True)

    def _move_by(self, steps: CoreSteps, loss: Any, again: Again | None) -> StepReport:
        """Move the parameters as the core's optimiser says."""
        tracker, params = self._tracker, self._tracker.capture.params
        groups, names = (
            groups_by_name(params, self.param_groups),
            tracker.estimator.variables,
        )
        check_whole(names, groups, tracker.capture)
        first = groups[names[0]]
        numbers = Numbers(first["lr"], first["momentum"], first["weight_decay"])
        gradients = {
            n: torch.zeros_like(params[n]) if params[n].grad is None else params[n].grad
            for n in names
        }
        states = {n: self.state[params[n]] for n in names}
        velocity = {n: s["velocity"] for n, s in states.items() if "velocity" in s}
        damping = dampings_of(tracker, groups, self.defaults["damping"])
        inverts = tracker.inverts(self._invert_every)
        with moving(params, names) as place:

            def loss_at(there: Mapping[str, torch.Tensor]) -> Any:
                assert again is not None  # it is checked before
                place(there)
                return again()

            state, moved, statistics = steps.take(
                gradients, velocity, numbers, damping, inverts, loss, loss_at
            )
            place(moved)
        if inverts:
            assert isinstance(state.estimator, EstimatorState)
            tracker.inverted(state.estimator)
        for name, value in state.velocity.items():
            states[name]["velocity"] = value
        if steps.checked.adapt_damping:
            parts = tracker.capture.collection.parts
            for layer in tracker.estimator.layers:
                for name in owners(parts, layer.params):
                    groups[name]["damping"] = steps.damping_of(state, layer.name)
        return StepReport(taken=True, statistics=statistics)

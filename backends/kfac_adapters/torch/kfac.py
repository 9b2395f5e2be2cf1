"""`KFAC`: an optimiser of PyTorch's own kind."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from kfac_adapters.coverage import Coverage, Policy
from kfac_adapters.torch.capture import capture
from kfac_adapters.torch.direction import bound, preconditioned, refresh
from kfac_adapters.torch.losses import Reduction, given_loss
from kfac_adapters.torch.settings import check_settings
from kfac_adapters.torch.tracking import Mode, Tracker
from kfac_core.errors import ArgumentError
from kfac_core.loss_functions import LossFunction

_KEY = "kfac"
"""Where a state dictionary has the statistics."""


class KFAC(torch.optim.Optimizer):
    """K-FAC with momentum, for an ordinary training loop.

    ``step()`` comes after ``loss.backward()``, whose graph gives the statistics too:
    for targets drawn from the model, by one more backward pass. The model must be
    called itself, and its outputs must be what goes into the loss.

    Args:
        model: The model.
        lr: Learning rate.
        damping: Times the identity, added to the Fisher.
        loss: What goes on top: a loss of `kfac_core.losses`; or the name of a function
            of `torch.nn.functional`: ``"cross_entropy"``,
            ``"binary_cross_entropy_with_logits"``, ``"mse_loss"``; or ``"auto"``: one
            of the first two, as the first gradient tells. Rows whose gradient is zero,
            such as those of ``ignore_index``, do not count.
        momentum: Momentum of the steps.
        weight_decay: Times the parameters, added to the steps, not preconditioned.
        norm_constraint: Bound of the squared norm of a step in the Fisher; None: there
            is none.
        reduction: ``"mean"`` or ``"sum"``: whether the user's loss is the mean over
            what counts, or the sum. A mean that is divided further, for the parts of a
            batch, or multiplied by a `torch.amp.GradScaler`, is a mean.
        mode: ``"gradients"``, of targets drawn from the model; or ``"empirical"``, of
            those of the data.
        decay: What the weights of statistics are multiplied by at each step.
        cov_every: Every how many steps there are statistics.
        invert_every: Every how many steps there are new inverses.
        params: Parameter groups, as those of any optimiser, with ``lr``, ``damping``,
            ``momentum`` and ``weight_decay`` of their own; None: all that are trained.
            Those of one layer must be of one group.
        unclaimed: As in `capture`.
        approx: As in `capture`.
        class_axis: As in `capture`.
        output: As in `capture`.
        seed: Seed of the random numbers; PyTorch's own generator stays as it is.

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
        lr: float = 0.1,
        damping: float = 1e-2,
        loss: LossFunction | str = "auto",
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        norm_constraint: float | None = None,
        reduction: Reduction = "mean",
        mode: Mode = "gradients",
        decay: float = 0.95,
        cov_every: int = 1,
        invert_every: int = 10,
        params: Iterable[Any] | None = None,
        unclaimed: Policy = "error",
        approx: Mapping[str, str] | None = None,
        class_axis: int = -1,
        output: Callable[[Any], torch.Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        defaults = {
            "lr": lr,
            "damping": damping,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        check_settings(
            "KFAC",
            **defaults,
            decay=decay,
            cov_every=cov_every,
            invert_every=invert_every,
            norm_constraint=norm_constraint,
        )
        made = capture(
            model,
            loss,
            unclaimed=unclaimed,
            approx=approx,
            class_axis=class_axis,
            output=output,
        )
        known = given_loss(loss, reduction)
        super().__init__(made.params.values() if params is None else params, defaults)
        self.norm_constraint, self._invert_every = norm_constraint, invert_every
        self._tracker = Tracker(made, known, reduction, mode, decay, cov_every, seed)

    @property
    def coverage(self) -> Coverage:
        """Which block stands for which parameter; from the first backward pass on."""
        return self._tracker.capture.coverage

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step.

        Args:
            closure: Computes the loss and its gradients again, as for other optimisers.

        Returns:
            What the closure returned, or None.

        Raises:
            ArgumentError: If a layer's parameters are of several groups.
            NotComputedError: If no backward pass was seen.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        tracker, groups = self._tracker, self._groups_by_name()
        if tracker.is_due(self._invert_every):
            refresh(tracker, self._dampings(groups))
        params = tracker.capture.params
        gradients = {n: params[n].grad for n in groups}
        directions = preconditioned(tracker, gradients)
        directions = {n: x for n, x in directions.items() if n in groups}
        rates = {n: group["lr"] for n, group in groups.items()}
        factor = bound(self.norm_constraint, rates, directions, gradients)
        for name, direction in directions.items():
            self._move(params[name], factor * direction, groups[name])
        tracker.next_step()
        return loss

    def remove(self) -> None:
        """Take the hooks off the model."""
        self._tracker.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, for ``torch.save``; it is loaded as weights only."""
        return {**super().state_dict(), _KEY: self._tracker.state_dict()}

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
        self._tracker.load_state_dict(state_dict[_KEY])

    def _groups_by_name(self) -> dict[str, dict[str, Any]]:
        """Return for each parameter that is optimised its group."""
        of = {
            id(param): group for group in self.param_groups for param in group["params"]
        }
        named = self._tracker.capture.params.items()
        return {name: of[id(param)] for name, param in named if id(param) in of}

    def _dampings(self, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        dampings = {}
        for layer in self._tracker.estimator.layers:
            found = {groups[name]["damping"] for name in layer.params if name in groups}
            if len(found) > 1:
                msg = (
                    f"KFAC: the parameters {list(layer.params)} of one layer have the"
                    f" dampings {sorted(found)}; put them into one group"
                )
                raise ArgumentError(msg)
            dampings[layer.name] = found.pop() if found else self.defaults["damping"]
        return dampings

    def _move(
        self, param: torch.Tensor, direction: torch.Tensor, group: Mapping[str, Any]
    ) -> None:
        """Add a direction to a parameter's velocity, and that to the parameter."""
        own = self.state[param]
        velocity = direction
        if group["momentum"]:
            if "velocity" in own:
                velocity = group["momentum"] * own["velocity"] + direction
            own["velocity"] = velocity
        if group["weight_decay"]:
            param.mul_(1 - group["lr"] * group["weight_decay"])
        param.add_(velocity.to(param.dtype), alpha=-group["lr"])

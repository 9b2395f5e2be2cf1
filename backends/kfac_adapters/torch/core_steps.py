"""`CoreSteps`: steps that the core's own optimiser takes, on a model of PyTorch.

They adapt the damping, or find their own length: both ask for products with the exact
curvature, and for the loss at other parameters. Statistics come from the tracker, and
gradients and losses from the user's closure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from kfac_adapters.torch.judging import Judged
from kfac_adapters.torch.passes import Pass
from kfac_adapters.torch.products import Part, Products
from kfac_adapters.torch.registering import LOSS
from kfac_adapters.torch.shard import Shard, SharedOptimizer, Whole, mean_of_ranks
from kfac_adapters.torch.tracking import Tracker
from kfac_core.errors import ArgumentError
from kfac_core.optimizer import KfacOptimizer, KfacState, StepStatistics
from kfac_core.optimizer.options import KfacOptions

_KEPT = ("counter", "loss", "predicted_change", "actual_change", "rho")
"""What a state has that is neither the tracker's nor the user's."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a step, which are those of all parameter groups.

    Attributes:
        lr: Learning rate; of a ``qmodel`` type what its step is multiplied by.
        momentum: Momentum.
        weight_decay: Times the parameters, added to the step.
    """

    lr: float
    momentum: float
    weight_decay: float


class CoreSteps:
    """Takes steps by `kfac_core.KfacOptimizer`.

    Args:
        options: Options of `kfac_core.optimizer.options.KfacOptions`, those that change
            from step to step left out.

    Raises:
        ArgumentError: If one is out of range, or does not go with another.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._parts: list[Part] = []
        self._like: torch.Tensor | None = None
        self._kept: dict[str, torch.Tensor] = {}
        self._made_before: tuple[Any, KfacOptimizer[Any], KfacState] | None = None
        self._loss_at: Callable[[Any], Any] = float
        self.tracker: Tracker | None = None
        own = self._own(Numbers(1.0, 0.9, 0.0))
        self.checked = KfacOptions(damping=1.0, **own)

    def take_tracker(self, tracker: Tracker) -> None:
        """Take the statistics that steps are made with."""
        self.tracker = tracker

    def told(self, seen: Pass, judged: Judged) -> None:
        """Keep a pass for the step that comes."""
        assert self.tracker is not None
        self._parts.append(Part.of(self.tracker.capture, seen, judged))
        self._like = self._parts[-1].rows[:1]

    def clear(self) -> None:
        """Let go of the passes of a step."""
        self._parts = []

    def is_adapting(self) -> bool:
        """Return whether the next step asks for the loss at other parameters."""
        counter = int(self._kept["counter"]) if self._kept else 0
        every = self.checked.damping_adaptation_interval
        return self.checked.adapt_damping and (counter + 1) % every == 0

    def take(
        self,
        gradients: Mapping[str, torch.Tensor],
        velocity: Mapping[str, torch.Tensor],
        numbers: Numbers,
        dampings: Mapping[str, float],
        inverts: bool,
        loss: Any,
        loss_at: Callable[[Mapping[str, torch.Tensor]], Any],
    ) -> tuple[KfacState, dict[str, torch.Tensor], StepStatistics]:
        """Return what a step of the core returns.

        Args:
            gradients: The gradient of the user's loss, by parameter.
            velocity: The velocity of each parameter that has one.
            numbers: Numbers of the step.
            dampings: The damping of each layer before it.
            inverts: Whether there are to be new inverses.
            loss: The user's loss; None: it is not known, and not asked for.
            loss_at: The user's loss at parameters.

        Returns:
            The state, the parameters and the statistics.

        Raises:
            ArgumentError: If no pass was seen.
            KfacError: What the core raises.
        """
        tracker = self.tracker
        assert tracker is not None
        given = self._given(tracker, loss)
        if given is None:
            msg = (
                "KFAC: no pass of the model was seen in this step, whose curvature"
                f" momentum_type={self.checked.momentum_type!r}, or adapt_damping, asks"
                " for; compute the loss by calling the model, and then backward()"
            )
            raise ArgumentError(msg)
        named = dict(tracker.capture.model.named_parameters())
        params = {name: named[name].detach() for name in tracker.estimator.variables}
        by_layer = len(set(dampings.values())) > 1
        damping: Any = dampings if by_layer else next(iter(dampings.values()))
        core, zero = self._made(params, tracker, numbers, by_layer)
        state = zero._replace(
            estimator=tracker.state,
            velocity={**zero.velocity, **velocity},
            **self._kept,
        )
        products, loss, self._loss_at = given[0], given[1], loss_at
        if isinstance(products, Shard):
            ranks, device = tracker.ranks, products.loss_inputs[LOSS].device
            self._loss_at = lambda there: mean_of_ranks(ranks, loss_at(there), device)
        finds, fixed = self.checked.uses_qmodel, self.checked.momentum_type != "qmodel"
        known: Any = 0.0 if loss is None else loss
        state, moved, statistics = core.step(
            state,
            params,
            products,
            learning_rate=None if finds else numbers.lr,
            momentum=numbers.momentum if fixed else None,
            weight_decay_coeff=numbers.weight_decay or None,
            damping=damping,
            gradient=gradients,
            loss=known,
            update_covs=False,
            update_inverses=inverts,
        )
        self._kept = {name: getattr(state, name) for name in _KEPT}
        return state, moved, statistics

    def _given(self, tracker: Tracker, loss: Any) -> tuple[Products, Any] | None:
        """Return the passes of the step, and its loss; None if no rank saw a pass."""
        capture = tracker.capture
        if tracker.ranks.size == 1:
            return (Products(capture, self._parts), loss) if self._parts else None
        device = next(capture.model.parameters()).device
        whole = Whole.of(tracker.ranks, self._parts, loss, device)
        if not whole.num_cases:
            return None
        like = torch.zeros(1, 1, device=device) if self._like is None else self._like
        return Shard(capture, self._parts, like, whole), whole.loss

    @staticmethod
    def damping_of(state: KfacState, layer: str) -> float:
        """Return the damping of a layer after a step."""
        own = state.damping
        return float(own[layer] if isinstance(own, dict) else own)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what is remembered from step to step."""
        return dict(self._kept)

    def load_state_dict(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Take what `state_dict` returned."""
        self._kept = dict(saved)

    def _made(
        self,
        params: Mapping[str, torch.Tensor],
        tracker: Tracker,
        numbers: Numbers,
        by_layer: bool,
    ) -> tuple[KfacOptimizer[Any], KfacState]:
        """Return the core's optimiser and its first state, those of before if alike."""
        rescale = numbers.lr if self.checked.uses_qmodel else None
        collection = tracker.capture.collection
        made_of = (collection, rescale, by_layer)
        if self._made_before is None or self._made_before[0] != made_of:
            damping: Any = 1.0
            if by_layer:
                damping = dict.fromkeys(tracker.estimator.blocks, 1.0)
            kind: Any = KfacOptimizer
            if tracker.ranks.size > 1:
                kind = partial(SharedOptimizer, teams=tracker.teams)
            core: KfacOptimizer[Any] = kind(
                SimpleNamespace(linearize=lambda _, batch: batch),
                collection,
                damping=damping,
                **self._own(numbers),
            )
            self._made_before = made_of, core, core.init(params)
        _, made, state = self._made_before
        return made, state

    def _own(self, numbers: Numbers) -> dict[str, Any]:
        finds = str(self._options["momentum_type"]).lower().startswith("qmodel")
        rate = "qmodel_update_rescale" if finds else "learning_rate"
        return {
            **self._options,
            rate: numbers.lr,
            "loss_fn": lambda params, _: self._loss_at(params),
        }

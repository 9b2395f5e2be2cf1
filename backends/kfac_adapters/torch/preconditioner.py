"""`Preconditioner`: the curvature alone, for any optimiser."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from kfac_adapters.coverage import Coverage, Policy
from kfac_adapters.torch.direction import bound, preconditioned
from kfac_adapters.torch.losses import Reduction
from kfac_adapters.torch.skipping import Skipping, StepReport
from kfac_adapters.torch.watching import watched
from kfac_core.collectives import Collective
from kfac_core.errors import ArgumentError
from kfac_core.estimator import EstimationMode
from kfac_core.loss_functions import LossFunction


class Preconditioner:
    """Replaces gradients by preconditioned ones, between ``backward`` and a step.

    From its making on it sees each forward pass of the model that has a graph, and when
    a backward pass reaches the model's outputs it pulls targets drawn from the model
    back through the same graph: one more backward pass.

    Args:
        model: The model; it must be called itself.
        loss: As in `KFAC`.
        damping: Times the identity, added to the Fisher.
        reduction: As in `KFAC`.
        mode: As in `KFAC`.
        decay: What the weights of statistics are multiplied by at each step.
        cov_every: Every how many steps there are statistics.
        statistics_share: Share of a batch's cases that they are made of; 1: all.
        invert_every: Every how many steps there are new inverses.
        norm_constraint: Bound of the squared norm of a step in the Fisher, the learning
            rate included; None: there is none.
        unclaimed: As in `capture`; ``"ignore"`` leaves a gradient as it is, too.
        approx: As in `capture`.
        class_axis: As in `capture`.
        output: As in `capture`.
        seed: Seed of the random numbers; PyTorch's own generator stays as it is.
        collective: As in `KFAC`.
        gradient_worker_fraction: As in `KFAC`.

    Raises:
        ArgumentError: If an argument is out of range.
        UnsupportedError: If a module is compiled.

    Example:
        >>> import torch
        >>> from kfac_adapters.torch import Preconditioner
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(4, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> preconditioner = Preconditioner(model, loss="cross_entropy", damping=0.1)
        >>> x, y = torch.randn(16, 4), torch.randint(3, (16,))
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     torch.nn.functional.cross_entropy(model(x), y).backward()
        ...     preconditioner.step()
        ...     optimizer.step()
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: LossFunction | str = "auto",
        *,
        damping: float = 1e-2,
        reduction: Reduction = "mean",
        mode: EstimationMode = "gradients",
        decay: float = 0.95,
        cov_every: int = 1,
        statistics_share: float = 1.0,
        invert_every: int = 10,
        norm_constraint: float | None = None,
        unclaimed: Policy = "error",
        approx: Mapping[str, str] | str | None = None,
        class_axis: int | None = None,
        output: Callable[[Any], torch.Tensor] | None = None,
        seed: int = 0,
        collective: Collective | None = None,
        gradient_worker_fraction: float = 1.0,
    ) -> None:
        self.damping, self.norm_constraint = damping, norm_constraint
        self._invert_every, self._skipping = invert_every, Skipping("Preconditioner")
        self._tracker = watched(
            "Preconditioner",
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
            collective=collective,
            gradient_worker_fraction=gradient_worker_fraction,
            damping=damping,
            invert_every=invert_every,
            norm_constraint=norm_constraint,
        )

    @property
    def coverage(self) -> Coverage:
        """Which block stands for which parameter; from the first backward pass on."""
        return self._tracker.capture.coverage

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See no pass of the model within."""
        with self._tracker.passes.paused():
            yield

    @torch.no_grad()
    def step(self, learning_rate: float | None = None) -> None:
        """Replace every ``.grad`` by the preconditioned gradient.

        Args:
            learning_rate: That of the optimiser that comes next: needed with a
                `norm_constraint`, and for nothing else.

        Raises:
            ArgumentError: If there is none, and a constraint.
            NotComputedError: If no backward pass was seen.
        """
        if self.norm_constraint is not None and learning_rate is None:
            msg = "Preconditioner: norm_constraint needs step(learning_rate=...)"
            raise ArgumentError(msg)
        tracker = self._tracker
        self._skipping.take(tracker, partial(self._replace, learning_rate))
        tracker.next_step()

    @property
    def last_step(self) -> StepReport:
        """What the last step did: it leaves gradients that are not finite alone."""
        return self._skipping.report

    def remove(self) -> None:
        """Take the hooks off the model."""
        self._tracker.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return statistics, inverses and counters, for ``torch.save``."""
        return self._tracker.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned.

        Raises:
            StateError: If it is of a model with other layers.
        """
        self._tracker.load_state_dict(saved)

    def _replace(self, learning_rate: float | None) -> StepReport:
        tracker = self._tracker
        if tracker.inverts(self._invert_every):
            tracker.invert(self.damping)
        params = tracker.capture.params
        gradients = {name: param.grad for name, param in params.items()}
        found = preconditioned(tracker, gradients)
        if self.norm_constraint is not None and learning_rate is not None:
            rates = dict.fromkeys(found, learning_rate)
            factor = bound(self.norm_constraint, rates, found, gradients)
            found = {name: factor * x for name, x in found.items()}
        for name, x in found.items():
            params[name].grad = x.to(params[name].dtype)
        return StepReport(taken=True)

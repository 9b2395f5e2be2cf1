"""`Tracker`: statistics of a model from the user's own forward and backward passes.

When the user's backward pass reaches the outputs of the model, the gradient there says
which rows are ignored, and, where that is asked for, which loss it is. Then the
estimator pulls its own vectors back through the same graph, which the user's pass frees
afterwards; or, in the mode ``"empirical"``, takes what that pass itself brings.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from kfac_adapters.torch.agreeing import Own, agreed
from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.held import Saved, told_of
from kfac_adapters.torch.judging import Judge, Judged
from kfac_adapters.torch.layer_statistics import LayerStatistics
from kfac_adapters.torch.linearized import Linearized
from kfac_adapters.torch.losses import GivenLoss, Reduction
from kfac_adapters.torch.observed import Observed
from kfac_adapters.torch.passes import Pass, Passes
from kfac_adapters.torch.ranks import generator_of
from kfac_adapters.torch.tables import named
from kfac_adapters.torch.telling import raised_by_all, told_by_all
from kfac_core.collectives import Teams, sharing
from kfac_core.errors import (
    KfacError,
    NotFiniteError,
    UnsupportedError,
)
from kfac_core.estimator import EstimationMode
from kfac_core.estimator.sources import RANDOM_MODES

Told: TypeAlias = Callable[[Pass, Judged], None]
"""Takes a pass, and what is known of its loss."""


class Tracker(LayerStatistics):
    """Keeps the statistics of a model up to date, beside its training.

    Args:
        capture: The model.
        loss: What goes on top; None: told by the first gradient.
        reduction: Reduction of the user's loss.
        mode: What is pulled back.
        decay: What the weights of earlier statistics are multiplied by at each step.
        cov_every: Every how many steps there are statistics.
        share: Share of a batch's cases that they are made of; 1: all.
        seed: Seed of the numbers that targets are drawn with.
        told: Who else is told of every pass, and how its loss is judged.
        teams: Who has shards of the same batch, and keeps which inverses.
    """

    def __init__(
        self,
        capture: Capture,
        loss: GivenLoss | None,
        reduction: Reduction,
        mode: EstimationMode,
        decay: float,
        cov_every: int,
        share: float,
        seed: int,
        told: Told | None = None,
        teams: Teams | None = None,
    ) -> None:
        super().__init__(capture, mode, decay**cov_every, share, teams)
        self._told, self._seed, self._cov_every = told, seed, cov_every
        self._judge = Judge(loss, reduction, mode == "empirical")
        self._generator: torch.Generator | None = None
        self._saved_key: torch.Tensor | None = None
        self._cases: int | None = None
        self.passes = Passes(capture, self, keeps_calls=told is not None)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes: tensors, numbers and lists, nothing else."""
        key = None if self._generator is None else self._generator.get_state()
        state, saved = self._held.settled(), self._saved.told()
        if state is not None:
            saved = told_of(self.estimator, state)
        return {
            "steps": self.steps,
            "generator": key if key is not None else self._saved_key,
            **saved,
            "inverted_at": self._inverted_at,
            "cases": self._cases,
            "keeps": self._keeps,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned, perhaps before the first pass.

        Raises:
            StateError: If it is of a model with other layers.
        """
        self.steps = saved["steps"]
        self._begin()
        self._inverted_at, self._cases = saved["inverted_at"], saved["cases"]
        self._keeps = saved.get("keeps")
        if self._keeps not in (None, self.teams.keeps):
            self._inverted_at = None  # the inverses are those of other layers
        if saved["generator"] is not None:
            self._saved_key = saved["generator"].cpu()
            self._generator = None
        self._saved = Saved(saved)
        self.capture.kinds = self._saved.kinds
        if self.has_statistics and self._saved:
            names = self.estimator.blocks.keys()
            self.state = self._saved.placed(self.state, names, is_whole=True)

    def next_step(self) -> None:
        """Begin the next step: passes that come are no longer of this one."""
        self.steps += 1
        self._begin()
        self.passes.clear()

    def _begin(self) -> None:
        """Begin a step, of which there is no pass yet."""
        super()._begin()
        self.refused = ""
        self._error: KfacError | None = None

    def agree(self) -> str:
        """Make the statistics of this step those of the shards of all ranks.

        Returns:
            Why no step is to be taken, on any rank; or an empty text.

        Raises:
            KfacError: On all ranks, if they differ in their layers, or some saw no pass
                yet; or if the statistics of a layer do not add up.
        """
        if self.ranks.size == 1:
            return "" if self.has_statistics else self.refused
        try:
            return self._agree()
        except KfacError:
            self._let_go()
            raise

    def _agree(self) -> str:
        device = next(self.capture.model.parameters()).device
        own = Own(
            self._estimator,
            is_whole=self._is_known_whole(),
            is_refused=bool(self.refused),
            has_error=self._error is not None,
            lacks_inverses=self._inverted_at is None,
            passes=self._taken,
            summed_cases=self._summed,
        )
        found, size = agreed(self.ranks, device, own), self.ranks.size
        if found.has_error:
            raise raised_by_all(self.ranks, device, self._error)
        lacks_inverses, know_all = found.lacks_inverses, found.know_layers == size
        if found.know_layers and found.differ and (know_all or not found.is_refused):
            lacks_inverses, know_all = self._join(device), True
        if lacks_inverses:
            self._inverted_at = None
        if found.is_refused:
            # What the others took of this step, they let go.
            self._let_go()
            self.refused = self.refused or "a pass of another rank was not finite"
            return "" if know_all else self.refused
        if found.passes:
            state, before, self._before = self.state, self._before, None
            if before is None:
                before = state
                state = sharing.decayed(self.estimator, state, self._own_decay)
            wait = sharing.summing(self.estimator, before, state, self.ranks)
            self._held.take(before, wait)
        return ""

    def _join(self, device: torch.device) -> bool:
        """Take the layers of all ranks, and return whether one has no inverses."""
        own = None if self._is_changed() else self.capture.table
        capture, tables = self.capture, named(told_by_all(self.ranks, device, own))
        try:
            capture.adopt(capture.joined(tables))
            self._make()
        except KfacError as error:
            self._failed(error)
        told = [float(self._inverted_at is None), float(self._error is not None)]
        of_all: Any = self.ranks.all_reduce(torch.tensor(told, device=device))
        if of_all[1]:
            raise raised_by_all(self.ranks, device, self._error)
        return bool(of_all[0])

    def _let_go(self) -> None:
        """Let go of what was taken of this step."""
        if self._before is not None:
            self.state = self._before
        self._begin()

    def remove(self) -> None:
        """Take the hooks off the model."""
        self.passes.remove()

    def wants_pass(self) -> bool:
        """Return whether a pass that begins now is wanted."""
        return self._told is not None or self._is_due() or self._is_changed()

    def reached(self, seen: Pass, gradient: torch.Tensor) -> None:
        """Take a pass, now that there is the gradient of the loss for its outputs.

        What is not finite is let go, and `refused` says so: a step may still be taken.
        """
        if not seen.outputs.numel():
            return  # a shard without a case
        device = seen.outputs.device.type
        with torch.autocast(device, enabled=False):
            try:
                self._take(seen, gradient)
            except NotFiniteError as error:
                self.refused = str(error)
            except KfacError as error:
                self._failed(error)

    def _failed(self, error: KfacError) -> None:
        """Raise an error here, or on all ranks together, which wait for this pass."""
        if self.ranks.size == 1:
            raise error
        self._error = self._error or error

    def _take(self, seen: Pass, gradient: torch.Tensor) -> None:
        several = self.ranks.size > 1
        if several and self._estimator is None and not gradient.any():
            return  # no case counts, and nothing tells of the loss
        judged = self._judge(seen.outputs, gradient, self.capture.given_axis)
        self.capture.learn(judged.loss.function, judged.class_axis)
        if self._told is not None:
            self._told(seen, judged)
        if not (self._is_due() or self._is_changed()):
            return
        if not (judged.cases or self._cases or several):
            # Zeros that count as the first batch would be a part of every mean.
            self.refused = "no case of the first batch counts: all rows are ignored"
            return
        given = self.capture.linearized(
            seen.record,
            seen.outputs,
            seen.edge,
            judged.targets,
            judged.mask,
            judged.scale,
        )
        restored = bool(self._saved)
        if self.capture.collection is not self._collection:
            self._make()
        if restored and not self._is_due():
            return  # it was for the restored statistics to have a place
        if self.mode == "empirical":
            observed = Observed(given, judged.gradient, judged.weights)
            observed.at_the_end(lambda own: self._ended(own, judged))
        else:
            self._fold(given, judged)

    def _ended(self, observed: Observed, judged: Judged) -> None:
        with torch.no_grad():
            try:
                self._fold(observed, judged)
            except NotFiniteError as error:
                self.refused = str(error)
            except KfacError as error:
                self._failed(error)

    def _fold(self, given: Linearized | Observed, judged: Judged) -> None:
        """Fold a pass into the statistics, by the number of its cases."""
        key, cases = None, judged.cases
        self._check_sum(judged)
        if self.mode in RANDOM_MODES:
            key = self._key(next(iter(given.loss_inputs.values())).device)
        several = self.ranks.size > 1
        # The first batch of each rank would be another unit of weight.
        reference = self._cases or (1 if several else cases)
        weight = None if cases == reference else cases / reference
        # Passes of one step are one batch in parts.
        decay = self._own_decay if self._taken == 0 else 1.0
        if several and self._taken == 0:
            self._before = self.state
        self.state = self.estimator.update_covs(
            self.state, given, decay, weight, key=key
        )
        self._taken, self._cases = self._taken + 1, reference
        self._weight += cases / reference
        own = given.loss_inputs, given.targets
        self._unused = [{n: x[:1] for n, x in arrays.items()} for arrays in own]

    def _check_sum(self, judged: Judged) -> None:
        """Check that a sum is over the rows of one pass, whose number is known.

        Raises:
            UnsupportedError: If it is over those of several.
        """
        if judged.loss.reduction != "sum":
            return
        if self._taken:
            msg = (
                "reduction is 'sum', and this step has several passes: how many cases"
                " the sum is over is not known before the last. Take"
                " reduction='mean', and divide the loss by the cases of all passes"
            )
            raise UnsupportedError(msg)
        self._summed = judged.cases

    def _key(self, device: torch.device) -> torch.Generator:
        if self.ranks.size > 1:
            rank = int(self.ranks.rank)
            return generator_of(device, self._seed, self.steps, self._taken, rank)
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self._seed)
            if self._saved_key is not None:
                self._generator.set_state(self._saved_key)
        return self._generator

    def _is_due(self) -> bool:
        return self.steps % self._cov_every == 0

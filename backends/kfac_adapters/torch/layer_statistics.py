"""`LayerStatistics`: what is known of a model's layers, as passes tell of these."""

from collections.abc import Mapping
from typing import Any

from kfac_adapters.torch.blanks import Unused
from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.held import Held, Saved
from kfac_adapters.torch.joining import Joining
from kfac_adapters.torch.prepared import PreparedEstimator
from kfac_core.collectives import SingleProcess, Teams, inverses, teams_of
from kfac_core.errors import NotComputedError, UnsupportedError
from kfac_core.estimator import EstimationMode, EstimatorState, FisherEstimator
from kfac_core.estimator.sources import RANDOM_MODES
from kfac_core.typing import LayerDampings


class LayerStatistics:
    """The estimator of a model's layers, and its state.

    Args:
        capture: The model.
        mode: What is pulled back.
        decay: What the weights of earlier statistics are multiplied by.
        share: Share of a batch's cases that they are made of; 1: all.
        teams: Who has shards of the same batch, and keeps which inverses.
    """

    def __init__(
        self,
        capture: Capture,
        mode: EstimationMode,
        decay: float,
        share: float,
        teams: Teams | None,
    ) -> None:
        self.capture, self.mode = capture, mode
        self.teams = teams_of(SingleProcess(), 1.0) if teams is None else teams
        self.ranks, self._keeps = self.teams.ranks, self.teams.keeps
        capture.waits = self.ranks.size > 1
        self._decay, self._share = decay, share
        self.steps = 0
        self._inverted_at: int | None = None
        self._estimator: FisherEstimator | None = None
        self._held, self._saved = Held(), Saved({"arrays": None})
        self._begin()

    def _begin(self) -> None:
        """Begin a step, of which there is no pass yet."""
        self._taken, self._summed, self._weight = 0, 0, 0.0
        self._before: EstimatorState | None = None
        self._unused: list[Mapping[str, Any]] | None = None

    @property
    def estimator(self) -> FisherEstimator:
        """The estimator, from the first backward pass on.

        Raises:
            NotComputedError: Before it.
        """
        if self._estimator is None:
            msg = (
                "there are no statistics: no backward pass through the model's outputs"
                " and all its layers was seen; call the model itself, with gradients,"
                " and then backward()"
            )
            if self.capture.output is not None:
                msg += (
                    " of a loss of the tensor that output= takes out of a result; one"
                    " that output= makes, as by torch.stack, is in no loss: let the"
                    " model return it"
                )
            raise NotComputedError(msg)
        return self._estimator

    @property
    def state(self) -> EstimatorState:
        """The statistics and inverses.

        Raises:
            NotComputedError: Before the first backward pass.
        """
        self.estimator  # noqa: B018  (it raises)
        state = self._held.settled()
        assert state is not None
        return state

    @state.setter
    def state(self, state: EstimatorState) -> None:
        self._held.take(state)

    @property
    def served(self) -> EstimatorState:
        """The state for products with inverses, which wait for no statistics."""
        return self._held.served(self.estimator) or self.state

    @property
    def has_statistics(self) -> bool:
        """Whether a pass was taken, or the saved ones of another run are in place."""
        return not self._held.is_empty

    def inverts(self, every: int) -> bool:
        """Return whether inverses are due at this step, of each so many one."""
        return self._inverted_at is None or self.steps - self._inverted_at >= every

    def invert(self, damping: LayerDampings) -> None:
        """Compute new inverses: all of them, or those that are of this rank."""
        if self.ranks.size == 1:
            new = self.estimator.update_inverses(self.state, damping)
        else:
            new = inverses.inverted(self.estimator, self.state, damping, self.teams)
        self.inverted(new)

    def inverted(self, state: EstimatorState) -> None:
        """Take a state with new inverses."""
        self.state, self._inverted_at = state, self.steps
        self._keeps = self.teams.keeps

    @property
    def _own_decay(self) -> float:
        """What this rank multiplies what all saw before by: that counts once."""
        return 0.0 if self.ranks.size > 1 and self.ranks.rank else self._decay

    def _is_changed(self) -> bool:
        """Return whether other parameters are trained than those with statistics."""
        table = self.capture.table
        return (
            self._estimator is None
            or table is None
            or tuple(self.capture.params) != table.names
        )

    def _is_known_whole(self) -> bool:
        table = self.capture.table
        return table is not None and table.is_whole and not self._is_changed()

    @property
    def _collection(self) -> object:
        return None if self._estimator is None else self._estimator.layer_collection

    def _make(self) -> None:
        """Make the estimator; layers that it had before keep what is known of them."""
        joint = self.capture.joint
        if joint and self.mode not in RANDOM_MODES:
            msg = (
                f"mode is {self.mode!r}, but the layers of {list(joint)} have rows that"
                " are of several cases together, of which there is no gradient of each;"
                " take the mode 'gradients'"
            )
            raise UnsupportedError(msg)
        capture, before = self.capture, self._estimator
        table, variables = capture.table, capture.variables
        assert table is not None
        share = self._share
        new = PreparedEstimator(table.collection, self.mode, statistics_share=share)
        self._estimator = new
        if before is None:
            state = new.init(variables)
            if self._saved:
                state = self._saved.placed(state, new.blocks.keys(), table.is_whole)
            self.state = state
            return
        joining = Joining(before, new, variables, self._saved, table.is_whole)
        if self.ranks.size == 1 or not joining.has_inverses:
            self._inverted_at = None
        known = self._held.settled()
        assert known is not None
        state = joining.of(known)
        if self._before is not None:
            self._before = joining.of(self._before)
        if self._unused is not None and joining.fresh:
            (inputs, targets) = self._unused
            unused = Unused(capture.blank, inputs, targets, variables)
            passes = self._own_decay, self._weight
            state = joining.with_unused(state, unused, *passes)
        self.state = state

"""`Held`: the state of a tracker, whose statistics ranks may still be sending."""

from collections.abc import Callable, Sequence

import torch

from kfac_core import tree
from kfac_core.collectives.inverses import kept_by_all
from kfac_core.errors import StateError
from kfac_core.estimator import EstimatorState, FisherEstimator


class Held:
    """A state, or none yet; and perhaps a function that waits for its statistics."""

    def __init__(self) -> None:
        self._state: EstimatorState | None = None
        self._wait: Callable[[], EstimatorState] | None = None
        self._asked: tuple[FisherEstimator, bool] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no state yet."""
        return self._state is None

    def take(
        self, state: EstimatorState, wait: Callable[[], EstimatorState] | None = None
    ) -> None:
        """Hold a state.

        Args:
            state: The state, or that before the statistics that are being sent.
            wait: Returns the state with these; None: there are none.
        """
        self._state, self._wait = state, wait

    def settled(self) -> EstimatorState | None:
        """Return the state, after waiting for its statistics."""
        if self._wait is not None:
            wait, self._wait = self._wait, None
            self._state = wait()
        return self._state

    def served(self, estimator: FisherEstimator) -> EstimatorState | None:
        """Return a state whose inverses are those of `settled`, without waiting.

        The inverses of some layers are made with their statistics, as EKFAC's are: then
        there is no way around it.
        """
        known = self._state
        if self._wait is None or known is None:
            return known
        if self._asked is None or self._asked[0] is not estimator:
            self._asked = estimator, bool(kept_by_all(estimator, known))
        return self.settled() if self._asked[1] else known


def restored(state: EstimatorState, saved: Sequence[torch.Tensor]) -> EstimatorState:
    """Return a state with saved arrays in the place of its own.

    Args:
        state: The state.
        saved: The arrays.

    Returns:
        The state.

    Raises:
        StateError: If they are those of a model with other layers.
    """
    places = tree.leaves(state)
    if len(saved) != len(places):
        msg = (
            f"the saved state has {len(saved)} arrays, expected {len(places)}: it is of"
            " a model with other layers, or of other options"
        )
        raise StateError(msg)
    # Shapes are not compared: low-rank forms have none of their own at first.
    rest = iter(saved)
    found: EstimatorState = tree.map(lambda like: next(rest).to(like.device), state)
    return found

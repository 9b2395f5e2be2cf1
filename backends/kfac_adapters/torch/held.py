"""`Held`: the state of a tracker, whose statistics ranks may still be sending."""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import islice
from typing import Any

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


class Saved:
    """The arrays of a saved state, until all layers have theirs.

    Args:
        saved: What `Tracker.state_dict` returned; it may be without names of layers.
    """

    def __init__(self, saved: Mapping[str, Any]) -> None:
        arrays, sizes = saved["arrays"], saved.get("layers")
        self._whole: list[torch.Tensor] | None = None
        self._cases = torch.zeros(())
        self.layers: dict[str, list[torch.Tensor]] = {}
        self.kinds: dict[str, str] = saved.get("kinds", {})
        if arrays is None:
            return
        if sizes is None:
            self._whole = arrays
            return
        rest = iter(arrays)
        self.layers = {name: [*islice(rest, n)] for name, n in sizes.items()}
        self._cases = next(rest)

    def __bool__(self) -> bool:
        """Return whether there are arrays left."""
        return self._whole is not None or bool(self.layers)

    def told(self) -> dict[str, Any]:
        """Return what it was made of."""
        if not self.layers:
            return {"arrays": self._whole}
        arrays = [x for own in self.layers.values() for x in own]
        sizes = {name: len(own) for name, own in self.layers.items()}
        return {"arrays": [*arrays, self._cases], "layers": sizes, "kinds": self.kinds}

    def placed(
        self, state: EstimatorState, names: Set[str], is_whole: bool
    ) -> EstimatorState:
        """Return a state with saved arrays in the place of its own, which are let go.

        Args:
            state: The state.
            names: Names of the layers that are to have theirs.
            is_whole: Whether these are all that lack them; else others keep arrays.

        Returns:
            The state; with the number of cases that was saved.

        Raises:
            StateError: If the arrays are those of a model with other layers.
        """
        if self._whole is not None:
            arrays, self._whole = self._whole, None
            found: EstimatorState = _in_place_of(state, arrays, "the saved state")
            return found
        unknown = names - self.layers.keys()
        if is_whole:
            unknown |= self.layers.keys() - names
        if unknown:
            msg = (
                f"the saved state has the layers {sorted(self.layers)}, expected"
                f" {sorted(names)}: it is of a model with other layers, or of other"
                " options"
            )
            raise StateError(msg)
        blocks = dict(state.blocks)
        for name in names:
            label = f"{name}: the saved state"
            blocks[name] = _in_place_of(blocks[name], self.layers.pop(name), label)
        (cases,) = _in_place_of((state.cases,), [self._cases], "the saved state")
        return EstimatorState(blocks, cases)


def told_of(estimator: FisherEstimator, state: EstimatorState) -> dict[str, Any]:
    """Return what a `Saved` is made of.

    Args:
        estimator: The layers.
        state: A state of them.

    Returns:
        The arrays, how many of them each layer has, and the classes of blocks.
    """
    blocks = estimator.blocks.items()
    return {
        "arrays": tree.leaves(state),
        "layers": {n: len(tree.leaves(own)) for n, own in state.blocks.items()},
        "kinds": {name: type(block).__name__ for name, block in blocks},
    }


def _in_place_of(state: Any, saved: Sequence[torch.Tensor], what: str) -> Any:
    places = tree.leaves(state)
    if len(saved) != len(places):
        msg = (
            f"{what} has {len(saved)} arrays, expected {len(places)}: it is of"
            " a model with other layers, or of other options"
        )
        raise StateError(msg)
    # Shapes are not compared: low-rank forms have none of their own at first.
    rest = iter(saved)
    return tree.map(lambda like: next(rest).to(like.device), state)

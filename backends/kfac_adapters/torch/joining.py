"""The statistics of some layers as those of more, which another pass or rank tells.

A layer that no pass of this rank used has seen as many cases as the others, and has
sums of zero for them: one process would have divided its sums by all cases.
"""

from collections.abc import Mapping
from typing import Any

import torch

from kfac_adapters.torch.blanks import Unused
from kfac_adapters.torch.held import Saved
from kfac_adapters.torch.widening import is_wider, widened
from kfac_core.estimator import EstimatorState, FisherEstimator


class Joining:
    """Takes states of some layers to those of more.

    Args:
        before: The layers before.
        after: The layers now.
        params: The parameters, by name.
        saved: Arrays of layers that there were not before; they are taken.
        is_whole: Whether no layer will come after these.
    """

    def __init__(
        self,
        before: FisherEstimator,
        after: FisherEstimator,
        params: Mapping[str, torch.Tensor],
        saved: Saved,
        is_whole: bool,
    ) -> None:
        self._before, self._after = before, after
        self._params = {layer.name: params[layer.params[0]] for layer in after.layers}
        self._empty = after.init(params)
        self.fresh = {
            name
            for name, block in after.blocks.items()
            if not self._is_known(name, block)
        }
        is_saved = bool(saved)
        if is_saved:
            self._empty = saved.placed(self._empty, self.fresh, is_whole)
        # Inverses that were saved are those of now.
        kept = {n: before.blocks[n] for n in after.blocks.keys() - self.fresh}
        rest = {n: block for n, block in after.blocks.items() if n not in self.fresh}
        self.has_inverses = kept == rest and (is_saved or not self.fresh)

    def _is_known(self, name: str, block: Any) -> bool:
        known = self._before.blocks.get(name)
        return known is not None and (known == block or is_wider(block, known))

    def of(self, state: EstimatorState) -> EstimatorState:
        """Return a state with what is known of all layers."""
        blocks: dict[str, Any] = {}
        for name, block in self._after.blocks.items():
            if name in self.fresh:
                blocks[name] = self._empty.blocks[name]
                continue
            own, known = state.blocks[name], self._before.blocks[name]
            if known != block:
                own = widened(block, known, own, self._params[name])
            blocks[name] = own
        return EstimatorState(blocks, state.cases)

    def with_unused(
        self, state: EstimatorState, unused: Unused, decay: float, weight: float
    ) -> EstimatorState:
        """Return a state with passes folded into the layers that they did not use.

        Args:
            state: The state of all layers; left as it is.
            unused: What such a pass is for these layers.
            decay: What the weights of earlier passes are multiplied by.
            weight: Weight of the passes.

        Returns:
            The state, of as many cases.
        """
        estimator, names = self._after, sorted(self.fresh)
        if not names:
            return state
        key = None
        if estimator.needs_randomness or any(
            estimator.blocks[name].needs_key for name in names
        ):
            (row, *_) = unused.loss_inputs.values()
            key = torch.Generator(row.device)
        new = estimator.update_covs(state, unused, decay, weight, key=key, layers=names)
        return state._replace(blocks=new.blocks)

"""`Products`: the passes of one step, of which products with curvature are wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.judging import Judged
from kfac_adapters.torch.loss_rows import rows_of
from kfac_adapters.torch.passes import Call, Pass
from kfac_adapters.torch.pushing import pushed
from kfac_adapters.torch.registering import LOSS
from kfac_core.errors import UnsupportedError
from kfac_core.linearization import NamedLossInputs, NamedParams
from kfac_core.typing import Array


@dataclass(frozen=True)
class Part:
    """One pass of a step.

    Attributes:
        call: How to do it again.
        rows: What went into the loss, ``[cases, n]``.
        judged: What is known of its loss.
    """

    call: Call
    rows: torch.Tensor
    judged: Judged

    @staticmethod
    def of(capture: Capture, seen: Pass, judged: Judged) -> "Part":
        """Return the part that a pass is."""
        assert seen.call is not None
        return Part(seen.call, rows_of(seen.outputs, capture.class_axis), judged)


class Products:
    """A `kfac_core.Linearization` that only pushes forward: of all passes of a step.

    Args:
        capture: The model.
        parts: The passes, one at least.
    """

    def __init__(self, capture: Capture, parts: list[Part]) -> None:
        self._capture, self._parts = capture, parts
        rows = torch.cat([part.rows for part in parts])
        half = rows.dtype.itemsize < 4
        self.batch_size = len(rows)
        self.loss_inputs: Mapping[str, Any] = {LOSS: rows.float() if half else rows}
        self.targets: Mapping[str, Any] = {}
        self.layer_inputs: Mapping[str, Any] = {}
        self.masks: Mapping[str, Any] = {}
        if any(part.judged.mask is not None for part in parts):
            self.masks = {LOSS: torch.cat([self._mask(part) for part in parts])}

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Return the change of what goes into the loss, the root of its scale in it."""
        changes = []
        for part in self._parts:
            change = pushed(self._capture, part.call, dict(tangents))
            changes.append(rows_of(change, self._capture.class_axis) * self._root(part))
        return {LOSS: torch.cat(changes).to(self.loss_inputs[LOSS].dtype)}

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Refuse: the graphs of the passes are gone.

        Raises:
            UnsupportedError: Always.
        """
        msg = f"Products: nothing pulls back {list(vectors)} after a backward pass"
        raise UnsupportedError(msg)

    def param_gradients(self, vectors: NamedLossInputs, names: Any = None) -> Any:
        """Refuse, as `output_gradients` does."""
        return self.output_gradients(vectors)

    def _root(self, part: Part) -> torch.Tensor:
        scale = part.judged.scale
        if part.judged.loss.reduction == "sum":  # over the rows of all passes
            scale = scale * (self.batch_size / len(part.rows))
        return scale.sqrt()

    @staticmethod
    def _mask(part: Part) -> torch.Tensor:
        mask = part.judged.mask
        like = part.judged.scale
        return like.new_ones(len(part.rows)) if mask is None else mask.to(like.dtype)

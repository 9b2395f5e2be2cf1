"""Whether a backward pass leaves out layers, as one for a few tensors does."""

from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from kfac_adapters.torch.record import Record


def leaves_out(record: Record, outputs: GradientEdge) -> bool:
    """Return whether the backward pass that runs will not run through some layers.

    Such is one of ``torch.autograd.grad`` for a hidden tensor or the last weight,
    before the one of the loss. A layer that no path leads to is not left out.

    Args:
        record: What the forward pass did.
        outputs: The end of its graph, which the backward pass has reached.
    """
    runs: Any = torch._C._will_engine_execute_node
    left = {use.edge.node for use in record.uses if not runs(use.edge.node)}
    return bool(left) and _leads_to(outputs.node, left)


def _leads_to(start: Any, wanted: set[Any]) -> bool:
    """Return whether a path of a graph leads from a node to one of others."""
    seen, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        if node in wanted:
            return True
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return False

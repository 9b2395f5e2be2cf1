"""`Recorder`: sees every function of PyTorch that a forward pass calls.

Functions are seen rather than modules, so that functional calls, a weight under two
names and the projections within `torch.nn.MultiheadAttention` are. What is kept of each
use of a layer are its detached inputs and its place in the graph, which gives gradients
for its outputs without a hook on any tensor of the model's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from kfac_adapters.torch.composites import COMPOSITES
from kfac_adapters.torch.rules import OPERATORS, RULES, Call


@dataclass(frozen=True)
class Use:
    """One use of a parameter by a layer.

    Attributes:
        call: The layer's call; its inputs have no graph.
        weight: Name of the weight; empty if it is no parameter that is trained.
        bias: Name of the bias, or empty.
        edge: Where the graph gives the gradient for the outputs.
        shape: Shape of the outputs.
        bias_axes: Number of axes of the bias.
    """

    call: Call
    weight: str
    bias: str
    edge: GradientEdge
    shape: tuple[int, ...]
    bias_axes: int


@dataclass
class Record:
    """What one forward pass did with the parameters.

    Attributes:
        uses: Uses of layers, in the order of the calls.
        elsewhere: For each parameter that something else uses, what that is.
    """

    uses: list[Use] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """A mode that records uses of parameters while it is entered.

    Args:
        params: The trained parameters, by name.
    """

    def __init__(self, params: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.record = Record()
        self._names = {id(param): name for name, param in params.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and note what it did with which parameter."""
        kwargs = kwargs or {}
        if not is_recording():
            return func(*args, **kwargs)
        found = {
            self._names[id(x)] for x in _tensors((args, kwargs)) if id(x) in self._names
        }
        if found and func in COMPOSITES:
            with self:
                made = COMPOSITES[func](*args, **kwargs)
            if made is not NotImplemented:
                return made
        call = None
        if found and func in RULES:
            # Before the call: what it is computed of may be changed in place by it.
            call = RULES[func](*args, **kwargs)
        elif len(found) == 1 and func in OPERATORS:
            call = self._of_operator(func, args, kwargs)
        result = func(*args, **kwargs)
        if not found or not _has_graph(result):
            return result
        found -= {self._names.get(id(result), "")}
        if call is not None and isinstance(result, torch.Tensor):
            found -= self._note(call, result)
        for name in found:
            self.record.elsewhere.setdefault(name, _name_of(func))
        return result

    def _of_operator(self, func: Any, args: Any, kwargs: Any) -> Call | None:
        """Read ``x * w`` or ``w * x``, or their like, if there is nothing else."""
        if len(args) != 2 or kwargs or not all(map(torch.is_tensor, args)):
            return None
        x, param = args if id(args[1]) in self._names else args[::-1]
        return None if id(x) in self._names else OPERATORS[func](x, param)

    def _note(self, call: Call, result: torch.Tensor) -> set[str]:
        weight, bias = (self._names.get(id(x), "") for x in (call.weight, call.bias))
        if not weight and not bias:
            return set()
        axes = call.bias.ndim if bias else 0
        kept = replace(call, weight=None, bias=None, inputs=call.inputs.detach())
        edge, shape = get_gradient_edge(result), tuple(result.shape)
        self.record.uses.append(Use(kept, weight, bias, edge, shape, axes))
        return {weight, bias}


def is_recording() -> bool:
    """Return whether what is called now is of a forward pass that has a graph."""
    # Within a backward pass it is a checkpoint's second forward pass.
    graph_task: int = torch._C._current_graph_task_id()
    return bool(torch.is_grad_enabled() and graph_task == -1)


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from _tensors(part)
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))


def _has_graph(result: Any) -> bool:
    return any(x.requires_grad for x in _tensors(result))


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", function))

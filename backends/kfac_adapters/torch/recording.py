"""`Recorder`: sees every function of PyTorch that a forward pass calls.

Functions are seen rather than modules, so that functional calls, a weight under two
names and the projections within `torch.nn.MultiheadAttention` are. What is kept of each
use of a layer are its detached inputs and its place in the graph, which gives gradients
for its outputs without a hook on any tensor of the model's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from kfac_adapters.torch.alone import (
    MadeOfOne,
    bias_with_factors,
    in_parameter,
    made_of_one,
    shift_alone,
    with_factors,
)
from kfac_adapters.torch.composites import composite
from kfac_adapters.torch.joins import Piece, joined, of_piece
from kfac_adapters.torch.made import weight_normed
from kfac_adapters.torch.matrices import einsum_of_heads
from kfac_adapters.torch.record import Record, Use
from kfac_adapters.torch.rules import (
    COPIES,
    LEFT_OPERATORS,
    OF_ONE,
    OPERATORS,
    RULES,
    SHIFTS,
    SYMMETRIC,
    Call,
    einsum,
)
from kfac_adapters.torch.rules.elementwise import scale
from kfac_adapters.torch.rules.linear import transposed
from kfac_adapters.torch.views import View, view_of


class Recorder(TorchFunctionMode):
    """A mode that records uses of parameters while it is entered.

    Args:
        params: The trained parameters, by name.
    """

    def __init__(self, params: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.record = Record(params)
        self._params = params
        self._views = {id(param): View(name) for name, param in params.items()}
        self._of_one: dict[int, MadeOfOne] = {}
        self._joined: dict[int, tuple[Piece, ...]] = {}
        self._as_matrix: dict[int, int] = {}  # by the id of the matrix
        self._made: list[torch.Tensor] = []  # kept, so that no other has its id

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and note what it did with which parameter."""
        kwargs = kwargs or {}
        if not is_recording():
            return func(*args, **kwargs)
        found = self._known_in(args, kwargs)
        alone = () if kwargs else args
        made_of = composite(func, alone, self._is_view_of_one) if found else None
        if made_of is not None:
            with self:
                return made_of(*args, **kwargs)
        # Before the call: what it is computed of may be changed in place by it.
        call = self._call(func, args, kwargs) if found else None
        result = func(*args, **kwargs)
        own = [x for x in _tensors(result) if x.requires_grad]
        for x in own if func is not torch.Tensor.register_hook else args[:1]:
            self.record.hearers.add(x)
        if not found or not own:
            return result
        found.discard(id(result))
        pieces = joined(func, args, self._is_view_of_one)
        made = weight_normed(func, args, self._views)
        if call is not None and isinstance(result, torch.Tensor):
            noted = self._note(call, result)
            found -= noted | {self._as_matrix.get(own, own) for own in noted}
        elif made is not None:
            self.record.made[made.name] = made
            self._views[id(result)] = View(made.name)
            self._made.append(result)
            return result
        elif pieces:
            self._joined[id(result)] = pieces
            self._made += [*_tensors((args, result))]
            return result
        elif len(found) == 1 and (
            self._is_view(func, args, result, *found)
            or self._is_of_one(func, args, kwargs, result)
        ):
            return result
        for used in found:
            for piece in self._joined.get(used, (Piece(used, 0, 0),)):
                self.record.elsewhere.setdefault(self._used(piece.id), _name_of(func))
        return result

    def _is_view_of_one(self, x: torch.Tensor) -> bool:
        return id(x) in self._views

    def _known_in(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
        """Return the ids of arguments that are parameters, or made of them."""
        # It runs for every function that a model calls, so that it calls none itself.
        views, pieces, found = self._views, self._joined, set[int]()
        parts = [*args, *kwargs.values()]
        for x in parts:
            if isinstance(x, torch.Tensor):
                if id(x) in views or id(x) in pieces:
                    found.add(id(x))
            elif isinstance(x, tuple | list):
                parts.extend(x)
            elif isinstance(x, dict):
                parts.extend(x.values())
        return found

    def _call(self, func: Any, args: Any, kwargs: Any) -> Call | None:
        """Read a call of a function that is a layer, of at least one parameter."""
        if func in RULES:
            return RULES[func](*args, **kwargs)
        if func in OF_ONE and args and id(args[0]) in self._views:
            return OF_ONE[func](args, kwargs, self._shape(args[0]))
        if func is torch.einsum:
            equation, *operands = args
            own = operands[0] if isinstance(operands[0], list | tuple) else operands
            found = einsum(equation, own, self._is_view_of_one)
            return found or self._of_matrix(equation, own)
        if len(args) != 2 or kwargs or not all(map(torch.is_tensor, args)):
            return None
        x, param = args
        if func in LEFT_OPERATORS and id(x) in self._views:
            if id(param) in self._views:
                return None
            return LEFT_OPERATORS[func](x, param, self._shape(x))
        if func in SYMMETRIC and id(x) in self._views:
            x, param = param, x
        is_alike = x.shape == param.shape and x.ndim > 1 and not x.requires_grad
        if OPERATORS.get(func) is scale and is_alike:
            return None  # a weight times constants, of which another one is made
        if func not in OPERATORS or id(x) in self._views:
            return None  # a parameter that is made of two is of no layer
        if id(param) not in self._views:
            return None
        return OPERATORS[func](x, param, self._shape(param))

    def _of_matrix(self, equation: str, operands: Any) -> Call | None:
        """Read a product with a parameter of more than two axes."""
        found = einsum_of_heads(equation, operands, self._views)
        if found is None:
            return None
        call, matrix, param = found
        known = self.record.made.setdefault(matrix.name, matrix)
        if known != matrix or id(param) in self._of_one:
            return None
        self._views[id(call.weight)] = View(matrix.name)
        self._as_matrix[id(call.weight)] = id(param)
        self._made.append(call.weight)
        return call

    def _shape(self, x: torch.Tensor) -> tuple[int, ...]:
        """Return the shape of a parameter, of which a tensor may be a view."""
        view = self._views[id(x)]
        return tuple((self._params[view.name] if view.is_reshaped else x).shape)

    def _note(self, call: Call, result: torch.Tensor) -> set[int]:
        """Add a use, and return the parameters that it is of, or none."""
        own = [x for x in (call.weight, call.bias) if id(x) in self._views]
        pieces = self._joined.get(id(call.bias), ())
        if not own and not pieces:
            return set()
        views = [self._views[id(x)] for x in own]
        if call.kind != "linear" and any(view.is_transposed for view in views):
            return set()
        alone = call.kind == "shift" or (call.kind == "scale" and call.bias is None)
        if not alone and any(view.is_reshaped for view in views):
            return set()
        weight, bias = (
            self._used(id(x)) if id(x) in self._views else ""
            for x in (call.weight, call.bias)
        )
        if weight and self._views[id(call.weight)].is_transposed:
            call = transposed(call)
        axes = len(self._shape(call.bias)) if bias else 0
        kept = replace(call, weight=None, bias=None, inputs=call.inputs.detach())
        edge, shape = get_gradient_edge(_lasting(result)), tuple(result.shape)
        of_weight, of_bias = (self._of_one.get(id(x)) for x in (call.weight, call.bias))
        plain = kept
        if of_weight is not None:
            own_shape = tuple(self._own(weight, of_weight).shape)
            factor = in_parameter(of_weight, own_shape)
            kept = with_factors(kept, factor, of_weight.steps)
        is_apart = of_bias is not None or kept.pulls is not plain.pulls
        is_apart |= kept.refused != plain.refused
        if bias and is_apart:
            shift = shift_alone(plain, shape) if weight else plain
            if of_bias is not None:
                own_shape = tuple(self._own(bias, of_bias).shape)
                shift = bias_with_factors(shift, in_parameter(of_bias, own_shape))
            self.record.uses.append(Use(shift, "", bias, edge, shape, axes))
            bias = ""
        if weight or bias:
            self.record.uses.append(Use(kept, weight, bias, edge, shape, axes))
        for piece in pieces:
            shift, name = of_piece(plain, piece, shape), self._used(piece.id)
            self.record.uses.append(Use(shift, "", name, edge, shape, 1))
        return {*map(id, own), *([id(call.bias)] if pieces else [])}

    def _is_view(self, func: Any, args: Any, result: Any, of: int) -> bool:
        """Note views of a parameter, if a function has made these and nothing else."""
        own = self._views.get(of)
        if own is None:  # joined of several
            return False
        name = own.part.param if own.part else own.name
        if name in self.record.made:
            return False
        tensors = [*_tensors(result)]
        made = self._of_one.get(of)
        views = [
            view_of(x, self._params[name] if made is None else made.base, name)
            for x in tensors
        ]
        # Other numbers, with the same gradient.
        shifted = args[: SHIFTS.get(func, 0)]
        like = [x for x in shifted if id(x) == of and x.shape == tensors[0].shape]
        if func in COPIES or like:
            views = [own]
        known = [view for view in views if view is not None]
        if len(known) < len(views):
            return False
        if made is not None and views == [own]:
            self._of_one[id(tensors[0])] = replace(made, base=tensors[0])
        elif made is not None:
            if own != View(name):
                return False
            self._of_one |= {
                id(x): made.of_view(view)
                for x, view in zip(tensors, known, strict=True)
            }
        self._views |= {id(x): view for x, view in zip(tensors, known, strict=True)}
        self._made += tensors
        return True

    def _is_of_one(self, func: Any, args: Any, kwargs: Any, result: Any) -> bool:
        """Note what is made of a parameter entry by entry, if it is."""
        made = made_of_one(func, args, kwargs, result, self._views, self._of_one)
        if made is None or made.view.name in self.record.made:
            return False
        self._views[id(result)], self._of_one[id(result)] = made.view, made
        self._made.append(result)
        return True

    def _own(self, name: str, made: MadeOfOne) -> torch.Tensor:
        """Return a parameter, or the part of it that something is made of."""
        part = made.view.part
        if part is None:
            return self._params[name]
        whole = self._params[part.param]
        own = whole[part.start] if part.is_stacked else whole[part.start : part.stop]
        return own.detach()

    def _used(self, tensor: int) -> str:
        """Return the name of a parameter that is used, or of its part."""
        view = self._views[tensor]
        if view.part is not None:
            self.record.parts[view.name] = view.part
        return view.name


def _lasting(result: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same numbers whose place in the graph stays.

    Whatever changes a view in place takes it out of the graph, as an activation does
    with the outputs of a linear layer, which are a view of a matrix for inputs of three
    axes. What it is a view of stays.
    """
    base = result._base
    if base is None or base.numel() != result.numel() or base.grad_fn is None:
        return result
    try:
        alike = base.detach().view(result.shape)
    except RuntimeError:  # of another order
        return result
    return base if alike.stride() == result.stride() else result


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


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", function))

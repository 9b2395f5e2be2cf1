"""Functions of PyTorch that are several layers, as what they are made of.

`Recorder` calls these in place of the functions, and sees the layers. They compute the
same, but for rounding.
"""

from collections.abc import Sequence
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch import recurrent
from kfac_adapters.torch.stacks import IsParam, of_stack


def _descended(function: Any) -> Any:
    """Return a Python function of PyTorch that calls what it is made of.

    The function itself would hand the call to the mode as a whole, and once more for
    ever. This one has the same code, and takes no tensor for one with a mode.
    """
    seen = {**function.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(
        function.__code__,
        seen,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _grouped_mm(
    mat_a: torch.Tensor,
    mat_b: torch.Tensor,
    offs: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Multiply the rows of each group by a matrix of its own, as experts do.

    Args:
        mat_a: ``[rows, in]``, the rows of a group one after another.
        mat_b: ``[groups, in, out]``.
        offs: Where the rows of each group end, ``[groups]``.
        bias: What is added.
        out_dtype: Type of the result.

    Returns:
        ``[rows, out]``.
    """
    stops = [] if offs is None else offs.tolist()
    if mat_a.ndim != 2 or mat_b.ndim != 3 or bias is not None or not stops:
        with torch._C.DisableTorchFunction():
            return functional.grouped_mm(
                mat_a, mat_b, offs=offs, bias=bias, out_dtype=out_dtype
            )
    rows = torch.tensor_split(mat_a, stops)
    made = [x @ mat_b[i] for i, x in enumerate(rows[:-1])]
    whole = torch.cat([*made, rows[-1].new_zeros(len(rows[-1]), mat_b.shape[-1])])
    return whole if out_dtype is None else whole.to(out_dtype)


COMPOSITES: dict[Any, Any] = {
    functional.multi_head_attention_forward: _descended(
        functional.multi_head_attention_forward
    ),
    functional.grouped_mm: _grouped_mm,
    torch._grouped_mm: _grouped_mm,
    torch.lstm_cell: recurrent.cell(recurrent.lstm_gates, whole=True),
    torch.gru_cell: recurrent.cell(recurrent.gru_gates),
    torch.rnn_tanh_cell: recurrent.cell(recurrent.tanh_gates),
    torch.rnn_relu_cell: recurrent.cell(recurrent.relu_gates),
    torch.lstm: recurrent.unrolled(recurrent.lstm_gates, whole=True),
    torch.gru: recurrent.unrolled(recurrent.gru_gates),
    torch.rnn_tanh: recurrent.unrolled(recurrent.tanh_gates),
    torch.rnn_relu: recurrent.unrolled(recurrent.relu_gates),
}
"""For each such function one that calls the layers."""


def composite(
    function: Any, args: Sequence[Any] = (), is_param: IsParam = lambda _: False
) -> Any:
    """Return what is called in place of a function; None: the function itself.

    A checkpoint calls the function again without a recorder, and takes the tensors that
    are saved then for those of the first time. So they must be saved by the same code,
    which that of a recurrent network is not.

    Args:
        function: The function.
        args: Its arguments, if it has none by name.
        is_param: Whether one of these is a parameter.
    """
    found = COMPOSITES.get(function) or of_stack(function, args, is_param)
    if found is None or function is functional.multi_head_attention_forward:
        return found
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return found if hooks is None else None

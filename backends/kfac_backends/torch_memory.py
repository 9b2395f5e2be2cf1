"""The memory of tensors: which tensors can be written to, and lent to NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from kfac_core.typing import Array

OF_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
"""The dtypes in which NumPy computes, with NumPy's names."""

_SCALARS: dict[torch.dtype, type] = {**OF_NUMPY, torch.bool: np.bool_}

LARGEST_OF_ONE_THREAD = 64
"""Largest size of matrices that SciPy factorises, and NumPy squares, on one thread.

PyTorch takes several for matrices of two rows, and waits for the last of them.
"""

PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)
"""Types of tensors that hold plain numbers; other subclasses may mean anything."""


def check_tensor(x: Any) -> None:
    """Refuse sparse, quantized and other tensors that PyTorch cannot compute with.

    Args:
        x: Anything.

    Raises:
        TypeError: If it is not a strided tensor of numbers, or one of eight bits.
    """
    if not isinstance(x, torch.Tensor):
        msg = f"expected a torch.Tensor, got {type(x).__name__}"
        raise TypeError(msg)
    kind = type(x)
    of_class = kind is not torch.Tensor and _FORMS.get(_named(kind))
    if of_class:
        msg = f"expected a plain torch.Tensor, got {of_class}"
        raise TypeError(msg)
    if x.layout != torch.strided or x.is_quantized or x.is_nested:
        form = "quantized" if x.is_quantized else str(x.layout)
        form = "nested" if x.is_nested else form
        msg = (
            f"expected a strided torch.Tensor, got a {form} one: convert it with"
            " .to_dense(), .dequantize() or .to_padded_tensor(0.0)"
        )
        raise TypeError(msg)
    if isinstance(x, FakeTensor) and not torch._C._len_torch_dispatch_stack():
        msg = (
            "expected a tensor with values, got a FakeTensor outside of its mode:"
            " call this within `with x.fake_mode:`"
        )
        raise TypeError(msg)
    if x.dtype.itemsize == 1 and x.dtype.is_floating_point:
        msg = (
            f"expected at least half precision, got a tensor of {x.dtype}, which"
            " PyTorch cannot add: convert it with .float(), and apply its scale"
        )
        raise TypeError(msg)


def _named(kind: type) -> tuple[str, str]:
    """Return the class of a tensor: its package's first two names, and its own."""
    return ".".join(kind.__module__.split(".")[:2]), kind.__name__


_FORMS = {
    ("torch.distributed", "DTensor"): (
        "a DTensor, which is spread over processes: give .full_tensor() of it, which"
        " all of them must call"
    ),
    ("torch.masked", "MaskedTensor"): (
        "a MaskedTensor: take .to_tensor(0.0) of it, and give weights for rows that do"
        " not count"
    ),
    ("torch.nn", "UninitializedParameter"): (
        "an UninitializedParameter: call its module once, or .materialize(shape)"
    ),
    ("torch.nn", "UninitializedBuffer"): (
        "an UninitializedBuffer: call its module once, or .materialize(shape)"
    ),
}
"""Subclasses that PyTorch does not compute with as numbers -> what they are."""


def is_traced(x: Any) -> bool:
    """Return whether `x` is being compiled, has no storage, or is mapped over."""
    # Dynamo takes the first condition for a constant, and never reads the rest.
    return (
        torch.compiler.is_compiling()
        or isinstance(x, FakeTensor)
        or x.is_meta
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def is_for_numpy(a: Any, *others: Any, of_one_thread: bool = False) -> bool:
    """Return whether NumPy may compute on the memory of tensors, and is faster.

    Args:
        a: The matrix to compute with.
        *others: Tensors of its dtype and device.
        of_one_thread: Whether NumPy takes one thread for it, however many it has.
    """
    # NumPy has SYRK, which PyTorch lacks, but also threads of its own. Where both
    # libraries have several threads, each waits until those of the other come to rest.
    if torch.compiler.is_compiling():
        return False
    if not of_one_thread and torch.get_num_threads() > 1:
        return False
    return is_plain_matrix(a, *others)


def is_plain_matrix(a: Any, *others: Any) -> bool:
    """Return whether `a` is a matrix of plain memory on the CPU, that NumPy knows.

    Args:
        a: A tensor.
        *others: Tensors of its dtype and device; are they plain, too?
    """
    if torch.compiler.is_compiling() or not a.is_cpu:
        return False
    return a.ndim == 2 and a.dtype in OF_NUMPY and _are_plain_now(a, *others)


def is_small(a: Any) -> bool:
    """Return whether one thread is enough for a matrix."""
    small: bool = a.shape[-1] <= LARGEST_OF_ONE_THREAD
    return small


def are_plain(*tensors: Any) -> bool:
    """Return whether no subclass or transformation watches the tensors."""
    return not torch.compiler.is_compiling() and _are_plain_now(*tensors)


def known_number(x: Any) -> Any:
    """Return the number of a plain 0-d tensor on the CPU as NumPy's; else None."""
    if torch.compiler.is_compiling() or x.shape or not x.is_cpu:
        return None
    kind = _SCALARS.get(x.dtype)
    return kind(x.item()) if kind is not None and _are_plain_now(x) else None


def _are_plain_now(*tensors: Any) -> bool:
    """Return what `are_plain` does, where nothing is being compiled."""
    differentiates = torch.is_grad_enabled()
    for x in tensors:
        # A subclass or a transformation would give the tensor another meaning.
        if (
            type(x) not in PLAIN_TYPES
            or x.is_meta
            or torch._C._functorch.is_functorch_wrapped_tensor(x)
        ):
            return False
        if differentiates and x.requires_grad:
            return False
    return (
        not torch._C._len_torch_dispatch_stack()
        and not torch._C._is_tracing()
        and forward_ad._current_level < 0
    )


def empty_like(x: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Return a tensor in C order to write to, of the shape of `x` or another."""
    shape = tuple(x.shape) if shape is None else shape
    if x.is_cpu and x.dtype in OF_NUMPY:
        # NumPy asks the system for large pages: fresh memory takes a quarter of the
        # time.
        return torch.from_numpy(np.empty(shape, OF_NUMPY[x.dtype]))
    return torch.empty(shape, dtype=x.dtype, device=x.device)


def by_numpy(function: Callable[..., Any], *arrays: Any) -> Array:
    """Apply a NumPy function to the memory of tensors, which is not copied."""
    values = [x.numpy(force=True) for x in arrays]
    # PyTorch does not warn of overflow, and so neither must NumPy.
    with np.errstate(all="ignore"):
        result: Array = torch.from_numpy(function(*values))
    return result

"""Whether what the modules of a model compute can be seen."""

from functools import cache
from typing import Any

import torch

from kfac_core.errors import UnsupportedError

_COMPILED = (
    "is compiled, and its functions cannot be seen; give the model before torch.compile"
    " (compiled._orig_mod)"
)
_SCRIPT = "is a script, whose functions cannot be seen; give the module that it is of"
_REPLICAS = (
    "has replicas, whose parameters are copies; give the module that it holds"
    " (.module), or use DistributedDataParallel"
)
_SHARDED = (
    "has parameters in shards, and none of a layer's shape; give the module before"
    " fully_shard or FullyShardedDataParallel, and use DistributedDataParallel"
)
_DISTRIBUTED = (
    "has a DTensor among its parameters, of which a rank has a part; give the module"
    " before distribute_module or parallelize_module, and use DistributedDataParallel"
)


def check_visible(model: torch.nn.Module) -> None:
    """Check that nothing hides what a module of a model computes.

    Args:
        model: The model.

    Raises:
        UnsupportedError: If a module is compiled, a script, or is run as replicas or in
            shards, or has a parameter that is a ``DTensor``.
    """
    for module in model.modules():
        reason = _hidden(module)
        if reason:
            name = next(n for n, own in model.named_modules() if own is module)
            msg = f"the module {name or 'that is the model'!r} {reason}"
            raise UnsupportedError(msg)


def _hidden(module: torch.nn.Module) -> str:
    """Return why nothing is seen of a module, or an empty text."""
    kind: Any = type(module)
    kinds = _names_of(kind)
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    if compiled or "OptimizedModule" in kinds:
        return _COMPILED
    if "ScriptModule" in kinds:
        return _SCRIPT
    if "DataParallel" in kinds and len(module.device_ids) > 1:
        return _REPLICAS
    if kinds & {"FullyShardedDataParallel", "FSDPModule"}:
        return _SHARDED
    for param in module._parameters.values():
        kind = type(param)
        if kind is not torch.nn.Parameter and "DTensor" in _names_of(kind):
            return _DISTRIBUTED
    return ""


@cache
def _names_of(kind: Any) -> frozenset[str]:
    """Return the names of a class and of all that it is made of."""
    return frozenset(one.__name__ for one in kind.__mro__)

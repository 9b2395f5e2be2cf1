"""Whether what the modules of a model compute can be seen."""

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
    for name, module in model.named_modules():
        reason = _hidden(module)
        if reason:
            msg = f"the module {name or 'that is the model'!r} {reason}"
            raise UnsupportedError(msg)


def _hidden(module: torch.nn.Module) -> str:
    """Return why nothing is seen of a module, or an empty text."""
    kinds = {kind.__name__ for kind in type(module).__mro__}
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    if compiled or "OptimizedModule" in kinds:
        return _COMPILED
    if "ScriptModule" in kinds:
        return _SCRIPT
    if "DataParallel" in kinds and len(module.device_ids) > 1:
        return _REPLICAS
    sharded = {"FullyShardedDataParallel", "FSDPModule"}
    if kinds & sharded:
        return _SHARDED
    own = (type(param).__mro__ for param in module.parameters(recurse=False))
    names = {kind.__name__ for mro in own for kind in mro}
    return _DISTRIBUTED if "DTensor" in names else ""

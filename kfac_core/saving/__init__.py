"""States as arrays by name: in a file, or in whatever format stores arrays."""

from kfac_core.saving.file import load, load_arrays, save
from kfac_core.saving.names import state_to_dict
from kfac_core.saving.restoring import from_tree, state_from_dict
from kfac_core.state_classes import state_classes

__all__ = [
    "from_tree",
    "load",
    "load_arrays",
    "save",
    "state_classes",
    "state_from_dict",
    "state_to_dict",
]

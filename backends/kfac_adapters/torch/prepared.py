"""`PreparedEstimator`: one whose small layers check the form of their data once.

A model that is trained gives data of the same form at every step. A small layer takes
longer to check that, by functions of Python, than to compute: `kfac_core.prepared` does
the checks of forms once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from kfac_core import tree
from kfac_core.estimator import FisherEstimator
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.loss_functions import LossFunction
from kfac_core.recording import prepared

LARGEST_PREPARED = 2**20
"""Number of entries of a verb's arguments up to which it is prepared.

A run that is recorded keeps all that it computes until it is over; beside the
arithmetic of more entries, checks take no time.
"""


@dataclass(frozen=True)
class PreparedEstimator(FisherEstimator):
    """A `FisherEstimator` of the same results, bit for bit, and the same errors."""

    _prepared: dict[tuple[int, str], Callable[..., Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def _verb(
        self, spec: FisherBlock[Any] | LossFunction, name: str
    ) -> Callable[..., Any]:
        """Return a verb of a block or a loss, which its first call prepares."""
        key = (id(spec), name)  # layers and losses are as old as this
        known = self._prepared.get(key)
        if known is not None:
            return known

        def first(*args: Any, **kwargs: Any) -> Any:
            verb: Callable[..., Any] = getattr(spec, name)
            if _is_frozen(spec) and not spec.calls_a_model and _is_small(args):
                verb = prepared(verb)
            self._prepared[key] = verb
            return verb(*args, **kwargs)

        return first


def _is_frozen(spec: FisherBlock[Any] | LossFunction) -> bool:
    """Return whether nothing of a spec changes: a class of a user's may let it."""
    params = vars(type(spec)).get("__dataclass_params__")
    return params is not None and params.frozen


def _is_small(args: tuple[Any, ...]) -> bool:
    arrays = [x for x in tree.leaves(args) if isinstance(x, torch.Tensor)]
    entries: int = sum(x.numel() for x in arrays)
    return entries <= LARGEST_PREPARED

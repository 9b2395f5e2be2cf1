"""K-FAC of unmodified PyTorch models.

- `KFAC`: a `torch.optim.Optimizer`, for an ordinary training loop;
- `Preconditioner`: the curvature alone, before any other optimiser;
- `capture`: a model as layers and linearizations, for whatever else they are good for;
- `ProcessGroup`: a group of `torch.distributed` as a collective.
"""

from kfac_adapters.coverage import Coverage
from kfac_adapters.torch.capture import Capture, capture
from kfac_adapters.torch.kfac import KFAC
from kfac_adapters.torch.linearized import Linearized
from kfac_adapters.torch.preconditioner import Preconditioner
from kfac_adapters.torch.process_group import ProcessGroup
from kfac_adapters.torch.skipping import StepReport

__all__ = [
    "KFAC",
    "Capture",
    "Coverage",
    "Linearized",
    "Preconditioner",
    "ProcessGroup",
    "StepReport",
    "capture",
]

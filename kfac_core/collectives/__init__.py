"""Several processes: what they exchange, and who computes what.

`Collective` is all that is asked of an engine: a sum over all ranks, and a copy from
one. `SingleProcess` is that of one process; those of PyTorch, MPI and JAX are in
`kfac_adapters`. All else here is pure: how states become few flat buffers, which rank
inverts which layer, and what a step costs.
"""

from kfac_core.collectives.assignment import assigned, inverse_cost, makespan
from kfac_core.collectives.costs import StepCosts, packed_size, step_costs
from kfac_core.collectives.counting import Counted
from kfac_core.collectives.packing import packed, unpacked
from kfac_core.collectives.protocol import Collective, Splittable, Starting
from kfac_core.collectives.shared_estimator import SharedEstimator
from kfac_core.collectives.single import SingleProcess
from kfac_core.collectives.teams import Teams, teams_of

__all__ = [
    "Collective",
    "Counted",
    "SharedEstimator",
    "SingleProcess",
    "Splittable",
    "Starting",
    "StepCosts",
    "Teams",
    "assigned",
    "inverse_cost",
    "makespan",
    "packed",
    "packed_size",
    "step_costs",
    "teams_of",
    "unpacked",
]

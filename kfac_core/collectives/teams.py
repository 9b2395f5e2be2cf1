"""Teams of ranks, each of which keeps the inverses of some layers.

The ranks stand in a grid. A row is a team, of neighbours: the inverses of a layer are
computed by one rank, and go to its team alone. A column has one rank of each team:
within it each rank sends the products with the inverses of its team to the others. So
KAISA (Pauloski et al., 2021, SC '21) trades memory for communication: one team is
communication-optimal, and teams of one rank are memory-optimal.
"""

from dataclasses import dataclass

from kfac_core.collectives.assignment import LABEL
from kfac_core.collectives.costs import workers_for
from kfac_core.collectives.protocol import Collective, Splittable
from kfac_core.collectives.single import SingleProcess
from kfac_core.errors import UnsupportedError


@dataclass(frozen=True)
class Teams:
    """The ranks in teams, as one of them sees it; see the module.

    Attributes:
        ranks: All ranks.
        team: Those of the team of this rank.
        across: One of each team: those at the place of this rank in its team.

    Example:
        >>> from types import SimpleNamespace as Group
        >>> teams = Teams(  # rank 5 of 8, in teams of two
        ...     ranks=Group(rank=5, size=8),
        ...     team=Group(rank=1, size=2),
        ...     across=Group(rank=2, size=4),
        ... )
        >>> teams.number, teams.of(0), teams.of(7), teams.keeps
        (2, 0, 3, (2, 2))
    """

    ranks: Collective
    team: Collective
    across: Collective

    @property
    def number(self) -> int:
        """The number of the team of this rank."""
        return 0 if self.across.size == 1 else int(self.across.rank)

    def of(self, rank: int) -> int:
        """Return the number of a rank's team."""
        return rank // self.team.size

    @property
    def keeps(self) -> tuple[int, int] | None:
        """How many ranks a team has, and which it is; None: there is one."""
        return None if self.across.size == 1 else (self.team.size, self.number)


def teams_of(collective: Collective, fraction: float) -> Teams:
    """Return the ranks in teams; all ranks call it together.

    Args:
        collective: All ranks.
        fraction: The fraction of them in each team; see `workers_for`.

    Returns:
        The teams.

    Raises:
        ArgumentError: If the fraction is not in [0, 1].
        UnsupportedError: If there are several teams, and the engine has no groups.

    Example:
        >>> teams_of(SingleProcess(), 0.5).team.size
        1
    """
    size = collective.size
    workers = workers_for(fraction, size)
    if workers == size:
        return Teams(collective, collective, SingleProcess())
    if not isinstance(collective, Splittable):
        msg = (
            f"{LABEL}: a {type(collective).__name__} has no method split, expected one"
            f" where {workers} of {size} ranks keep each inverse; take a fraction of 1"
        )
        raise UnsupportedError(msg)
    rows = [range(start, start + workers) for start in range(0, size, workers)]
    columns = [range(start, size, workers) for start in range(workers)]
    return Teams(collective, collective.split(rows), collective.split(columns))

"""What a step of K-FAC costs each of several ranks, in bytes and flops.

Between the ranks go the statistics, as triangles; the inverses, each from the rank that
computed it; and, where not all ranks keep an inverse, the products with it. KAISA
(Pauloski et al., 2021, SC '21) has one number for that: the fraction of the ranks that
keep the inverses of a layer. Where all of them do, products cost no communication, and
memory is that of one process (communication-optimal); where one does, each product is
computed once, and sent to all others (memory-optimal).
"""

from collections.abc import Sequence
from typing import NamedTuple

from kfac_core.arguments.sizes import as_size
from kfac_core.collectives.assignment import LABEL, assigned, inverse_cost, makespan
from kfac_core.errors import ArgumentError


class StepCosts(NamedTuple):
    """What the rank that has most of it sends, receives, computes or keeps.

    Attributes:
        workers: How many ranks keep the inverses of a layer.
        statistics_bytes: The buffer of statistics that is summed over all ranks.
        sent_bytes: What a ring sends of it from each rank: ``2 (p - 1) / p`` of it.
        inverse_bytes: Inverses that come from other ranks.
        product_bytes: Products with inverses that come from other ranks, each step.
        kept_bytes: Inverses that are kept, as whole matrices.
        inverse_flops: Inverses that it computes, by ``n^3``.
        product_flops: Products with inverses that it computes, each step.

    Example:
        >>> one_keeps = step_costs([(4609, 512)] * 4, ranks=4, fraction=0.25)
        >>> all_keep = step_costs([(4609, 512)] * 4, ranks=4, fraction=1.0)
        >>> for costs in (one_keeps, all_keep):  # MB of inverses, MB of products
        ...     print(costs.inverse_bytes // 10**6, costs.product_bytes // 10**6)
        0 28
        129 0
    """

    workers: int
    statistics_bytes: int
    sent_bytes: int
    inverse_bytes: int
    product_bytes: int
    kept_bytes: int
    inverse_flops: int
    product_flops: int


def packed_size(n: int) -> int:
    """Return how many numbers the triangle of a symmetric matrix has.

    Example:
        >>> packed_size(4608)
        10619136
    """
    return n * (n + 1) // 2


def workers_for(fraction: float, ranks: int) -> int:
    """Return how many ranks keep the inverses of a layer.

    Args:
        fraction: The fraction of the ranks, in [0, 1].
        ranks: The number of ranks.

    Returns:
        The divisor of `ranks` that is nearest to the fraction of it; of two the larger.

    Raises:
        ArgumentError: If the fraction is not in [0, 1], or there is no rank.

    Example:
        >>> [workers_for(fraction, 8) for fraction in (0, 0.25, 0.5, 1)]
        [1, 2, 4, 8]
    """
    count = as_size(ranks, "ranks", LABEL)
    if not 0 <= fraction <= 1:
        msg = f"{LABEL}: fraction is {fraction!r}, expected a number in [0, 1]"
        raise ArgumentError(msg)
    divisors = [k for k in range(1, count + 1) if count % k == 0]
    return min(divisors, key=lambda k: (abs(k - fraction * count), -k))


def step_costs(
    layers: Sequence[tuple[int, int]],
    ranks: int,
    fraction: float = 1.0,
    itemsize: int = 4,
) -> StepCosts:
    """Return what a step costs that updates statistics and inverses.

    Args:
        layers: For each layer the number of rows of both factors, which are dense: of
            the inputs, with one for a bias, and of the output gradients.
        ranks: The number of ranks, ``p``.
        fraction: The fraction of them that keeps the inverses of a layer; the ranks
            that do are neighbours.
        itemsize: Bytes of a number.

    Returns:
        The costs.

    Raises:
        ArgumentError: If the fraction is not in [0, 1], or there is no rank.

    Example:
        >>> costs = step_costs([(3, 2), (2, 2)], ranks=2)
        >>> costs.statistics_bytes, costs.inverse_bytes, costs.product_bytes
        (60, 36, 0)
    """
    workers = workers_for(fraction, ranks)
    cubes = [inverse_cost(sizes) for sizes in layers]
    owners = assigned(cubes, ranks)
    triangles = [itemsize * sum(map(packed_size, sizes)) for sizes in layers]
    statistics = sum(triangles)
    received = dict.fromkeys(range(ranks), 0)
    teams = range(ranks // workers)
    of_team = {team: [0, 0, 0, 0] for team in teams}
    for (a, g), owner, triangle in zip(layers, owners, triangles, strict=True):
        received[owner] -= triangle
        own = of_team[owner // workers]
        sums = (triangle, itemsize * a * g, itemsize * (a * a + g * g))
        for place, number in enumerate((*sums, 2 * a * g * (a + g))):
            own[place] += number
    products = sum(own[1] for own in of_team.values())
    return StepCosts(
        workers,
        statistics,
        2 * (ranks - 1) * statistics // ranks,
        max(of_team[rank // workers][0] + own for rank, own in received.items()),
        max(products - own[1] for own in of_team.values()),
        max(own[2] for own in of_team.values()),
        int(makespan(cubes, owners)),
        max(own[3] for own in of_team.values()),
    )

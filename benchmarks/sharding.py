"""What a step costs each of 8 to 4,096 ranks: tables of the page on it.

They are arithmetic of the layers' sizes; ``python -m benchmarks.sharding`` prints them.
"""

from collections.abc import Iterator

from benchmarks.layer_lists import NETWORKS
from kfac_core.collectives import step_costs

RANKS = tuple(2**k for k in range(3, 13))
"""From 8 to 4,096."""

HEADER = (
    *("ranks", "sent of statistics", "inverses received", "Gflop of inverses"),
    *("kept, of all", "kept, of one", "products received, of one"),
    *("Gflop of products, of all", "of one"),
)


def table(network: str) -> str:
    """Return what a step costs a rank, as a table in Markdown.

    Args:
        network: A name of `benchmarks.layer_lists.NETWORKS`.

    Returns:
        The table, bytes in MiB of float32. Where inverses are kept by all ranks, no
        products are received, and where by one, no inverses.
    """
    return "\n".join(_lines(network))


def _lines(network: str) -> Iterator[str]:
    layers = NETWORKS[network]()
    yield _line(*HEADER)
    yield _line(*["--:"] * len(HEADER))
    for ranks in RANKS:
        of_all, of_one = (step_costs(layers, ranks, k) for k in (1, 0))
        yield _line(
            f"{ranks:,}",
            _mib(of_all.sent_bytes),
            _mib(of_all.inverse_bytes),
            f"{of_all.inverse_flops / 1e9:,.1f}",
            _mib(of_all.kept_bytes),
            _mib(of_one.kept_bytes),
            _mib(of_one.product_bytes),
            f"{of_all.product_flops / 1e9:,.1f}",
            f"{of_one.product_flops / 1e9:,.1f}",
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for name in NETWORKS:
        print(f"{name}\n\n{table(name)}\n")

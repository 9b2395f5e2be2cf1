"""The page on the cost of processes has bytes and flops of a step for all ranks."""

import pytest

from benchmarks.layer_lists import NETWORKS
from benchmarks.sharding import HEADER, RANKS, table
from kfac_core.collectives import assigned, inverse_cost, makespan, packed_size


def cells(line):
    return [cell.strip().replace(",", "") for cell in line.strip("|").split("|")]


def test_the_page_is_of_8_to_4096_ranks_and_three_networks():
    assert RANKS == (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    assert len(NETWORKS) == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_each_line_is_what_the_layers_sizes_say(name):
    """The numbers are computed here once more, from the definitions."""
    layers = NETWORKS[name]()
    head, _, *lines = table(name).split("\n")
    assert cells(head) == [cell.replace(",", "") for cell in HEADER]
    cubes = [inverse_cost(sizes) for sizes in layers]
    numbers = sum(packed_size(n) for sizes in layers for n in sizes)
    whole = sum(n * n for sizes in layers for n in sizes)
    products = sum(2 * a * g * (a + g) for a, g in layers)
    for ranks, line in zip(RANKS, lines, strict=True):
        found = cells(line)
        owners = assigned(cubes, ranks)
        own = [0, 0]  # what one rank keeps and multiplies, if each keeps its own alone
        for rank in range(ranks):
            mine = [s for s, owner in zip(layers, owners, strict=True) if owner == rank]
            kept = sum(n * n for sizes in mine for n in sizes)
            flops = sum(2 * a * g * (a + g) for a, g in mine)
            own = [max(own[0], kept), max(own[1], flops)]
        assert found[0] == str(ranks)
        assert found[1] == f"{2 * (ranks - 1) * 4 * numbers // ranks / 2**20:.0f}"
        assert found[3] == f"{makespan(cubes, owners) / 1e9:.1f}"
        assert found[4] == f"{4 * whole / 2**20:.0f}"
        assert found[5] == f"{4 * own[0] / 2**20:.0f}"
        assert found[7] == f"{products / 1e9:.1f}"
        assert found[8] == f"{own[1] / 1e9:.1f}"

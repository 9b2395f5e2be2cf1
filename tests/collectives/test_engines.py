"""Every engine sums over its ranks, and copies from one of them."""

import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from kfac_core.collectives import Collective, Counted, SingleProcess

RANKS = """
import numpy as np
from mpi4py import MPI
from kfac_adapters import mpi
from kfac_core.collectives import teams_of

ranks = mpi.MPI(MPI.COMM_WORLD)
x = np.arange(6.0).reshape(2, 3).T + ranks.rank
total, copy = ranks.all_reduce(x), ranks.broadcast(x, root=1)
assert np.all(total == 4 * np.arange(6.0).reshape(2, 3).T + 6), total
assert np.all(copy == np.arange(6.0).reshape(2, 3).T + 1), copy
assert np.all(x == np.arange(6.0).reshape(2, 3).T + ranks.rank)
assert ranks.all_reduce(np.asarray(0.5)).shape == ()
own, number = ranks.rank, np.asarray(float(ranks.rank))
# Groups number their ranks as they are given, and exchange at the same time.
group = ranks.split([(2, 0), (3, 1)])
assert (group.size, group.rank) == (2, [1, 1, 0, 0][own])
assert group.all_reduce(number) == [2, 4, 2, 4][own]
assert group.broadcast(number, root=0) == [2, 3, 2, 3][own]
alone = ranks.split([(rank,) for rank in range(4)])
assert (alone.size, alone.all_reduce(number)) == (1, own)
teams = teams_of(ranks, 0.5)
places = teams.number, teams.team.rank, teams.across.rank
assert places == (own // 2, own % 2, own // 2)
assert teams.across.all_reduce(number) == [2, 4, 2, 4][own]
print(f"rank {ranks.rank} of {ranks.size}")
"""


def test_one_process_is_its_own_sum():
    one, x = SingleProcess(), np.arange(3.0)
    assert isinstance(one, Collective)
    assert (one.rank, one.size) == (0, 1)
    assert one.all_reduce(x) is x is one.broadcast(x, root=0)


def test_bytes_are_counted(library):
    counted = Counted(SingleProcess())
    assert isinstance(counted, Collective)
    counted.all_reduce(library.asarray(np.zeros((2, 3), np.float32)))
    counted.all_reduce(library.asarray(np.zeros(2)))
    counted.broadcast(library.asarray(np.zeros(5, np.int8)), root=0)
    counted.broadcast(library.asarray(np.zeros(5, bool)), root=0)
    assert (counted.calls, counted.reduced, counted.copied) == (4, 40, {0: 10})
    counted.reset()
    assert (counted.calls, counted.reduced, counted.copied) == (0, 0, {})


def test_a_group_of_torch_is_a_collective(torch, tmp_path):
    adapters = import_module("kfac_adapters.torch")
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=0, world_size=1)
    try:
        group, x = adapters.ProcessGroup(), torch.arange(6.0).reshape(2, 3).T
        assert isinstance(group, Collective)
        assert (group.rank, group.size) == (0, 1)
        for found in (group.all_reduce(x), group.broadcast(x, root=0)):
            assert torch.equal(found, x)
            assert found.data_ptr() != x.data_ptr()
    finally:
        torch.distributed.destroy_process_group()


def test_a_named_axis_of_jax_is_a_collective(jax):
    axis = import_module("kfac_adapters.jax").NamedAxis("ranks")
    x = np.asarray([1.0, np.nan, 4.0])

    def mapped(own):
        return axis.all_reduce(own * axis.rank), axis.broadcast(own, root=2)

    total, copy = jax.vmap(mapped, axis_name="ranks")(np.asarray([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(total, [10.0] * 3)
    np.testing.assert_array_equal(copy, [4.0] * 3)
    _, copy = jax.vmap(mapped, axis_name="ranks")(x)  # others may hold NaN
    np.testing.assert_array_equal(copy, [4.0] * 3)
    sizes = jax.vmap(lambda _: axis.size, axis_name="ranks", out_axes=None)(x)
    assert sizes == 3


@pytest.mark.skipif(not find_spec("mpi4py"), reason="needs mpi4py")
@pytest.mark.skipif(not shutil.which("mpirun"), reason="needs mpirun")
def test_a_communicator_of_mpi_is_a_collective():
    command = ["mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "4"]
    found = subprocess.run(
        [*command, sys.executable, "-c", RANKS],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    ranks = [f"rank {rank} of 4" for rank in range(4)]
    assert sorted(found.stdout.split("\n")) == ["", *ranks]

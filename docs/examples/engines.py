"""The Fisher of a data set as a map and a reduce, on an engine with four workers.

Each worker folds its shard, here of unequal sizes, into a state of its own. `merge`
makes the state of all of them, which is that of one process to rounding. States cross
between processes as files (`pool`), pickled (`dask`), or as what MPI sends (`mpi`).

    python docs/examples/engines.py pool
    python docs/examples/engines.py dask
    mpirun -n 4 python docs/examples/engines.py mpi
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import kfac_core as kc
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

WORKERS = 4
MODEL = SequentialModel(Sequential((Dense(6, 8), Tanh(), Dense(8, 3))))
LOSS = kc.losses.CategoricalLogitsNegativeLogProbLoss()
ESTIMATOR = kc.FisherEstimator(MODEL.layer_collection(LOSS), estimation_mode="exact")
PARAMS = MODEL.init(np.random.default_rng(0), like=np.zeros(1))
DATA = np.random.default_rng(1).normal(size=(1000, 6))
SHARDS = np.split(DATA, [100, 300, 600])


def seen(inputs: np.ndarray) -> kc.EstimatorState:
    """Return the state of a worker: of its cases, each of which counts once."""
    linearization = MODEL.linearize(PARAMS, Batch(inputs))
    return ESTIMATOR.update_covs(
        ESTIMATOR.init(PARAMS), linearization, ema_decay=1.0, ema_weight=len(inputs)
    )


def saved(inputs: np.ndarray, path: Path) -> None:
    """Leave the state of a worker in a file."""
    kc.save(path, seen(inputs), ESTIMATOR)


def pool() -> kc.EstimatorState:
    """Return the union of the files that processes leave, as jobs of a cluster do."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.safetensors" for n in range(WORKERS)]
        with ProcessPoolExecutor(WORKERS, get_context("spawn")) as processes:
            list(processes.map(saved, SHARDS, paths))
        return ESTIMATOR.merge(*[kc.load(p, ESTIMATOR, like=PARAMS) for p in paths])


def dask() -> kc.EstimatorState:
    """Return the union of what a cluster of Dask computes, merged on a worker."""
    from dask import delayed
    from distributed import Client, LocalCluster

    with (
        LocalCluster(WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        states = [delayed(seen)(inputs) for inputs in SHARDS]
        union: kc.EstimatorState = delayed(ESTIMATOR.merge)(*states).compute()
    return union


def mpi() -> kc.EstimatorState | None:
    """Return the union of the ranks' states on rank 0, and None on the others."""
    from mpi4py import MPI

    ranks: Any = MPI.COMM_WORLD
    if ranks.size != WORKERS:
        sys.exit(f"expected {WORKERS} ranks, got {ranks.size}: mpirun -n {WORKERS}")
    states = ranks.gather(seen(SHARDS[ranks.rank]), root=0)
    return None if states is None else ESTIMATOR.merge(*states)


def difference(state: kc.EstimatorState) -> float:
    """Return the largest difference to the blocks of one process, relative to it."""
    whole = seen(DATA)
    found = []
    for name, block in ESTIMATOR.blocks.items():
        truth = block.full_fisher_block(whole.blocks[name])
        own = block.full_fisher_block(state.blocks[name])
        found.append(float(np.abs(own - truth).max() / np.abs(truth).max()))
    return max(found)


ENGINES = {"pool": pool, "dask": dask, "mpi": mpi}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ENGINES:
        sys.exit(f"expected one of {', '.join(ENGINES)}")
    union = ENGINES[sys.argv[1]]()
    if union is not None:
        print(f"{int(union.cases)} cases, difference {difference(union):.1e}")

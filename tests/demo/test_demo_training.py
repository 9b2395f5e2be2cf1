"""Training gives the same numbers on every array library, and ends where it must."""

import math
from typing import Any

import numpy as np
import pytest

from kfac_core.demo.digits import load_digits
from kfac_core.demo.optimizers import KFAC, SGD, Adam
from kfac_core.demo.training import COLLECTION, MODEL, Run, train
from kfac_core.registry import load_backend

OPTIMIZERS = {
    "sgd": (SGD(MODEL, COLLECTION), 0.1),
    "adam": (Adam(MODEL, COLLECTION), 0.01),
    "kfac": (KFAC.tuned(MODEL, COLLECTION), 0.03),
    "adaptive": (KFAC.adaptive(MODEL, COLLECTION), 0.1),
}


def run(package: str, optimizer: Any, value: float, *, jit: bool = False) -> Run:
    backend = load_backend(package)
    return train(
        backend,
        load_digits(backend, seed=0),
        optimizer,
        value,
        epochs=1,
        seed=0,
        jit=jit,
        on_epoch=lambda: None,
    )


@pytest.mark.parametrize("package", ["torch", "jax"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_libraries_agree(package: str, name: str) -> None:
    pytest.importorskip(package)
    here = run("numpy", *OPTIMIZERS[name]).last.loss
    there = run(package, *OPTIMIZERS[name], jit=package == "jax").last.loss
    # float32, eleven steps: rounding errors of 1e-7 grow a thousandfold at most.
    assert there == pytest.approx(here, rel=1e-4)


def test_same_seed_same_numbers() -> None:
    first, second = (run("numpy", *OPTIMIZERS["kfac"]) for _ in range(2))
    assert first.last.loss == second.last.loss
    assert first.last.accuracy == second.last.accuracy


def test_a_run_that_diverges_ends_without_a_finite_loss() -> None:
    with np.errstate(all="ignore"):
        diverged = run("numpy", SGD(MODEL, COLLECTION), 1e38)
    assert not math.isfinite(diverged.last.loss)
    assert diverged.first_below(0.1) is None


def test_the_first_epoch_below_a_loss_is_told() -> None:
    done = run("numpy", *OPTIMIZERS["kfac"])
    assert done.first_below(math.inf) is done.epochs[0]
    assert done.first_below(done.last.loss) is done.last

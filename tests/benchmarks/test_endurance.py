"""What the script of long runs claims holds of a short one; it sees what fails."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.endurance import claims
from benchmarks.endurance.runs import asymmetry, digest, end_of, runs_of


@pytest.fixture
def made():
    return runs_of("numpy")


def test_a_run_with_faults_ends_as_one_without(made, monkeypatch):
    monkeypatch.setattr(claims, "FAULT", 0.2)
    told = claims.long_run(made, 200)
    assert told.equal
    assert min(told.faults.values()) > 0
    assert told.asymmetry == 0
    assert told.traced < claims.GROWTH["traced"]


def test_threads_that_share_a_spec_end_as_alone(made, monkeypatch):
    monkeypatch.setattr(claims, "THREADS", 4)
    alone = [end_of(made(seed), 10) for seed in range(4)]
    assert len({*alone}) == 4
    assert claims.of_threads(made, 10) == alone


def test_processes_of_a_pool_end_as_alone(made):
    alone = [end_of(made(seed), 5) for seed in range(claims.PROCESSES)]
    assert claims.of_pool("spawn", "numpy", 5) == alone


def test_a_fault_that_is_not_refused_is_told(made):
    run = made(0)
    told = SimpleNamespace(ok=True)
    run._step = lambda state, params, batch, gradient=None: (state, params, told)
    with pytest.raises(AssertionError, match="was taken"):
        run.refuse(np.random.default_rng(0))


def test_a_matrix_that_is_not_symmetric_is_told(made):
    run = made(0)
    run.step()
    factor = run.state.estimator.blocks["dense_0"].input_factor
    before = digest(run.state)
    factor.cov.total[0, 1] += 0.5
    assert asymmetry(run.state) > 0.1
    assert digest(run.state) != before

"""Inside `torch.autocast`, a step of the optimiser is the step outside."""

import pytest
from optimizer_cases import CATEGORICAL, NORMAL, optimizer_of, problem, run

from kfac_core import tree
from kfac_core.registry import backend_of


class InTorch:
    @staticmethod
    def asarray(x):
        torch = pytest.importorskip("torch")
        return torch.from_numpy(x)

    @staticmethod
    def to_numpy(x):
        return backend_of(x).to_numpy(x)


@pytest.mark.parametrize("momentum", ["adam", "qmodel"])
@pytest.mark.parametrize("loss", [CATEGORICAL, NORMAL], ids=["labels", "numbers"])
def test_autocast_changes_no_step(torch, loss, momentum):
    options = {"learning_rate": 0.1} if momentum == "adam" else {}
    optimizer = optimizer_of(loss=loss, momentum_type=momentum, **options)
    params, batch = problem(InTorch, loss, "float32")
    expected = run(optimizer, params, batch, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(optimizer, params, batch, 2)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)

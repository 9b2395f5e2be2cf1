"""Small layers of a model check the form of their data once; all else stays."""

from contextlib import nullcontext

import pytest
import torch

import kfac_core as kc
from kfac_adapters.torch import KFAC, capture, layer_statistics, prepared
from kfac_core import tree
from kfac_core.estimator import FisherEstimator
from kfac_core.recording import PreparedVerb

BATCHES = (16, 16, 16, 5, 16)
"""The fourth batch is a short one, as the last of an epoch is."""


def trained(mode, batches=BATCHES, spoiled=None):
    """Return a small model's optimiser after a few steps, and its parameters."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 6),
        torch.nn.Tanh(),
        torch.nn.Linear(6, 4),
    )
    optimizer = KFAC(model, 0.1, 0.1, "cross_entropy", mode=mode, invert_every=2)
    for k, cases in enumerate(batches):
        x = torch.randn(cases, 1, 4, 4)
        x[0, 0, 0, 0] = torch.nan if k == spoiled else 1.0
        optimizer.zero_grad()
        labels = torch.randint(4, (cases,))
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        warns = pytest.warns(RuntimeWarning, match="NaN")
        with warns if k == spoiled else nullcontext():
            optimizer.step()
        assert optimizer.last_step.taken == (k != spoiled)
    return optimizer, [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("mode", ["gradients", "empirical"])
def test_training_is_the_same_bit_for_bit(mode, monkeypatch):
    """States and parameters are those of an estimator that checks at every call."""
    own, params = trained(mode)
    verbs = own._tracker.estimator._prepared.values()
    assert all(isinstance(verb, PreparedVerb) for verb in verbs)
    known = {verb.__name__: verb.forms for verb in verbs}
    of_blocks = {"update_covs", "update_inverses", "multiply_matpower"}
    drawing = {"sample_from"} if mode == "gradients" else set()
    assert known.keys() == {*of_blocks, "half_gradient", *drawing}
    assert min(known.values()) > 0
    monkeypatch.setattr(layer_statistics, "PreparedEstimator", FisherEstimator)
    plain, others = trained(mode)
    assert type(plain._tracker.estimator) is FisherEstimator
    state, other = own._tracker.state, plain._tracker.state
    pairs = zip(tree.leaves(state), tree.leaves(other), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    assert all(map(torch.equal, params, others))


def test_what_is_not_finite_is_refused_by_a_prepared_verb():
    """The fifth batch has a NaN, after four that were recorded."""
    optimizer, params = trained("empirical", spoiled=4)
    assert all(x.isfinite().all() for x in tree.leaves(optimizer._tracker.state))
    assert all(x.isfinite().all() for x in params)


def test_large_layers_are_not_recorded(monkeypatch):
    """A recorded run keeps all that it computes: the first call tells of the size."""
    monkeypatch.setattr(prepared, "LARGEST_PREPARED", 1)
    optimizer, _ = trained("empirical", BATCHES[:2])
    verbs = optimizer._tracker.estimator._prepared.values()
    assert verbs
    assert not any(isinstance(verb, PreparedVerb) for verb in verbs)


class Scaled(kc.losses.NormalMeanNegativeLogProbLoss):
    """A loss of a user, whose scale is changed in training."""

    scale = 1.0

    def _gradient(self, backend, inputs, targets):
        return self.scale * super()._gradient(backend, inputs, targets)


def test_a_loss_that_may_change_is_not_recorded():
    loss, model = Scaled(), torch.nn.Linear(4, 2)
    captured = capture(model, loss)
    captured.linearize(torch.ones(8, 4))
    estimator = prepared.PreparedEstimator(captured.collection, "empirical")
    data = torch.ones(8, 2), torch.zeros(8, 2), None
    found = [estimator._verb(loss, "half_gradient")(*data) for _ in range(3)]
    loss.__dict__["scale"] = 3.0
    assert torch.equal(estimator._verb(loss, "half_gradient")(*data), 3 * found[-1])
    assert not isinstance(estimator._verb(loss, "half_gradient"), PreparedVerb)

"""The axis of the classes, told by the gradient of a cross-entropy or by the user."""

import contextlib

import pytest
import torch
from torch import nn
from torch_models import drawn, gradients, labels, same, seeded

import kfac_core as kc
from kfac_adapters.torch import KFAC, Preconditioner, capture
from kfac_core.errors import ArgumentError

F = nn.functional


def pixels():
    return seeded(lambda: nn.Conv2d(2, 3, 1))


def targets(ignored=0, classes=3):
    y = labels(4 * 25).reshape(4, 5, 5) % classes
    y[:, :, :ignored] = -100
    return y


def step(class_axis, loss="auto", y=None, **options):
    """The gradients after one step, and the matrix of what was computed."""
    y = targets() if y is None else y
    model, x = pixels(), drawn(4, 2, 5, 5)
    own = Preconditioner(model, loss, damping=0.1, class_axis=class_axis)
    F.cross_entropy(model(x), y, **options).backward()
    own.step()
    return gradients(model)


@pytest.mark.parametrize("loss", ["auto", "cross_entropy"])
def test_classes_of_pixels_are_found(loss):
    same(step(None, loss), step(1, loss))


@pytest.mark.parametrize(
    "options", [{"label_smoothing": 0.1}, {"weight": torch.arange(1.0, 4).double()}]
)
def test_classes_are_found_of_smoothed_and_weighted_labels(options):
    loss = "cross_entropy"
    same(step(None, loss, **options), step(1, loss, **options))


def test_classes_are_found_where_rows_are_ignored():
    same(step(None, y=targets(ignored=2)), step(1, y=targets(ignored=2)))


@pytest.mark.parametrize("loss", ["auto", "cross_entropy"])
def test_another_axis_than_that_of_the_classes_is_an_error(loss):
    with pytest.raises(ArgumentError, match=r"class_axis is -1, .* say class_axis=1"):
        step(-1, loss)


class Words(nn.Module):
    """Outputs with the classes last."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(x)


def test_classes_of_words_are_last():
    x, y = drawn(6, 5, 4), labels(30).reshape(6, 5)
    found = []
    for axis in (None, -1):
        model = seeded(Words)
        own = Preconditioner(model, damping=0.1, class_axis=axis)
        F.cross_entropy(model(x).mT, y).backward()
        own.step()
        found.append(gradients(model))
    same(*found)
    model = seeded(Words)
    own = Preconditioner(model, class_axis=1)
    with pytest.raises(ArgumentError, match=r"class_axis is 1, .* say class_axis=-1"):
        F.cross_entropy(model(x).mT, y).backward()


def test_first_gradient_that_is_zero_tells_nothing():
    model, x = pixels(), drawn(4, 2, 5, 5)
    optimizer = KFAC(model, 0.1, 0.1, loss="cross_entropy")
    nothing = pytest.warns(RuntimeWarning, match="all rows are ignored")
    for ignored, expected in ((5, nothing), (0, contextlib.nullcontext())):
        optimizer.zero_grad()
        F.cross_entropy(model(x), targets(ignored), reduction="sum").backward()
        with expected:
            optimizer.step()
    assert optimizer.last_step.taken
    assert optimizer._tracker.capture.class_axis == 1


def test_errors_of_a_squared_error_are_of_the_last_axis():
    model, x = pixels(), drawn(4, 2, 5, 5)
    optimizer = KFAC(model, 0.1, 0.1, loss="mse_loss")
    F.mse_loss(model(x), torch.zeros(4, 3, 5, 5).double()).backward()
    optimizer.step()
    assert optimizer._tracker.capture.class_axis == -1


class Numbers(nn.Module):
    """One number for each case, with an axis for it or without."""

    def __init__(self, keeps):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)
        )
        self.keeps = keeps

    def forward(self, x):
        made = self.layers(x)
        return made if self.keeps else made.squeeze(-1)


BINARY, SQUARED = F.binary_cross_entropy_with_logits, F.mse_loss
NORMAL = kc.losses.NormalMeanNegativeLogProbLoss()


@pytest.mark.parametrize(
    ("loss", "loss_of"), [("auto", BINARY), ("mse_loss", SQUARED), (NORMAL, SQUARED)]
)
@pytest.mark.parametrize("mode", ["gradients", "exact", "empirical"])
def test_numbers_without_an_axis_of_their_own_are_cases(mode, loss, loss_of):
    x, y, found = drawn(8, 6), (drawn(8, seed=5) > 0).double(), []
    for keeps in (True, False):
        model = seeded(lambda keeps=keeps: Numbers(keeps))
        own = Preconditioner(model, damping=0.1, loss=loss, mode=mode)
        loss_of(model(x).reshape(8), y).backward()
        own.step()
        found.append(gradients(model))
    same(*found)


def test_numbers_of_cases_find_the_length_of_a_step():
    """The products with the Jacobian are of the same cases."""
    x, y, found = drawn(8, 6), drawn(8, seed=5), []
    for keeps in (True, False):
        model = seeded(lambda keeps=keeps: Numbers(keeps))
        optimizer = KFAC(model, loss="mse_loss", momentum_type="qmodel")
        for _ in range(2):
            optimizer.zero_grad()
            F.mse_loss(model(x).reshape(8), y).backward()
            optimizer.step()
        found.append([p.detach() for p in model.parameters()])
    same(*found)


def test_classes_of_a_single_case_are_no_cases():
    model = seeded(lambda: nn.Linear(6, 4))
    both = []
    for x in (drawn(6), drawn(1, 6)):
        model.zero_grad()
        own = Preconditioner(model, damping=0.1, mode="exact")
        F.cross_entropy(model(x), torch.tensor(1).expand(x.shape[:-1])).backward()
        own.step()
        both.append(gradients(model))
        own.remove()
    same(*both)


def test_targets_of_errors_at_positions_are_told():
    model, x, y = seeded(lambda: nn.Linear(6, 3)), drawn(4, 5, 6), drawn(4, 5, 3)
    both = []
    for flat in (False, True):
        model.zero_grad()
        own = Preconditioner(model, damping=0.1, loss="mse_loss", mode="empirical")
        given = (x.flatten(0, 1), y.flatten(0, 1)) if flat else (x, y)
        F.mse_loss(model(given[0]), given[1]).backward()
        own.step()
        both.append(gradients(model))
        own.remove()
    same(*both)


def test_a_model_that_returns_its_loss_is_told_what_to_return():
    model = seeded(lambda: nn.Linear(6, 4))
    model.register_forward_hook(lambda module, args, result: result.sum())
    with pytest.raises(ArgumentError, match=r"single number.*output="):
        capture(model, "cross_entropy").linearize(drawn(2, 6))

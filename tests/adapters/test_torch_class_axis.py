"""The axis of the classes, told by the gradient of a cross-entropy or by the user."""

import contextlib

import pytest
import torch
from torch import nn
from torch_models import drawn, gradients, labels, same, seeded

from kfac_adapters.torch import KFAC, Preconditioner
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

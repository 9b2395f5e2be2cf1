"""One run: an optimiser with one setting, epoch by epoch."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kfac_core.arguments.sizes import as_flag, as_size
from kfac_core.backend import Backend
from kfac_core.demo.digits import Digits, check_digits, check_seed
from kfac_core.demo.given import as_setting, check_backend_is_one, check_is
from kfac_core.demo.optimizers import KFAC, SGD, Adam, Optimizer, Params
from kfac_core.errors import KfacError
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference import (
    Batch,
    Conv2D,
    Dense,
    Flatten,
    MeanPool2D,
    Sequential,
    SequentialModel,
    Tanh,
)
from kfac_core.registered_losses import mean_loss
from kfac_core.typing import Array

BATCH_SIZE = 128

NETWORK = Sequential(
    (
        Conv2D((3, 3, 1, 8)),
        Tanh(),
        MeanPool2D((2, 2)),
        Conv2D((3, 3, 8, 16)),
        Tanh(),
        MeanPool2D((2, 2)),
        Flatten(),
        Dense(64, 32),
        Tanh(),
        Dense(32, 10),
    )
)
"""Two convolutions and two dense layers, 3,658 parameters."""

MODEL = SequentialModel(NETWORK)

COLLECTION = MODEL.layer_collection(CategoricalLogitsNegativeLogProbLoss())
"""The Kronecker block of each layer, and the loss."""


def optimizers() -> tuple[Optimizer, ...]:
    """Return the optimisers of the demonstration, those with K-FAC last."""
    return (
        SGD(MODEL, COLLECTION),
        Adam(MODEL, COLLECTION),
        KFAC.tuned(MODEL, COLLECTION),
        KFAC.adaptive(MODEL, COLLECTION),
    )


class Epoch(NamedTuple):
    """The results after an epoch; the first entry of a run is before any epoch.

    Attributes:
        steps: Steps so far.
        seconds: Time that they took, evaluation not counted.
        loss: Mean loss on the training images.
        accuracy: Accuracy on the test images.
        params: The parameters.
        stats: What the optimiser tells of its state, by name.
    """

    steps: int
    seconds: float
    loss: float
    accuracy: float
    params: Params
    stats: Mapping[str, float]


class Run(NamedTuple):
    """A run of an optimiser.

    Attributes:
        optimizer: Name of the optimiser.
        setting: Name of what was tried on a grid.
        value: The value in this run.
        epochs: The epochs.
    """

    optimizer: str
    setting: str
    value: float
    epochs: tuple[Epoch, ...]

    @property
    def last(self) -> Epoch:
        """The last epoch."""
        return self.epochs[-1]

    def first_below(self, loss: float) -> Epoch | None:
        """Return the first epoch whose loss was that low; None if it never was."""
        return next((e for e in self.epochs if e.loss <= loss), None)


def train(
    backend: Backend,
    digits: Digits,
    optimizer: Optimizer,
    value: float,
    *,
    epochs: int,
    seed: int,
    jit: bool,
    on_epoch: Callable[[], None],
) -> Run:
    """Train the network once.

    All randomness (weights, order of the images, labels drawn from the model) is
    NumPy's on the host, so that every array library sees the same numbers.

    Args:
        backend: Backend of the digits.
        digits: The data.
        optimizer: The optimiser.
        value: Setting of the optimiser.
        epochs: Passes over the training images.
        seed: Seed of all randomness.
        jit: Whether to compile the step.
        on_epoch: Called after each epoch.

    Returns:
        The run; it ends early, with an infinite loss, where the loss is no number.

    Raises:
        ArgumentError: If an argument is none that could be.
    """
    check_backend_is_one(backend)
    check_digits(digits)
    given: Any = optimizer
    verbs = [getattr(given, verb, None) for verb in ("init", "step", "stats")]
    fits = not isinstance(given, type) and all(map(callable, verbs))
    check_is(fits, given, "optimizer", "one of kfac_core.demo.optimizers")
    value, epochs = as_setting(value, "value"), as_size(epochs, "epochs", "demo")
    check_seed(seed)
    jit = as_flag(jit, "jit", "demo")
    check_is(callable(on_epoch), on_epoch, "on_epoch", "a function of no arguments")
    rng = np.random.default_rng(seed)
    start = MODEL.init(rng, like=np.zeros(1, dtype=np.float32))
    params = {name: backend.from_numpy(tensor) for name, tensor in start.items()}
    state = optimizer.init(params, value)
    step = backend.jit(optimizer.step) if jit else optimizer.step
    if jit:  # before the clock runs, and with random numbers of its own
        other = np.random.default_rng(seed)
        step(state, params, *next(_batches(backend, digits, other)), value)

    def epoch(steps: int, seconds: float) -> Epoch:
        stats = optimizer.stats(state).items()
        return Epoch(
            steps,
            seconds,
            _loss(digits, params),
            _accuracy(backend, digits, params),
            params,
            {name: float(number) for name, number in stats},
        )

    done = [epoch(0, 0.0)]
    steps, seconds = 0, 0.0
    for _ in range(epochs):
        try:
            for batch, noise in _batches(backend, digits, rng):
                began = time.perf_counter()
                state, params = step(state, params, batch, noise, value)
                for tensor in params.values():
                    backend.to_numpy(tensor)  # waits for the device
                seconds += time.perf_counter() - began
                steps += 1
            done.append(epoch(steps, seconds))
        except KfacError:
            lost = done[-1]._replace(steps=steps, seconds=seconds, loss=float("inf"))
            done.append(lost)
        on_epoch()
        if not np.isfinite(done[-1].loss):
            break
    return Run(optimizer.name, optimizer.setting, value, tuple(done))


def _batches(
    backend: Backend, digits: Digits, rng: np.random.Generator
) -> Iterator[tuple[Batch, Array]]:
    """Yield the batches of an epoch, in a new order; an incomplete one is left out."""
    xp = backend.xp
    count = digits.y_train.shape[0]
    order = rng.permutation(count)
    for first in range(0, count - BATCH_SIZE + 1, BATCH_SIZE):
        chosen = backend.from_numpy(order[first : first + BATCH_SIZE].astype(np.int32))
        noise = rng.random(BATCH_SIZE, dtype=np.float32)
        batch = Batch(
            xp.take(digits.x_train, chosen, axis=0),
            xp.take(digits.y_train, chosen, axis=0),
        )
        yield batch, backend.from_numpy(noise)


def _loss(digits: Digits, params: Params) -> float:
    everything = Batch(digits.x_train, digits.y_train)
    return float(mean_loss(COLLECTION, MODEL.linearize(params, everything)))


def _accuracy(backend: Backend, digits: Digits, params: Params) -> float:
    outputs = NETWORK.forward(MODEL.unnamed(params), digits.x_test).outputs
    guesses = backend.to_numpy(backend.xp.argmax(outputs, axis=-1))
    return float(np.mean(guesses == backend.to_numpy(digits.y_test)))

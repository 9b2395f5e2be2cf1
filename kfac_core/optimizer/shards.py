"""The loss and the gradient of a batch from those of its shards."""

from collections.abc import Mapping

from kfac_core.backend import Backend
from kfac_core.linearization.checked import CheckedLinearization
from kfac_core.registry import backend_of
from kfac_core.typing import Array


def loss_of_all(linearization: CheckedLinearization, loss: Array) -> Array:
    """Return the mean loss of all shards, 0-d; of a whole batch its own."""
    if not linearization.is_shard:
        return loss
    xp = backend_of(loss).xp
    mean: Array = linearization.mean_of_shards(xp.reshape(loss, (1,)))[0]
    return mean


def gradient_of_all(
    backend: Backend, linearization: CheckedLinearization, gradient: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the gradient of the mean loss of all shards; of a whole batch its own."""
    if not linearization.is_shard:
        return {**gradient}
    found = {}
    for name, own in gradient.items():
        flat = backend.xp.reshape(own, (-1,))
        mean = linearization.mean_of_shards(flat)
        found[name] = backend.xp.reshape(mean, own.shape)
    return found

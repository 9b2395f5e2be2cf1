"""`NamedAxis`: an axis of a mesh, within `jax.shard_map`, as a collective."""

from typing import Any

import jax
from jax import numpy as jnp


class NamedAxis:
    """The places along named axes, as a `kfac_core.collectives.Collective`.

    It is used within a function that is mapped over that axis, by `jax.shard_map` or
    `jax.pmap`, where `rank` is a 0-d array.

    Args:
        name: Name of the axis; a tuple: of several, whose places are counted together.
    """

    def __init__(self, name: str | tuple[str, ...]) -> None:
        self._name = name

    @property
    def rank(self) -> Any:
        """The place along the axis, 0-d."""
        return jax.lax.axis_index(self._name)

    @property
    def size(self) -> int:
        """The length of the axis."""
        return int(jax.lax.psum(1, self._name))

    def all_reduce(self, x: Any) -> Any:
        """Return the sum of the arrays of all places."""
        return jax.lax.psum(x, self._name)

    def broadcast(self, x: Any, root: int) -> Any:
        """Return the array of one place: the sum, where all others have zeros."""
        own = jnp.where(self.rank == root, x, jnp.zeros_like(x))
        return jax.lax.psum(own, self._name)

"""JAX hears of the classes of states: `jax.export` serialises trees of them."""

import contextlib

from jax import export

from kfac_core.state_classes import listen


def register(part: type, name: str) -> None:
    """Let JAX serialise trees of a class.

    Args:
        part: A class of named tuples; what is none needs no registration.
        name: The name to store it by.
    """
    if isinstance(part, type):
        # The caller may have registered it before.
        with contextlib.suppress(ValueError):
            export.register_namedtuple_serialization(part, serialized_name=name)


def listen_for_states() -> None:
    """Register all that trees of states are made of, what comes included."""
    listen(register)

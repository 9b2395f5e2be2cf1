"""Making programs of JAX ready: traced, lowered and compiled, each time anew."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.cases import Case, Rivals, normal
from benchmarks.libraries import Library
from benchmarks.measuring import Call
from benchmarks.work.training_jax import adam_step, cnn, kfac_step, labels_of, mlp

GROUP = "Compilation"


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return the verbs of one layer, and steps of two models.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases; of other libraries there are none.
    """
    if library.name != "jax":
        return
    size, batch = (16, 8) if quick else (512, 128)
    yield Case(GROUP, f"update_covs, {size}×{size}", partial(_statistics, size))
    yield Case(GROUP, f"update_inverses, {size}×{size}", partial(_inverses, size))
    for name, make in {"MLP": mlp, "digits CNN": cnn}.items():
        text = f"whole step, {name}, gradients"
        yield Case(GROUP, text, partial(_step, make, batch))


def _statistics(size: int) -> Rivals:
    import jax.numpy as jnp

    block, state, x, g = _layer(size)

    def ours(state: Any, x: Any, g: Any, decay: Any) -> Any:
        return block.update_covs(state, x, g, decay)

    def by_hand(a: Any, b: Any, x: Any, g: Any, decay: Any) -> Any:
        rows = jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)
        of_inputs = decay * a + (1 - decay) * (rows.T @ rows / len(x))
        return of_inputs, decay * b + (1 - decay) * (g.T @ g / len(g))

    floor = ready(by_hand, jnp.eye(size + 1), jnp.eye(size), x, g, 0.9)
    return Rivals(ready(ours, state, x, g, 0.9), {"written out": floor}, {})


def _inverses(size: int) -> Rivals:
    import jax.numpy as jnp
    from jax.scipy.linalg import cho_solve

    block, state, *_ = _layer(size)

    def inverted(a: Any, damping: Any) -> Any:
        eye = jnp.eye(len(a))
        return cho_solve((jnp.linalg.cholesky(a + damping * eye), True), eye)

    def by_hand(a: Any, b: Any, damping: Any) -> Any:
        return inverted(a, damping), inverted(b, damping)

    floor = ready(by_hand, jnp.eye(size + 1), jnp.eye(size), 0.1)
    ours = ready(block.update_inverses, state, 0.1)
    return Rivals(ours, {"written out": floor}, {})


def _layer(size: int) -> tuple[Any, Any, Any, Any]:
    import jax.numpy as jnp

    import kfac_core as kc

    x, g = jnp.array(normal(2 * size, size)), jnp.array(normal(2 * size, size))
    block = kc.blocks.FullyConnectedKFACBasicFB(size, size, has_bias=True)
    return block, block.init(x), x, g


def _step(make: Callable[..., Any], batch: int) -> Rivals:
    import jax

    network, params, x = make(batch)
    data = (x, labels_of(batch), jax.random.key(0))
    kfac, state = kfac_step(network, params, x, 1, "gradients")
    adam, other = adam_step(network, params)
    return Rivals(ready(kfac, state, *data), {"Adam": ready(adam, other, *data)}, {})


def ready(function: Callable[..., Any], *arguments: Any) -> Call:
    """Return a call that makes a program of a function, which JAX has not seen."""
    import jax

    def call() -> None:
        # JAX keeps the programs of what it knows: each call has a function of its own.
        jax.jit(lambda *args: function(*args)).lower(*arguments).compile()

    return call

"""Train models of JAX's libraries, unmodified, with K-FAC.

``python -m benchmarks.models_jax`` prints the table of ``docs/your_model_jax.md``: each
model is made small, with random weights, and takes three steps on one batch.
"""

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp

import kfac_core as kc
from benchmarks.small_models_jax import Training, models
from kfac_adapters.jax import capture, kfac
from kfac_core.errors import KfacError

STEPS, RATE = 3, 0.3


def row(library: str, name: str, make: Callable[[], Training]) -> str:
    """Train a model, and return its row of the table."""
    function, params, x = make()
    softmax = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    left = ""
    for unclaimed in ("error", "diagonal"):
        try:
            captured = capture(function, params, x, loss=softmax, unclaimed=unclaimed)
        except KfacError as error:
            left = str(error).partition(". Say")[0]
            continue
        break
    else:
        return f"| {library} | {name} | no: {left} | |"
    transformation = kfac(
        captured, damping=0.1, norm_constraint=1e-2, learning_rate=0.3
    )
    outputs = jax.eval_shape(function, params, x)
    labels = jax.random.randint(
        jax.random.key(5), outputs.shape[:-1], 0, outputs.shape[-1]
    )

    @jax.jit
    def step(params: Any, state: Any, key: Any) -> Any:
        def loss(own: Any) -> Any:
            log_p = jax.nn.log_softmax(function(own, x))
            return -jnp.take_along_axis(log_p, labels[..., None], -1).mean()

        value, gradients = jax.value_and_grad(loss, allow_int=True)(params)
        steps, state = transformation.update(
            gradients, state, params, inputs=(x,), key=key
        )
        return jax.tree.map(lambda p, s: p - RATE * s, params, steps), state, value

    state, losses = transformation.init(params), []
    for key in jax.random.split(jax.random.key(6), STEPS):
        params, state, value = step(params, state, key)
        losses.append(float(value))
    share = f"{captured.coverage.share:.1%}"
    names = [line.params[0] for line in captured.coverage.lines if line.reason]
    others = "" if not names else ": " + ", ".join(f"`{own}` is not" for own in names)
    return (
        f"| {library} | {name} | {share}{others} | {losses[0]:.2f}, {losses[-1]:.2f} |"
    )


def main(names: list[str]) -> None:
    """Print the table of some models, or of all."""
    used = ("jax", "flax", "equinox", "dm-haiku")
    print(", ".join(f"{name} {version(name)}" for name in used), "\n")
    print("| library | model | in layers | loss, first and third |\n|---|---|---|---|")
    warnings.simplefilter("ignore")
    for (library, name), make in models().items():
        if not names or name in names:
            print(row(library, name, make), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Ten compiled steps of training with JAX: K-FAC as a transformation, beside Adam."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import kfac_core as kc
from benchmarks.cases import Case, Rivals, UnavailableError, normal, rng
from benchmarks.libraries import Library
from benchmarks.measuring import Call
from benchmarks.work.arithmetic import ratio
from benchmarks.work.training import GROUP, STEPS, layers_of

SCHEDULES = (("empirical", 1), ("gradients", 1), ("gradients", 5))
"""Mode, and every how many steps there are statistics."""
RATE, DAMPING = 1e-3, 0.1


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return two models of JAX, by how often there are statistics.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases; of other libraries there are none.
    """
    if library.name != "jax":
        return
    batch = 8 if quick else 128
    for name, make in {"MLP": mlp, "digits CNN": cnn}.items():
        for mode, every in SCHEDULES:
            arithmetic = ratio(
                layers_of(name, batch),
                batch,
                draws=mode == "gradients",
                cov_every=every,
                invert_every=STEPS,
            )
            text = f"{name}, {mode}, statistics every {every}"
            text += f" (arithmetic {arithmetic:.1f})"
            yield Case(GROUP, text, partial(_rivals, make, batch, every, mode))


def mlp(batch: int) -> tuple[Any, Any, Any]:
    """Return a network of three layers, its parameters and its inputs."""
    import jax.numpy as jnp

    sizes = (64, 2 * batch, 2 * batch, 10)

    def network(params: Any, x: Any) -> Any:
        *hidden, last = params
        for w, b in hidden:
            x = jnp.tanh(x @ w + b)
        return x @ last[0] + last[1]

    params = [_affine(i, o) for i, o in itertools.pairwise(sizes)]
    return network, params, jnp.array(normal(batch, 64))


def cnn(batch: int) -> tuple[Any, Any, Any]:
    """Return a network of two convolutions and two layers, as that of PyTorch."""
    import jax
    import jax.numpy as jnp

    def network(params: Any, x: Any) -> Any:
        for (w, b), stride in zip(params[:2], (1, 2), strict=True):
            x = jax.lax.conv_general_dilated(
                x,
                w.reshape(3, 3, -1, w.shape[-1]),
                (stride, stride),
                ((1, 1), (1, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = jax.nn.relu(x + b)
        (w, b), last = params[2:]
        x = jax.nn.relu(x.reshape(len(x), -1) @ w + b)
        return x @ last[0] + last[1]

    params = [_affine(9, 16), _affine(144, 32), _affine(512, 64), _affine(64, 10)]
    return network, params, jnp.array(normal(batch, 8, 8, 1))


def _affine(inputs: int, outputs: int) -> tuple[Any, Any]:
    import jax.numpy as jnp

    weights = jnp.array(normal(inputs, outputs) / np.float32(inputs**0.5))
    return weights, jnp.zeros(outputs, jnp.float32)


def labels_of(batch: int) -> Any:
    """Return a class of ten for each case."""
    import jax.numpy as jnp

    return jnp.array(rng().integers(0, 10, batch))


def _rivals(make: Callable[..., Any], batch: int, every: int, mode: Any) -> Rivals:
    network, params, x = make(batch)
    data = (x, labels_of(batch))
    adam, adam_plan = _steps(*adam_step(network, params), data)
    kfac, kfac_plan = _steps(*kfac_step(network, params, x, every, mode), data)
    others = {}
    if every == 1 and find_spec("kfac_jax"):
        from benchmarks.peers import kfac_jax_training

        try:
            others["kfac-jax"] = kfac_jax_training.steps(
                network, params, data, mode, STEPS, DAMPING, RATE
            )
        except UnavailableError as error:
            print(f"    kfac-jax: {error}")
    memory = {
        "K-FAC's step": _peak(kfac_plan) / x.nbytes,
        "Adam's step": _peak(adam_plan) / x.nbytes,
        "factors and inverses": kfac_plan.state_bytes / x.nbytes,
    }
    return Rivals(kfac, {"Adam": adam}, others, memory)


class _Plan:
    """What the compiler plans for a step, and how large the state of K-FAC is."""

    def __init__(self, compiled: Any, state_bytes: int) -> None:
        self.analysis, self.state_bytes = compiled.memory_analysis(), state_bytes


def _peak(plan: _Plan) -> float:
    """Return the bytes of arguments, results and all between; donated ones once."""
    found = plan.analysis
    whole = found.argument_size_in_bytes + found.temp_size_in_bytes
    return float(whole + found.output_size_in_bytes - found.alias_size_in_bytes)


def _steps(step: Any, state: Any, data: Any) -> tuple[Call, _Plan]:
    """Return ten steps that donate the state, and the plan of one."""
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    compiled = jax.jit(step, donate_argnums=0).lower(state, *data, key).compile()
    held = [jax.tree.map(jnp.copy, state)]

    def call() -> None:
        own = held[0]
        for _ in range(STEPS):
            own = compiled(own, *data, key)
        held[0] = jax.block_until_ready(own)

    others = jax.tree.leaves(state["estimator"]) if "estimator" in state else []
    return call, _Plan(compiled, sum(leaf.nbytes for leaf in others))


def _loss_of(network: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def loss(params: Any, x: Any, labels: Any) -> Any:
        chosen = jax.nn.log_softmax(network(params, x))[jnp.arange(len(x)), labels]
        return -chosen.mean()

    return loss


def adam_step(network: Any, params: Any) -> tuple[Any, Any]:
    """Return a step of Adam, ``step(state, x, labels, key)``, and its first state."""
    import jax
    import jax.numpy as jnp

    loss = _loss_of(network)

    def step(state: Any, x: Any, labels: Any, key: Any) -> Any:
        gradient = jax.grad(loss)(state["params"], x, labels)
        count = state["count"] + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["mean"], gradient)
        square = jax.tree.map(
            lambda s, g: 0.999 * s + 0.001 * g * g, state["square"], gradient
        )
        of_mean, of_square = 1 - 0.9**count, 1 - 0.999**count
        params = jax.tree.map(
            lambda p, m, s: p - RATE * (m / of_mean) / (jnp.sqrt(s / of_square) + 1e-8),
            state["params"],
            mean,
            square,
        )
        return {"params": params, "mean": mean, "square": square, "count": count}

    zeros = jax.tree.map(jnp.zeros_like, params)
    others = jax.tree.map(jnp.zeros_like, params)
    start = {"params": params, "mean": zeros, "square": others}
    return step, start | {"count": jnp.zeros((), jnp.float32)}


def kfac_step(
    network: Any, params: Any, x: Any, every: int, mode: Any
) -> tuple[Any, Any]:
    """Return a step of K-FAC, as `adam_step` does.

    Args:
        network: Function of parameters and inputs.
        params: Its parameters.
        x: Its inputs.
        every: Every how many steps there are statistics.
        mode: How they are made.
    """
    import jax
    import jax.numpy as jnp

    from kfac_adapters.jax import capture, kfac

    loss = _loss_of(network)
    captured = capture(
        network, params, x, loss=kc.losses.CategoricalLogitsNegativeLogProbLoss()
    )
    transformation = kfac(
        captured,
        damping=DAMPING,
        estimation_mode=mode,
        cov_update_every=every,
        invert_every=STEPS,
    )

    def step(state: Any, x: Any, labels: Any, key: Any) -> Any:
        params = state["params"]
        gradient = jax.grad(loss)(params, x, labels)
        direction, estimator = transformation.update(
            gradient, state["estimator"], params, inputs=(x,), key=key, targets=labels
        )
        mean = jax.tree.map(lambda m, d: 0.9 * m + d, state["mean"], direction)
        params = jax.tree.map(lambda p, m: p - RATE * m, params, mean)
        return {"params": params, "mean": mean, "estimator": estimator}

    zeros = jax.tree.map(jnp.zeros_like, params)
    return step, {
        "params": params,
        "mean": zeros,
        "estimator": transformation.init(params),
    }

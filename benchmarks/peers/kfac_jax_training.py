"""kfac-jax: its own optimiser, where its tracer runs (JAX 0.8)."""

from typing import Any

import jax
import kfac_jax

from benchmarks.cases import UnavailableError
from benchmarks.measuring import Call

_OF_OTHER_RELEASES = (
    AttributeError,
    ImportError,
    NotImplementedError,
    TypeError,
    ValueError,
)
"""What it raises with other releases of JAX; in 0.10.2 its tracer gets a dictionary."""

MODES = {"empirical": "fisher_empirical", "gradients": "fisher_gradients"}


def steps(
    network: Any,
    params: Any,
    data: tuple[Any, Any],
    mode: str,
    count: int,
    damping: float,
    rate: float,
) -> Call:
    """Return some steps of its optimiser, with new inverses in one of them.

    Args:
        network: Function of parameters and inputs.
        params: Its parameters.
        data: Inputs and labels.
        mode: Our name for how statistics are made.
        count: Number of steps.
        damping: The damping.
        rate: The learning rate.

    Returns:
        The call.

    Raises:
        UnavailableError: If it does not run with this release of JAX.
    """

    def loss(params: Any, batch: Any) -> Any:
        x, labels = batch
        logits = network(params, x)
        kfac_jax.register_softmax_cross_entropy_loss(logits, labels)
        log_p = jax.nn.log_softmax(logits)
        return -log_p[jax.numpy.arange(len(x)), labels].mean()

    try:
        optimizer = kfac_jax.Optimizer(
            jax.value_and_grad(loss),
            l2_reg=0.0,
            use_adaptive_learning_rate=False,
            use_adaptive_momentum=False,
            use_adaptive_damping=False,
            inverse_update_period=count,
            estimation_mode=MODES[mode],
            num_burnin_steps=0,
            multi_device=False,
        )
        key = jax.random.PRNGKey(0)
        own = jax.tree.map(jax.numpy.copy, params)
        held = [own, optimizer.init(own, key, data)]
        options = {"learning_rate": rate, "momentum": 0.9, "damping": damping}

        def call() -> None:
            own, state = held
            for _ in range(count):
                own, state, _ = optimizer.step(own, state, key, batch=data, **options)
            held[:] = jax.block_until_ready((own, state))

        call()
    except _OF_OTHER_RELEASES as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        raise UnavailableError(why) from error
    return call

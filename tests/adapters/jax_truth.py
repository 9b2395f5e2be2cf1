"""Dense matrices that the statistics of captured functions are compared with."""

import numpy as np


def dense_fisher(jax, captured, params, inputs, layer):
    """Return ``sum_n J_n' H_n J_n / N`` of a layer, for a softmax, by `jax.jacrev`.

    `J` is of the captured function itself, by the parameters in the axes of the core.
    """
    jnp = jax.numpy
    named = captured.named(params)

    def outputs(own):
        return captured.losses.flat(
            captured.function(captured.tree(named | own, params), *inputs)
        )["loss"]

    own = {name: named[name] for name in layer.params}
    logits = outputs(own)
    classes = logits.shape[-1]
    jacobians = jax.jacrev(outputs)(own)
    J = jnp.concatenate(
        [jacobians[n].reshape(*logits.shape, -1) for n in layer.params], axis=-1
    ).reshape(-1, classes, sum(own[n].size for n in layer.params))
    p = jax.nn.softmax(logits.reshape(-1, classes))
    H = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
    cases = captured.losses.cases(captured.function(params, *inputs))
    return jnp.einsum("nci,ncd,ndj->ij", J, H, J) / cases


def relative(x, y):
    x, y = np.asarray(x), np.asarray(y)
    return np.linalg.norm(x - y) / np.linalg.norm(y)

"""Steps of K-FAC: they ignore coordinates, solve least squares, and are limited."""

from typing import Any

import numpy as np

from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.optimizer import KfacOptimizer
from kfac_core.reference import Batch, SequentialModel
from kfac_core.theorems import verbs
from kfac_core.theorems.algebra import moments_of, pi_damped
from kfac_core.theorems.drawn import (
    NORMAL,
    empirical_layer_of,
    flat,
    homogeneous,
    layer_of,
    linear,
    random_params,
    well_conditioned,
)
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import GENERAL, Measured, Trial

DAMPING = 0.1


@theorem(
    "T24",
    condition="no damping, inputs changed by an affine map, outputs by a linear one",
    claim="the step changes the outputs as before",
    source="Martens & Grosse (2015), theorem 1",
    twin="with damping",
)
def steps_ignore_coordinates(trial: Trial, holds: bool) -> Measured:
    """Compare the change of outputs by a step, in old and in new coordinates."""
    rng, (_, d, o) = trial.rng(), trial.sizes
    n = 4 * (d + o)
    x, g = (well_conditioned(rng, n, size, spread=1.0) for size in (d, o))
    change, outer = (well_conditioned(rng, size, size) for size in (d, o))
    shift = 0.2 * rng.standard_normal(d)
    pairs = (
        (x, g, np.eye(o)),
        (x @ change + shift, g @ np.linalg.inv(outer).T, outer),
    )
    block, damping = (
        FullyConnectedKFACBasicFB(d, o, has_bias=True),
        0.0 if holds else 0.3,
    )
    outputs, condition = [], 1.0
    for inputs, gradients, of_outputs in pairs:
        design = homogeneous(inputs)
        gradient = (inputs.T @ gradients / n, gradients.mean(axis=0))
        step = trial.call(verbs.solved, block, (inputs, gradients), damping, gradient)
        weights, bias = step
        # New outputs are s R: back to the old ones.
        outputs.append((inputs @ weights + bias) @ np.linalg.inv(of_outputs))
        moments = moments_of(design, gradients)
        product = float(np.linalg.cond(moments[0]) * np.linalg.cond(moments[1]))
        condition = max(condition, product * float(np.linalg.cond(of_outputs)))
    return trial.judged(*outputs[::-1], terms=n + d + o, condition=float(condition))


@theorem(
    "T27",
    condition="one linear layer, squared loss, no damping, exact Fisher",
    claim="one step gives the least squares solution",
    source="Newton's method on a quadratic function",
    twin="the empirical Fisher",
)
def one_step_is_least_squares(trial: Trial, holds: bool) -> Measured:
    """Start anywhere, and compare with the solution."""
    rng, (_, d, o) = trial.rng(), trial.sizes
    n = 4 * (d + o)
    x, targets = well_conditioned(rng, n, d), well_conditioned(rng, n, o)
    network = linear(d, o)
    params = random_params(network, rng)
    forward = network.forward(params, x)
    g = NORMAL.gradient(forward.outputs, targets)
    sums = network.backward(params, forward, g).param_gradients[0]
    gradient = tuple(own / n for own in sums)
    if holds:
        layer = layer_of(network, params, x, NORMAL, 0)
    else:
        layer = empirical_layer_of(network, params, x, NORMAL, targets, 0)
    step = trial.call(verbs.solved, layer.block, tuple(layer.data), 0.0, gradient)
    design = homogeneous(x)
    solution, *_ = np.linalg.lstsq(design, targets)
    start = flat(params[0])
    condition = float(np.linalg.cond(design)) ** 2
    # The step is what is computed, and it may be longer than the solution.
    truth = start - solution.reshape(-1)
    return trial.judged(
        flat(step), truth, terms=layer.terms + d + o, condition=condition
    )


def _step(optimizer: KfacOptimizer[Any], params: Any, x: Any, targets: Any) -> Any:
    """Return the parameters after the first step."""
    return optimizer.step(optimizer.init(params), params, Batch(x, targets))[1]


@theorem(
    "T28",
    condition="a norm constraint that limits the step s",
    claim="s' P s equals the constraint, for the damped matrix P",
    source="Ba et al. (2017), section 5",
    twin="a constraint that does not limit it",
    general_only=True,
)
def a_limited_step_has_the_norm(trial: Trial, holds: bool) -> Measured:
    """Take a step of the optimiser from zero, and compute its norm."""
    rng, (n, d, o) = trial.rng(), GENERAL
    model = SequentialModel(linear(d, o, has_bias=False))
    x, targets = (trial.rounded(rng.standard_normal((n, size))) for size in (d, o))
    limit = 1e-4 if holds else 1e6
    optimizer = KfacOptimizer(
        model,
        model.layer_collection(NORMAL),
        learning_rate=0.5,
        damping=DAMPING,
        estimation_mode="exact",
        norm_constraint=limit,
    )
    (name,) = names = model.names[0]
    start = dict.fromkeys(names, np.zeros((d, o)))
    step = trial.call(_step, optimizer, start, x, targets)[name]
    a, g = pi_damped(x.T @ x / n, np.eye(o), DAMPING)
    condition = float(np.linalg.cond(a))
    found = (step * (a @ step @ g)).sum()
    return trial.judged(found, limit, terms=n * o + d + o, condition=condition)


THEOREMS = (
    steps_ignore_coordinates,
    one_step_is_least_squares,
    a_limited_step_has_the_norm,
)

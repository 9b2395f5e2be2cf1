"""Where K-FAC is exact: layers that act once in a case.

With a case's input ``a`` and the moment ``B`` of its output gradients, the Fisher is
``F = E[kron(a a', B)]``, and K-FAC is ``K = kron(E[a a'], E[B])``.
"""

import numpy as np

from kfac_core.fisher_blocks import ForwardOnlyFB, FullyConnectedKFACBasicFB
from kfac_core.theorems import verbs
from kfac_core.theorems.drawn import (
    HIDDEN,
    NARROW,
    NORMAL,
    SOFTMAX,
    Layer,
    case_moments,
    curved,
    empirical_layer_of,
    layer_of,
    linear,
    random_params,
)
from kfac_core.theorems.theorem import LARGE, theorem
from kfac_core.theorems.trial import Measured, Trial


def _first_layer(trial: Trial, batch: int) -> Layer:
    rng, (_, d, o) = trial.rng(), trial.sizes
    network = curved(d, o, HIDDEN)
    params, x = random_params(network, rng), rng.standard_normal((batch, d))
    return layer_of(network, params, x, SOFTMAX, 0)


@theorem(
    "T0",
    condition="a layer that acts once in a case",
    claim="F - K = Cov(a a', B)",
    source="Martens & Grosse (2015), section 3.1: expand the means",
    twin="the covariance left out",
)
def the_error_is_a_covariance(trial: Trial, holds: bool) -> Measured:
    """Add the covariance over cases of both moments to K-FAC."""
    layer = _first_layer(trial, trial.sizes.batch)
    a, b = case_moments(layer.data)
    n = len(a)
    covariance = np.einsum("nij,nkl->ikjl", a - a.mean(axis=0), b - b.mean(axis=0)) / n
    kfac = layer.kfac(trial)
    found = kfac + covariance.reshape(kfac.shape) if holds else kfac
    return trial.judged(found, layer.fisher, terms=layer.terms)


@theorem(
    "T1",
    condition="one case, any network and loss",
    claim="K = F",
    source="T0 with one case",
    twin="five cases",
)
def one_case_is_exact(trial: Trial, holds: bool) -> Measured:
    """Compare the first layer's block with its Fisher."""
    layer = _first_layer(trial, 1 if holds else 5)
    return trial.judged(layer.kfac(trial), layer.fisher, terms=layer.terms)


@theorem(
    "T1'",
    condition="one case's gradient v alone, exact damping",
    claim="inv(K + c I) v = v / (c + |v|^2)",
    source="Sherman & Morrison (1950)",
    twin="damping of each factor",
    large=LARGE,
    solves=True,
)
def one_gradient_is_solved_for(trial: Trial, holds: bool) -> Measured:
    """Multiply the gradient by the inverse of its own outer product."""
    rng, (_, d, o) = trial.rng(), trial.sizes
    a, g = (trial.rounded(rng.standard_normal((1, n)) / np.sqrt(n)) for n in (d, o))
    block = FullyConnectedKFACBasicFB(d, o, damping_type="exact" if holds else "pi")
    v, damping = a.T @ g, 0.3
    found = trial.call(verbs.solved, block, (a, g), damping, v)
    square = float((v * v).sum())
    condition = (damping + square) / damping
    return trial.judged(
        found, v / (damping + square), terms=1 + max(d, o), condition=condition
    )


@theorem(
    "T2",
    condition="all inputs of the layer are equal, any loss and targets",
    claim="K = F",
    source="T0: one side is constant",
    twin="inputs that differ",
)
def equal_inputs_are_exact(trial: Trial, holds: bool) -> Measured:
    """Give one input many targets."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    network = curved(d, o, HIDDEN)
    params = random_params(network, rng)
    rows = rng.standard_normal((1 if holds else n, d))
    x = rows if len(rows) == n else np.repeat(rows, n, axis=0)
    targets = rng.standard_normal((n, HIDDEN))
    layer = empirical_layer_of(network, params, x, NORMAL, targets, 0)
    return trial.judged(layer.kfac(trial), layer.fisher, terms=layer.terms)


@theorem(
    "T3a",
    condition="last layer, any features, normal loss of fixed precision P",
    claim="K = F, with G = P",
    source="Martens & Grosse (2015), section 3.1: B is constant",
    twin="softmax in place of the normal loss",
)
def a_last_layer_is_exact(trial: Trial, holds: bool) -> Measured:
    """Compare the last layer's block with its Fisher."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    network = curved(HIDDEN, d, o)
    params, x = random_params(network, rng), rng.standard_normal((n, HIDDEN))
    layer = layer_of(network, params, x, NARROW if holds else SOFTMAX, 1)
    kfac = layer.kfac(trial)
    if not holds:
        return trial.judged(kfac, layer.fisher, terms=layer.terms)
    _, g = layer.moments(trial)
    truth = (layer.fisher, np.eye(o) / NARROW.var)
    return trial.judged((kfac, g), truth, terms=layer.terms)


@theorem(
    "T3b",
    condition="deep linear network, normal loss of precision P",
    claim="K = F, with G = M P M' for what follows, M",
    source="Bernacchia et al. (2018), theorem 1",
    twin="T4: the empirical Fisher",
)
def deep_linear_regression_is_exact(trial: Trial, holds: bool) -> Measured:
    """Compare the first layer's block with its Fisher."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    network = linear(d, o, HIDDEN)
    params, x = random_params(network, rng), rng.standard_normal((n, d))
    if not holds:
        targets = rng.standard_normal((n, HIDDEN))
        layer = empirical_layer_of(network, params, x, NARROW, targets, 0)
        return trial.judged(layer.kfac(trial), layer.fisher, terms=layer.terms)
    layer = layer_of(network, params, x, NARROW, 0)
    _, g = layer.moments(trial)
    after = params[1][0]
    found = (layer.kfac(trial), g)
    truth = (layer.fisher, after @ after.T / NARROW.var)
    return trial.judged(found, truth, terms=layer.terms)


@theorem(
    "T3c",
    condition="softmax whose logits do not depend on the input",
    claim="K = F for the last layer",
    source="T0: B = diag(p) - p p' is constant",
    twin="logits that depend on it",
)
def a_constant_classifier_is_exact(trial: Trial, holds: bool) -> Measured:
    """Set the weights of the last layer to zero, and not its bias."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    network = curved(HIDDEN, d, max(o, 2))
    params, x = random_params(network, rng), rng.standard_normal((n, HIDDEN))
    scale = 0.0 if holds else 2.0
    params = (params[0], (scale * params[1][0], params[1][1]))
    layer = layer_of(network, params, x, SOFTMAX, 1)
    return trial.judged(layer.kfac(trial), layer.fisher, terms=layer.terms)


@theorem(
    "FOOF",
    condition="last layer, any features, normal loss of variance one",
    claim="kron(A, I), which sees inputs alone, is K and F",
    source="Benzing (2022), section 3; T3a with P = I",
    twin="variance 1/4: kron(A, I) does not see the loss",
)
def forward_only_is_exact_for_squares(trial: Trial, holds: bool) -> Measured:
    """Compare the block of the last layer's inputs with both matrices."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    network = curved(HIDDEN, d, o)
    params, x = random_params(network, rng), rng.standard_normal((n, HIDDEN))
    layer = layer_of(network, params, x, NORMAL if holds else NARROW, 1)
    block = ForwardOnlyFB(layer.block)
    found = trial.call(verbs.dense_of_inputs, block, layer.data.inputs)
    kfac = layer.kfac(trial)
    return trial.judged((found, kfac), (layer.fisher, layer.fisher), terms=layer.terms)


@theorem(
    "T10'",
    condition="a layer with a bias that acts once in a case",
    claim="K = F in the block of the bias",
    source="the last entry of E[a a'] is one",
    twin="the block of the weights",
)
def the_bias_is_exact(trial: Trial, holds: bool) -> Measured:
    """Compare the last rows and columns, which are the bias's."""
    layer, o = _first_layer(trial, trial.sizes.batch), trial.sizes.outputs
    part = slice(-o, None) if holds else slice(None, -o)
    kfac = layer.kfac(trial)[part, part]
    # The part is compared in its own norm: the rounding of the whole is not in it.
    return trial.judged(kfac, layer.fisher[part, part], terms=layer.terms)


THEOREMS = (
    the_error_is_a_covariance,
    one_case_is_exact,
    one_gradient_is_solved_for,
    equal_inputs_are_exact,
    a_last_layer_is_exact,
    deep_linear_regression_is_exact,
    a_constant_classifier_is_exact,
    forward_only_is_exact_for_squares,
    the_bias_is_exact,
)

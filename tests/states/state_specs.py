"""Specs whose states could be taken for one another's, and the verbs that would."""

import numpy as np

import kfac_core as kc

X = np.random.default_rng(0).normal(size=(6, 3))
G = np.random.default_rng(1).normal(size=(6, 3))


def factor(**options):
    return kc.factors.FullyConnectedKroneckerFactor(3, name="fc9", **options)


def block(**options):
    return kc.blocks.FullyConnectedKFACBasicFB(3, 3, name="fc9", **options)


FACTORS = {
    "inverse": factor(matpowers=(-1,)),
    "root": factor(matpowers=(-0.5,)),
    "inverse, square": factor(matpowers=(-1, 2)),
    "square, inverse": factor(matpowers=(2, -1)),
    "other damping": factor(matpowers=((-1, "other"),)),
    "a dot in it": factor(matpowers=((-1, "oth.er"),)),
    "another dot": factor(matpowers=((-1, "oth·er"),)),
    "cholesky": factor(cholesky=("damping",)),
    "cholesky_inverse": factor(cholesky_inverse=("damping",)),
    "biased average": factor(matpowers=(-1,), zero_debias=False),
    "bias": kc.factors.FullyConnectedKroneckerFactor(
        2, True, name="fc9", matpowers=(-1,)
    ),
    "uses": kc.factors.FullyConnectedMultiKF(3, name="fc9", matpowers=(-1,)),
    "diagonal": kc.factors.DiagonalKroneckerFactor(3, name="fc9", matpowers=(-1,)),
    "naive": kc.factors.NaiveFullFactor(3, name="fc9", matpowers=(-1,)),
    "locations": kc.factors.ConvOutputKroneckerFactor(3, name="fc9", matpowers=(-1,)),
    "patches": kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((3, 1, 1), padding="SAME"), name="fc9", matpowers=(-1,)
    ),
    "wider patches": kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((1, 3, 1), padding="SAME"), name="fc9", matpowers=(-1,)
    ),
    "low rank": kc.factors.FullyConnectedKroneckerFactor(
        3, form=kc.factors.LowRank(max_rows=3), name="fc9"
    ),
}
"""Factors of three entries: two that differ share no state."""

BLOCKS = {
    "pi": block(),
    "off": block(damping_type="off"),
    "exact": block(damping_type="exact"),
    "root": block(matpowers=(-0.5,)),
    "inverse, square": block(matpowers=(-1, 2)),
    "square, inverse": block(matpowers=(2, -1)),
    "cholesky": block(cholesky=True),
    "bias": kc.blocks.FullyConnectedKFACBasicFB(2, 3, True, name="fc9"),
    "diagonal inputs": block(diagonal_approx_for_input=True),
    "uses": kc.blocks.FullyConnectedMultiIndepFB(3, 3, num_uses=1, name="fc9"),
    "diagonal": kc.blocks.FullyConnectedDiagonalFB(3, 3, name="fc9"),
    "full": kc.blocks.NaiveFullFB(9, name="fc9"),
}
"""Blocks of a matrix of three rows and columns: two that differ share no state."""

WHATEVER = {"None": None, "a tuple": (), "a dictionary": {}, "an array": np.eye(3)}
"""What is no state at all."""

READS = {
    "get_cov": lambda spec, state: spec.get_cov(state),
    "get_cov_var": lambda spec, state: spec.get_cov_var(state),
    "get_matpower": lambda spec, state: spec.get_matpower(state, -1),
    "get_cholesky": lambda spec, state: spec.get_cholesky(state),
    "get_eigendecomp": lambda spec, state: spec.get_eigendecomp(state),
    "inverse_error": lambda spec, state: spec.inverse_error(state, 0.1),
    "trace": lambda spec, state: spec.trace(state),
    "multiply": lambda spec, state: spec.left_multiply_matpower(state, np.eye(3), -1),
    "update_inverses": lambda spec, state: spec.update_inverses(state, 0.1),
}

PRODUCTS = {
    "multiply_inverse": lambda spec, state: spec.multiply_inverse(state, np.eye(3)),
    "multiply_cholesky": lambda spec, state: spec.multiply_cholesky(state, np.eye(3)),
    "full_fisher_block": lambda spec, state: spec.full_fisher_block(state),
    "inverse_error": lambda spec, state: spec.inverse_error(state, 0.1),
    "update_inverses": lambda spec, state: spec.update_inverses(state, 0.1),
    "update_covs": lambda spec, state: spec.update_covs(state, X, G, 0.5),
}

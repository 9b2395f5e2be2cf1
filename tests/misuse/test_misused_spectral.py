"""Every function of a block's and an estimator's matrix, with each argument wrong."""

import numpy as np
import pytest
from bad_values import NOTHINGS, power
from given_models import LAYER, LOSS, MODEL, SITE, collection, problem
from scipy.sparse.linalg import LinearOperator
from walk import Call

import kfac_core as kc

LABELS = ("FisherEstimator", LAYER, SITE, LOSS)

VERBS = {
    "trace": (),
    "eigenvalues": (),
    "frobenius_norm": (),
    "logdet": ("damping", "scale"),
    "multiply_function": ("vector",),
    "multiply_matpower": ("vector", "exp", "damping", "scale"),
    "diagonal": ("like", "exp", "damping", "scale"),
    "sample": ("key", "like", "exp", "damping", "scale"),
    "inner_products": ("vectors", "exp", "damping", "scale"),
    "quadratic_forms": ("vectors", "exp", "damping", "scale"),
    "functional_variance": ("jacobians", "damping", "scale"),
    "as_linear_operator": ("like", "exp", "damping", "scale"),
}
OF_MANY = ("inner_products", "quadratic_forms")

KEYS = NOTHINGS | {"zero": 0, "integer": 7, "list": [], "array": np.zeros(2, "u4")}
WORDS = {
    "like": ("vector",),
    "vectors": ("vector",),
    "jacobians": ("vector",),
    "exp": ("matpower",),
    "spectrum": ("decompose",),
}
# Values are not asked for.
UNUSED = ("NaN", "infinity", "minus infinity")


@pytest.fixture
def params(rng):
    return problem(rng)[0]


@pytest.fixture
def estimator():
    return kc.FisherEstimator(collection(), "exact")


@pytest.fixture
def state(rng, estimator):
    given = problem(rng)
    linearization = MODEL.linearize(*given)
    return estimator.update_covs(estimator.init(given[0]), linearization, 0.5)


def spectra(kinds, spectrum, state):
    return kinds.state(another=state, listed=[spectrum], number_in_it=(1.0,))


def as_array(verb):
    """Return a verb whose result, if an operator of SciPy, is multiplied out."""

    def computed(**given):
        found = verb(**given)
        is_operator = isinstance(found, LinearOperator)
        return found @ np.eye(found.shape[0]) if is_operator else found

    return computed


@pytest.mark.parametrize("verb", VERBS)
def test_of_a_block(walked, kinds, estimator, state, params, verb):
    layer = next(own for own in estimator.layers if own.name == LAYER)
    curvature = kc.SpectralBlock(layer.block)
    spectrum = curvature.decompose(state.blocks[LAYER])
    vector = tuple(params[name] for name in layer.params)
    stack = tuple(x[None] for x in vector)
    points = tuple(x[None] for x in stack)
    right = {
        "jacobians": points,
        "vector": vector,
        "like": vector,
        "vectors": stack,
        "exp": -1,
        "damping": 0.1,
        "scale": 2.0,
        "key": np.random.default_rng(0),
    }
    faults = {
        "vector": kinds.vector(vector),
        "like": kinds.vector(vector),
        "vectors": kinds.vector(stack),
        "jacobians": kinds.vector(points),
        "exp": power(),
        "damping": kinds.scalar(),
        "scale": kinds.scalar(),
        "key": KEYS,
    }
    arguments = {"spectrum": spectrum} | {name: right[name] for name in VERBS[verb]}
    wrong = {name: faults[name] for name in VERBS[verb]}
    wrong["spectrum"] = spectra(kinds, spectrum, state)
    if verb == "multiply_function":
        arguments["function"] = np.sqrt
    call = Call(
        f"SpectralBlock.{verb}",
        as_array(getattr(curvature, verb)),
        arguments,
        wrong,
        label=LABELS,
        words=WORDS,
    )
    # Weights may have more axes in front of the last one, as kernels have.
    for name in set(VERBS[verb]) & {"vector", "like", "vectors", "jacobians"}:
        call = call.allowing(name, "an axis more")
    walked(call)


def test_decompose(walked, kinds, estimator, state, params):
    layer = next(own for own in estimator.layers if own.name == LAYER)
    matrix, block = kc.SpectralMatrix(estimator), kc.SpectralBlock(layer.block)
    others = kinds.state(emptied=state._replace(blocks={}))
    call = {"label": LABELS, "words": {"state": ("NotComputed",)}}
    walked(
        Call(
            "SpectralMatrix.decompose",
            matrix.decompose,
            {"state": state},
            {"state": others | {"of a block": state.blocks[LAYER]}},
            **call,
        ),
        Call(
            "SpectralBlock.decompose",
            block.decompose,
            {"state": state.blocks[LAYER]},
            {"state": others | {"of an estimator": state}},
            **call,
        ),
    )


@pytest.mark.parametrize("verb", VERBS)
def test_of_an_estimator(walked, kinds, estimator, state, params, verb):
    matrix = kc.SpectralMatrix(estimator)
    spectrum = matrix.decompose(state)
    stack = {name: x[None] for name, x in params.items()}
    points = {name: x[None] for name, x in stack.items()}
    right = {
        "jacobians": points,
        "vectors": stack if verb in OF_MANY else params,
        "like": params,
        "exp": -1,
        "damping": 0.1,
        "scale": 2.0,
        "key": np.random.default_rng(0),
    }
    nested = {f"of a layer: {k}": {LAYER: v} for k, v in kinds.scalar().items()}
    faults = {
        "vectors": kinds.named(right["vectors"]),
        "jacobians": kinds.named(points),
        "like": kinds.named(params),
        "exp": power(),
        "damping": kinds.scalar() | nested | {"unknown": {"other": 1.0}},
        "scale": kinds.scalar(),
        "key": KEYS,
    }
    names = ["vectors" if name == "vector" else name for name in VERBS[verb]]
    arguments = {"spectrum": spectrum} | {name: right[name] for name in names}
    wrong = {name: faults[name] for name in names}
    wrong["spectrum"] = spectra(kinds, spectrum, state)
    if verb == "multiply_function":
        arguments["function"] = np.sqrt
    call = Call(
        f"SpectralMatrix.{verb}",
        as_array(getattr(matrix, verb)),
        arguments,
        wrong,
        label=LABELS,
        words=WORDS,
    )
    walked(call)


def test_makers(walked, estimator):
    wrong = NOTHINGS | {"number": 1.0, "list": []}
    walked(
        Call(
            "SpectralBlock",
            kc.SpectralBlock,
            {"block": estimator.layers[0].block},
            {"block": wrong | {"estimator": estimator}},
            label="SpectralBlock",
        ),
        Call(
            "SpectralMatrix",
            kc.SpectralMatrix,
            {"estimator": estimator},
            {"estimator": wrong | {"block": estimator.layers[0].block}},
            label="SpectralMatrix",
        ),
    )

"""Every verb of every loss, with each argument as it cannot be."""

import numpy as np
import pytest
from bad_values import NOTHINGS
from loss_cases import CASES
from loss_table import CERTAIN, Table
from walk import Call

EVALUATIONS = ("evaluate", "gradient", "half_gradient", "multiply_hessian")
MATRICES = ("fisher", "ggn")
KINDS = ("", "_factor", "_factor_transpose", "_factor_replicated_one_hot")
SHAPES = (
    "targets_shape",
    "noise_shape",
    "fisher_factor_inner_shape",
    "ggn_factor_inner_shape",
)
SAMPLES = ("sample", "sample_from", "evaluate_on_sample")
PRODUCTS = {f"multiply_{matrix}{kind}" for matrix in MATRICES for kind in KINDS}
OTHERS = {"mask_for", "counting_all", "called"}
VERBS = {*EVALUATIONS, *PRODUCTS, *SHAPES, *SAMPLES, *OTHERS}


@pytest.fixture(params=CASES)
def table(request, kinds):
    return Table(request.param, kinds, np.random.default_rng(0))


def test_every_verb_is_walked(table):
    verbs = {name for name in dir(table.loss) if callable(getattr(table.loss, name))}
    assert {name for name in verbs if not name.startswith("_")} == VERBS


@pytest.mark.parametrize("verb", EVALUATIONS)
def test_evaluations(walked, table, verb):
    vector = ("vector",) if verb == "multiply_hessian" else ()
    if verb == "evaluate" and table.name == "bernoulli":
        # If an event is certain, the loss of the other one is infinite indeed.
        inputs = table.faults["inputs"]
        table.faults["inputs"] = {k: x for k, x in inputs.items() if k not in CERTAIN}
        table.allowed["inputs"] = ()
    walked(table.call(verb, "inputs", "targets", *vector, "mask"))


def test_products(walked, table):
    operands = dict(zip(KINDS, ("vector", "inner", "vector", "index"), strict=True))
    # Of a mean and a variance there is no Gauss-Newton matrix.
    matrices = MATRICES if table.has_ggn else ("fisher",)
    walked(
        *(
            table.call(f"multiply_{matrix}{kind}", "inputs", operand, "mask")
            for matrix in matrices
            for kind, operand in operands.items()
        )
    )


def test_samples(walked, table):
    walked(
        table.call("sample", "key", "inputs", "num_samples", "mask"),
        table.call("sample_from", "noise", "inputs", "mask"),
        table.call("evaluate_on_sample", "key", "inputs", "mask"),
    )


def test_shapes(walked, table):
    # They are asked for before there are values, and of any batch.
    free = arrays(table.faults["inputs"], len(table.loss.input_names))
    table.allowed["inputs"] = {*free} - {"no axes"}
    walked(
        *(
            table.call(verb, "inputs")
            for verb in SHAPES
            if table.has_ggn or not verb.startswith("ggn")
        )
    )


def test_masks_for_targets(walked, table):
    # What they hold is checked where they are used.
    for name in ("NaN", *CERTAIN):
        del table.faults["mask"][name]
    for name in ("targets", "mask"):
        table.allowed[name] = {*arrays(table.faults[name], 1)} - {"another library"}
    table.allowed["mask"] |= {"None"}
    walked(table.call("mask_for", "targets", "mask"))


def test_names(walked, table):
    faults = {"name": NOTHINGS | {"number": 1, "list": [], "array": np.ones(2)}}
    free = {"name": ("string",)}
    right, verb = {"name": "some/loss"}, f"{table.loss.label}.called"
    walked(Call(verb, table.loss.called, right, faults, free, table.loss.label))


def arrays(faults, number):
    """Faults that are so many arrays."""
    for name, x in faults.items():
        parts = x if isinstance(x, tuple) else (x,)
        if len(parts) == number and all(hasattr(part, "ndim") for part in parts):
            yield name

"""Replays of recorded losses: values, and products with Fisher and Gauss-Newton."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from case import Case, params
from golden_classes import LOSSES, ctor_of

from kfac_core.contrib import loss_functions

Convert = Callable[[Any], Any]

VERBS = ("multiply_fisher", "multiply_ggn")


def functional_loss(case: Case, convert: Convert) -> Iterator[tuple[str, Any]]:
    make, names = LOSSES[case.spec["class"]]
    arrays = tuple(convert(case.inputs[name]) for name in names)
    inputs = arrays if len(arrays) > 1 else arrays[0]
    targets = convert(case.inputs["targets"])
    yield "evaluate", make(**evaluated(case)).evaluate(inputs, targets)
    yield from products(make(**ctor_of(case)), case, convert, (inputs,))


def contrib_loss(case: Case, convert: Convert) -> Iterator[tuple[str, Any]]:
    _, names = LOSSES[case.spec["class"]]
    data = {name: convert(case.inputs[name]) for name in (*names, "targets")}
    make = getattr(loss_functions, case.spec["class"])
    yield "evaluate", make(**data, **evaluated(case)).evaluate()
    yield from products(make(**data, **ctor_of(case)), case, convert, ())


def evaluated(case: Case) -> dict[str, Any]:
    """Return the arguments of the loss that the original evaluates.

    TensorFlow makes a float32 tensor of a variance that is a Python number; in the
    products it stays as it is.
    """
    return {name: float(np.float32(value)) for name, value in ctor_of(case).items()}


def products(
    loss: Any, case: Case, convert: Convert, inputs: tuple[Any, ...]
) -> Iterator[tuple[str, Any]]:
    """Yield all products that were recorded; `inputs` is empty for a holder."""
    vector = convert(params(case.inputs, "vector"))
    operands = {
        "": vector,
        "_factor": convert(case.inputs["inner_vector"]),
        "_factor_transpose": vector,
        "_factor_replicated_one_hot": tuple(case.spec["replicated_one_hot_index"]),
    }
    # Not every product of every loss: one may have no Gauss-Newton matrix.
    recorded = {key.split("/")[0] for key in case.outputs}
    for verb in VERBS:
        for suffix, operand in operands.items():
            if verb + suffix in recorded:
                answer = getattr(loss, verb + suffix)(*inputs, operand)
                parts = answer if isinstance(answer, tuple) else (answer,)
                for i, part in enumerate(parts):
                    place = f"/{i}" if len(parts) > 1 else ""
                    yield verb + suffix + place, part

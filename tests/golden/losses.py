"""Replays of recorded losses: values, and products with Fisher and Gauss-Newton."""

from collections.abc import Callable, Iterator
from typing import Any

from case import Case, params
from classes import LOSSES, ctor_of

from kfac_core.contrib import loss_functions


def functional_loss(
    case: Case, convert: Callable[[Any], Any]
) -> Iterator[tuple[str, Any]]:
    make, names = LOSSES[case.spec["class"]]
    arrays = tuple(convert(case.inputs[name]) for name in names)
    inputs = arrays if len(arrays) > 1 else arrays[0]
    yield from answers(make(**ctor_of(case)), case, convert, (inputs,))


def contrib_loss(
    case: Case, convert: Callable[[Any], Any]
) -> Iterator[tuple[str, Any]]:
    _, names = LOSSES[case.spec["class"]]
    arrays = {name: convert(case.inputs[name]) for name in (*names, "targets")}
    make = getattr(loss_functions, case.spec["class"])
    yield from answers(make(**arrays, **ctor_of(case)), case, convert, ())


def answers(
    loss: Any, case: Case, convert: Callable[[Any], Any], inputs: tuple[Any, ...]
) -> Iterator[tuple[str, Any]]:
    """Yield all that was recorded; `inputs` is empty for a holder."""
    targets = (convert(case.inputs["targets"]),) if inputs else ()
    yield "evaluate", loss.evaluate(*inputs, *targets)
    vector = convert(params(case.inputs, "vector"))
    inner = convert(case.inputs["inner_vector"])
    index = tuple(case.spec["replicated_one_hot_index"])
    for kind in ("fisher", "ggn"):
        verb = f"multiply_{kind}"
        operands = {
            verb: vector,
            f"{verb}_factor": inner,
            f"{verb}_factor_transpose": vector,
            f"{verb}_factor_replicated_one_hot": index,
        }
        for name, operand in operands.items():
            # The mean-variance loss has no Gauss-Newton matrix.
            if any(key.split("/")[0] == name for key in case.outputs):
                answer = getattr(loss, name)(*inputs, operand)
                parts = answer if isinstance(answer, tuple) else (answer,)
                for i, part in enumerate(parts):
                    yield f"{name}/{i}" if len(parts) > 1 else name, part

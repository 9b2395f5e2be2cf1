"""Replay a recorded case on a face of the library: the functional core, or contrib.

A replay yields pairs of what the original gave, by name, and what the library gives.
"""

from collections.abc import Callable, Iterator
from typing import Any

from case import Case, params
from golden_classes import BLOCKS, COUNTED, FACTORS, ctor_of, damping_of
from losses import contrib_loss, functional_loss
from trajectories import trajectory

from kfac_core.contrib import PackagedFunc, fisher_blocks, fisher_factors

Convert = Callable[[Any], Any]
"""From nested tuples of NumPy arrays to those of another library."""

Answers = Iterator[tuple[str, Any]]

CHOLESKY = ("multiply_cholesky", "multiply_cholesky_inverse")


def as_sources(data: Any) -> Any:
    """Return sources of one array each as sources of one tower, or parameter, each."""
    return tuple(x if isinstance(x, tuple) else (x,) for x in data)


def arguments(case: Case, step: dict[str, Any], convert: Convert) -> tuple[Any, ...]:
    """Return a step's data as arguments of an update."""
    naive = "batch_size" in case.spec["ctor"]
    if case.spec["kind"] == "factor":
        data = []
        for argument in FACTORS[case.spec["class"]][1]:
            value = step[argument]
            by_source = argument in {"tensors", "outputs_grads", "params_grads"}
            data.append(convert(as_sources(value) if by_source else value))
    elif naive:
        data = [convert(as_sources(step.get("g", step.get("params_grads"))))]
    else:
        data = [convert(stacked(case, step["inputs"])), convert(as_sources(step["g"]))]
    return (*data, case.spec["ctor"]["batch_size"]) if naive else tuple(data)


def stacked(case: Case, inputs: Any) -> Any:
    """Return rows of ids of a shared embedding with an axis for the uses."""
    if case.spec["class"] != "EmbeddingKFACMultiIndepFB" or first(inputs).ndim != 2:
        return inputs
    uses = case.spec["ctor"]["num_uses"]
    return tuple(ids.reshape(uses, -1, ids.shape[-1]) for ids in inputs)


def functional_factor(case: Case, convert: Convert) -> Answers:
    make, _ = FACTORS[case.spec["class"]]
    factor = make(case.steps[0], **ctor_of(case))
    queries = case.spec.get("queries", [])
    for query in queries:
        factor = registered(factor, query)
    data = [arguments(case, step, convert) for step in case.steps]
    state = factor.init(like=first(data[0][-1 if len(data[0]) == 1 else 0]))
    for t, step in enumerate(data):
        state = factor.update_cov(state, *step, ema_decay=case.spec["ema_decay"])
        if f"cov/{t}" in case.outputs:
            yield f"cov/{t}", factor.get_cov_var(state)
    dampings = {q["damping"]: q["damping"] for q in queries if "damping" in q}
    state = factor.update_inverses(state, dampings)
    for i, query in enumerate(queries):
        key = query.get("damping")
        method = query["method"]
        if method == "cov_dense":
            answer = factor.get_cov(state)
        elif method in {"left_multiply_matpower", "right_multiply_matpower"}:
            x = convert(case.inputs[f"x/{i}"])
            answer = getattr(factor, method)(state, x, query["exp"], key)
        elif method == "matpower":
            answer = factor.get_matpower(state, query["exp"], key).to_dense()
        else:
            answer = getattr(factor, f"get_{method}")(state, key).to_dense()
        yield f"q/{i}", answer


def registered(factor: Any, query: dict[str, Any]) -> Any:
    method = query["method"]
    if "exp" in query:
        return factor.register_matpower(query["exp"], query["damping"])
    if method == "cov_dense":
        return factor
    return getattr(factor, f"register_{method}")(query["damping"])


def contrib_factor(case: Case, convert: Convert) -> Answers:
    data = [arguments(case, step, convert) for step in case.steps]
    names = FACTORS[case.spec["class"]][1]
    ctor = ctor_of(case)
    if "vocab_size" in ctor:
        ctor |= COUNTED
    given = dict(zip(names, data[0], strict=False))
    factor = getattr(fisher_factors, case.spec["class"])(**given, **ctor)
    factor.instantiate_cov_variables()
    update = factor.make_covariance_update_op(case.spec["ema_decay"])
    for t, step in enumerate(data):
        stored = update(*step) if t else update()
        if f"cov/{t}" in case.outputs:
            yield f"cov/{t}", stored
    queries = case.spec.get("queries", [])
    dampings = {q["damping"] for q in queries if "damping" in q}
    functions = {damping: packaged(damping) for damping in dampings}
    for query in queries:
        if "exp" in query:
            factor.register_matpower(query["exp"], functions[query["damping"]])
        elif query["method"] != "cov_dense":
            register = getattr(factor, f"register_{query['method']}")
            register(functions[query["damping"]])
    factor.instantiate_inv_variables()
    for op in factor.make_inverse_update_ops():
        op()
    for i, query in enumerate(queries):
        function = functions.get(query.get("damping"))
        method = query["method"]
        if method == "cov_dense":
            answer = factor.get_cov()
        elif method in {"left_multiply_matpower", "right_multiply_matpower"}:
            x = convert(case.inputs[f"x/{i}"])
            answer = getattr(factor, method)(x, query["exp"], function)
        elif method == "matpower":
            answer = factor.get_matpower(query["exp"], function).to_dense()
        else:
            answer = getattr(factor, f"get_{method}")(function).to_dense()
        yield f"q/{i}", answer


def packaged(damping: float) -> PackagedFunc:
    return PackagedFunc(lambda: damping, ("damping", damping))


def functional_block(case: Case, convert: Convert) -> Answers:
    vector = params(case.inputs, "vector")
    make = BLOCKS[case.spec["class"]]
    block = make(
        case.steps[0],
        vector,
        **ctor_of(case),
        matpowers=tuple(case.spec["exps"]),
        cholesky=has_cholesky(case),
        cholesky_inverse=has_cholesky(case),
    )
    data = [arguments(case, step, convert) for step in case.steps]
    state = block.init(like=first(convert(vector)))
    for step in data:
        state = block.update_covs(state, *step, ema_decay=case.spec["ema_decay"])
    state = block.update_inverses(state, damping_of(case))
    yield from block_answers(block, case, convert(vector), (state,))


def contrib_block(case: Case, convert: Convert) -> Answers:
    vector = convert(params(case.inputs, "vector"))
    data = [arguments(case, step, convert) for step in case.steps]
    ctor = ctor_of(case)
    batch_size = ctor.pop("batch_size", None)
    if "vocab_size" in ctor:
        ctor |= COUNTED
    if "filter_shape" in ctor or batch_size is not None:
        for name in ("filter_shape", "has_bias"):
            ctor.pop(name, None)
        ctor["params"] = vector
    block = getattr(fisher_blocks, case.spec["class"])(None, **ctor)
    if batch_size is not None:
        block.register_additional_tower(batch_size)
        gradients = data[0][0]
    else:
        inputs, gradients = data[0]
        for x, g in zip(inputs, gradients[0], strict=True):
            # The outputs themselves are only what to differentiate for.
            block.register_additional_minibatch(x, g)
    block.instantiate_factors(gradients, damping_of(case))
    for exp in case.spec["exps"]:
        block.register_matpower(exp)
    if has_cholesky(case):
        block.register_cholesky()
        block.register_cholesky_inverse()
    block.instantiate_cov_variables()
    block.instantiate_inv_variables()
    update = block.make_covariance_update_op(case.spec["ema_decay"])
    update()
    for step in data[1:]:
        update(*step)
    for op in block.make_inverse_update_ops():
        op()
    yield from block_answers(block, case, vector, ())


def block_answers(
    block: Any, case: Case, vector: Any, state: tuple[Any, ...]
) -> Answers:
    """Yield all that was recorded of a block; `state` is empty for a holder."""
    for exp in case.spec["exps"]:
        answer = block.multiply_matpower(*state, vector, exp)
        yield from flat(f"multiply_matpower/{exp}", answer)
        if exp == 1:
            yield from flat("multiply_matpower/1", block.multiply(*state, vector))
        if exp == -1:
            inverse = block.multiply_inverse(*state, vector)
            yield from flat("multiply_matpower/-1", inverse)
    for verb in CHOLESKY if has_cholesky(case) else ():
        for transpose in (False, True):
            answer = getattr(block, verb)(*state, vector, transpose=transpose)
            yield from flat(f"{verb}/transpose{int(transpose)}", answer)
    if "full_fisher_block" in case.outputs:
        yield "full_fisher_block", block.full_fisher_block(*state)


def has_cholesky(case: Case) -> bool:
    """Say whether products with Cholesky factors were recorded: a series has none."""
    return any(key.startswith(CHOLESKY) for key in case.outputs)


def flat(name: str, answer: Any) -> Answers:
    if isinstance(answer, tuple):
        for i, part in enumerate(answer):
            yield f"{name}/{i}", part
    else:
        yield name, answer


def first(data: Any) -> Any:
    while isinstance(data, tuple):
        data = data[0]
    return data


REPLAYS = {
    ("factor", "functional"): functional_factor,
    ("factor", "contrib"): contrib_factor,
    ("block", "functional"): functional_block,
    ("block", "contrib"): contrib_block,
    ("loss", "functional"): functional_loss,
    ("loss", "contrib"): contrib_loss,
    ("optimizer", "functional"): trajectory,
}

"""The losses of ``tf.contrib.kfac``, and what their names are here."""

from tf_contrib_kfac.tables import Name, Original, same

_PRODUCTS = ("fisher", "ggn", "hessian")


def _product_members(kind: str) -> dict[str, Name]:
    """Return the members of a matrix: what was the Hessian in 2018 is now the GGN."""
    core = "ggn" if kind == "hessian" else kind
    note = "the name of 2018" if kind == "hessian" else ""
    multiply = ("", "_factor", "_factor_transpose", "_factor_replicated_one_hot")
    names = [f"multiply_{{}}{part}" for part in multiply]
    names.append("{}_factor_inner_shape")
    members = {name.format(kind): Name(name.format(core), note) for name in names}
    static = Name(f"{core}_factor_inner_shape", "every shape is static")
    return members | {f"{kind}_factor_inner_static_shape": static}


LOSS_MEMBERS = {
    "inputs": Name("evaluate(inputs)"),
    "params": Name("evaluate(inputs)"),
    "targets": Name("evaluate(targets)"),
    "dtype": Name("", "that of the inputs, at least float32"),
    "evaluate": Name("evaluate"),
    **same("sample", "evaluate_on_sample"),
    **{
        name: core
        for kind in _PRODUCTS
        for name, core in _product_members(kind).items()
    },
}
"""The members of all losses: the Fisher's for all, the GGN's where a loss has one."""

_TARGETS = {
    "targets": Name("evaluate(targets)"),
    "seed": Name("sample(key)"),
}
_LOGITS = {"logits": Name("evaluate(inputs)"), **_TARGETS}

LOSSES = (
    Original("LossFunction", "base", {}, LOSS_MEMBERS),
    Original(
        "NormalMeanNegativeLogProbLoss",
        "both",
        {"mean": Name("evaluate(inputs)"), "var": Name("var"), **_TARGETS},
    ),
    Original(
        "NormalMeanVarianceNegativeLogProbLoss",
        "both",
        {
            "mean": Name("evaluate(inputs)", "the first of a pair"),
            "variance": Name("evaluate(inputs)", "the second"),
            **_TARGETS,
        },
        note="no GGN, as before; its Hessian is here",
    ),
    Original("CategoricalLogitsNegativeLogProbLoss", "both", _LOGITS),
    Original("OnehotCategoricalLogitsNegativeLogProbLoss", "both", _LOGITS),
    Original("MultiBernoulliNegativeLogProbLoss", "both", _LOGITS),
)
"""The classes of ``loss_functions``."""

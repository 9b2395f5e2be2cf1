"""The factors of ``tf.contrib.kfac``, and what their names are here."""

from tf_contrib_kfac.tables import (
    GEOMETRY,
    PATCH_FUNCTION,
    Name,
    Original,
    of_geometry,
)

_ID = "the damping function becomes a damping id"
_SNAPSHOT = "as of the last `update_inverses`; the power 1 is fresh"
_OPERATOR = "a linear operator; as of the last `update_inverses`"

FACTOR_MEMBERS = {
    "name": Name("name", "for messages alone: nothing is looked up by it"),
    "instantiate_cov_variables": Name("init", "returns the state"),
    "instantiate_inv_variables": Name(
        "init_inverses", "only to bring a state along after `register_...`"
    ),
    "make_covariance_update_op": Name("update_cov", "takes the data, too"),
    "make_inverse_update_ops": Name("update_inverses", "takes the damping"),
    "get_cov": Name("get_cov", "the whole matrix, as in r1.8"),
    "get_cov_var": Name("get_cov_var", "as it is stored"),
    "get_cov_as_linear_operator": Name("get_cov_as_linear_operator"),
    "get_eigendecomp": Name("get_eigendecomp", "fresh, none negative"),
    "register_matpower": Name("register_matpower", f"returns a new spec; {_ID}"),
    "register_inverse": Name("register_inverse", f"returns a new spec; {_ID}"),
    "register_cholesky": Name("register_cholesky", f"returns a new spec; {_ID}"),
    "register_cholesky_inverse": Name(
        "register_cholesky_inverse", f"returns a new spec; {_ID}"
    ),
    "get_matpower": Name("get_matpower", f"a linear operator; {_SNAPSHOT}"),
    "get_inverse": Name("get_inverse", _OPERATOR),
    "get_cholesky": Name("get_cholesky", _OPERATOR),
    "get_cholesky_inverse": Name("get_cholesky_inverse", _OPERATOR),
    "left_multiply_matpower": Name("left_multiply_matpower", _SNAPSHOT),
    "right_multiply_matpower": Name(
        "right_multiply_matpower", f"{_SNAPSHOT}; diagonal factors have it, too"
    ),
}
"""The members of all factors, though not every class has all of them."""

SERIES_MEMBERS = {
    "register_cov_dt1": Name("register_cov_dt1", "returns a new spec"),
    "get_cov_dt1": Name("get_cov_dt1", "in 2022 the property `cov_dt1`"),
    "register_option1quants": Name(
        "register_option1quants", f"returns a new spec, with lag one; {_ID}"
    ),
    "register_option2quants": Name(
        "register_option2quants", f"returns a new spec, with lag one; {_ID}"
    ),
    "get_option1quants": Name(
        "get_option1quants", "`lmat` and `psi`, as of the last `update_inverses`"
    ),
    "get_option2quants": Name(
        "get_option2quants",
        "`pmat`, `kmat` and `mu`, as of the last `update_inverses`",
    ),
}
"""The members of `FullyConnectedMultiKF` alone."""


def _members(*names: str) -> dict[str, Name]:
    return {name: FACTOR_MEMBERS[name] for name in names}


_DENSE = FACTOR_MEMBERS
_DIAGONAL = {
    name: core
    for name, core in FACTOR_MEMBERS.items()
    if name not in {"get_eigendecomp", "get_inverse", "register_inverse"}
}
_VARIABLES = (
    "name",
    "get_cov",
    "instantiate_cov_variables",
    "instantiate_inv_variables",
    "make_covariance_update_op",
    "make_inverse_update_ops",
    "register_matpower",
)
_TWO_SIDED = ("left_multiply_matpower", "right_multiply_matpower")

_BIAS = {"has_bias": Name("has_bias")}
_X = Name("update_cov(inputs)", "and its length is the field `input_size`")
_G = Name("update_cov(outputs_grads)", "and its length is the field `output_size`")
_CONV_X = {"inputs": Name("update_cov(inputs)")}
_CONV_G = {
    "outputs_grads": Name(
        "update_cov(outputs_grads)", "its channels: the field `output_size`"
    )
}
_ROWS = {"tensors": Name("update_cov(tensors)", "its length: the field `size`")}
_SHAPE = of_geometry(filter_shape="filter_shape")
_FORMAT = {"data_format": Name("data_format")}
_USES = {"num_uses": Name("num_uses", "not needed where the data say it")}
_DTYPE = {"dtype": Name("init(like)", "that of this array, at least float32")}
_MASK = {"patch_mask": Name("patch_mask", "since 2022")}
_STEPS = {
    **GEOMETRY,
    **PATCH_FUNCTION,
    **_BIAS,
}
_SAMPLE = {
    "sub_sample_inputs": Name(
        "sub_sample_inputs", "since r1.10; `inputs_fraction` of the cases, by a `key`"
    ),
    "sub_sample_patches": Name(
        "sub_sample_patches",
        "since r1.10; at most `max_patches` and `max_patches_per_dimension`, by a"
        " `key`",
    ),
    **_MASK,
}
_NAIVE = {
    "params_grads": Name("update_cov(params_grads)", "its entries: the field `size`"),
    "batch_size": Name("update_cov(batch_size)"),
}
_SCALE_AND_SHIFT = {
    "inputs": Name("update_cov(inputs)", "its shape: the field `input_shape`"),
    "outputs_grads": Name(
        "update_cov(outputs_grads)", "its shape: the field `output_shape`"
    ),
    "broadcast_dims_scale": Name("broadcast_dims_scale"),
    "broadcast_dims_shift": Name("broadcast_dims_shift"),
    "has_shift": Name("has_shift"),
}

FACTORS = (
    # The classes that the manual documents.
    Original(
        "EmbeddingInputKroneckerFactor",
        "r1.8",
        {
            "input_ids": Name("update_cov(input_ids)"),
            "vocab_size": Name("vocab_size"),
            "dtype": Name("dtype"),
        },
        _members(*_VARIABLES, "get_cov_var", *_TWO_SIDED),
    ),
    Original(
        "ConvInputKroneckerFactor",
        "r1.8",
        {**_CONV_X, **_SHAPE, **_STEPS, **_SAMPLE},
        _members(
            *_VARIABLES,
            "get_cov_var",
            "get_eigendecomp",
            "get_inverse",
            "get_matpower",
            "register_inverse",
            *_TWO_SIDED,
        ),
    ),
    Original(
        "FullyConnectedDiagonalFactor",
        "r1.10",
        {"inputs": _X, "outputs_grads": _G, **_BIAS},
        _members(
            *_VARIABLES,
            "get_cholesky",
            "get_cholesky_inverse",
            "get_cov_as_linear_operator",
            "get_matpower",
            "register_cholesky",
            "register_cholesky_inverse",
        ),
    ),
    # Their relatives, all releases together.
    Original("FisherFactor", "base", {}, _DIAGONAL),
    Original("DenseSquareMatrixFactor", "base, r1.10", {}, _DENSE),
    Original(
        "InverseProvidingFactor",
        "base, r1.8",
        {},
        _DENSE,
        core="DenseSquareMatrixFactor",
    ),
    Original("DiagonalFactor", "base", {}, _DIAGONAL),
    Original("FullyConnectedKroneckerFactor", "r1.10", {**_ROWS, **_BIAS}, _DENSE),
    Original(
        "FullyConnectedMultiKF",
        "r1.10",
        {**_ROWS, "num_uses": Name("num_uses", "needed for lag one"), **_BIAS},
        {**_DENSE, **SERIES_MEMBERS},
    ),
    Original(
        "DiagonalKroneckerFactor",
        "2022",
        {
            "tensors": Name(
                "update_cov(tensors)", "rows; of ids: `EmbeddingInputKroneckerFactor`"
            ),
            **_BIAS,
            **_DTYPE,
        },
        _DIAGONAL,
    ),
    Original(
        "DiagonalMultiKF",
        "2022",
        {
            "tensors": Name(
                "update_cov(tensors)", "rows; of ids: `EmbeddingInputKroneckerFactor`"
            ),
            **_USES,
            **_BIAS,
            **_DTYPE,
        },
        _DIAGONAL,
    ),
    Original(
        "ConvInputMultiKF",
        "2022",
        {
            **_CONV_X,
            **_SHAPE,
            "padding": GEOMETRY["padding"],
            **_USES,
            **_STEPS,
            **_SAMPLE,
        },
        _DENSE,
    ),
    Original(
        "ConvInputSUAKroneckerFactor",
        "2022",
        {**_CONV_X, **_SHAPE, **_BIAS},
        _members(
            *_VARIABLES, "get_cov_var", "get_cov_as_linear_operator", "get_matpower"
        ),
        note="any power; rows as in the block's matrix, by offset and then channel",
    ),
    Original("ConvOutputKroneckerFactor", "r1.10", {**_CONV_G, **_FORMAT}, _DENSE),
    Original("ConvOutputMultiKF", "2022", {**_CONV_G, **_USES, **_FORMAT}, _DENSE),
    Original(
        "ConvDiagonalFactor",
        "r1.10",
        {
            **_CONV_X,
            "outputs_grads": Name("update_cov(outputs_grads)"),
            **_SHAPE,
            **of_geometry(
                strides="strides",
                padding="padding",
                data_format="data_format",
                dilations="dilations",
            ),
            **_BIAS,
            **_MASK,
        },
        _DIAGONAL,
    ),
    Original("ScaleAndShiftFullFactor", "2022", _SCALE_AND_SHIFT, _DENSE),
    Original("ScaleAndShiftDiagonalFactor", "2022", _SCALE_AND_SHIFT, _DIAGONAL),
    Original("FullFactor", "r1.10", _NAIVE, _DENSE, core="NaiveFullFactor"),
    Original("NaiveFullFactor", "later name", _NAIVE, _DENSE),
    Original("NaiveDiagonalFactor", "r1.10", _NAIVE, _DIAGONAL),
)
"""The classes of ``fisher_factors``."""

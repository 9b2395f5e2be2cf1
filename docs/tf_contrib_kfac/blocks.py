"""The blocks of ``tf.contrib.kfac``, and what their names are here."""

from tf_contrib_kfac.tables import (
    GEOMETRY,
    PATCH_FUNCTION,
    Name,
    Original,
    of_geometry,
    same,
)

_SNAPSHOT = "as of the last `update_inverses`; the power 1 is fresh"

BLOCK_MEMBERS = {
    "register_additional_minibatch": Name(
        "update_covs", "towers are the entries of a tuple"
    ),
    "register_additional_tower": Name(
        "update_covs", "towers are the entries of a tuple"
    ),
    "num_registered_minibatches": Name(
        "update_covs", "the length of that tuple; a naive block: `batch_size`"
    ),
    "num_registered_towers": Name(
        "update_covs", "the length of that tuple; a naive block: `batch_size`"
    ),
    "tensors_to_compute_grads": Name(
        "update_covs", "takes the gradients of the summed loss for the layer's outputs"
    ),
    "instantiate_factors": Name(
        "init", "the gradients go to `update_covs`, the damping to `update_inverses`"
    ),
    "register_matpower": Name("register_matpower", "returns a new spec"),
    "register_inverse": Name("register_inverse", "every block serves it anyway"),
    "register_cholesky": Name("register_cholesky", "returns a new spec"),
    "register_cholesky_inverse": Name(
        "register_cholesky_inverse", "returns a new spec"
    ),
    "multiply_matpower": Name("multiply_matpower", _SNAPSHOT),
    "multiply": Name("multiply", "the power 1"),
    "multiply_inverse": Name("multiply_inverse", "the power -1"),
    "multiply_cholesky": Name("multiply_cholesky", "as of the last `update_inverses`"),
    "multiply_cholesky_inverse": Name(
        "multiply_cholesky_inverse", "as of the last `update_inverses`"
    ),
    "full_fisher_block": Name("full_fisher_block", "undamped"),
}
"""The members of all blocks; bases have no towers."""

_BASE = {
    name: core
    for name, core in BLOCK_MEMBERS.items()
    if not name.startswith("register_additional")
}
_OWNER = {
    "layer_collection": Name("", "a block owns its factors; no list of blocks needed")
}
_BIAS = same("has_bias")
_PARAMS = {
    "params": Name("ConvolutionGeometry.filter_shape", "a bias among them: `has_bias`")
}
_MASK = {"patch_mask": Name("patch_mask", "since 2022")}
_PATCHES = {**GEOMETRY, **PATCH_FUNCTION}
_USES = {"num_uses": Name("num_uses", "not needed where the data say it")}
_DIAGONAL_SIDES = {
    "diagonal_approx_for_input": Name("diagonal_approx_for_input", "since 2022"),
    "diagonal_approx_for_output": Name("diagonal_approx_for_output", "since 2022"),
}
_DEPTHWISE = {
    **_OWNER,
    **_PARAMS,
    **of_geometry(
        strides="strides",
        padding="padding",
        rate="dilations",
        data_format="data_format",
    ),
}
_NAIVE = {**_OWNER, "params": Name("size", "the number of entries")}
_SCALE_AND_SHIFT = {
    **_OWNER,
    **same("broadcast_dims_scale", "broadcast_dims_shift", "has_shift"),
}

BLOCKS = (
    # The class that the manual documents.
    Original(
        "EmbeddingKFACFB",
        "r1.7",
        {**_OWNER, "vocab_size": Name("vocab_size")},
        {
            name: BLOCK_MEMBERS[name]
            for name in (
                "num_registered_minibatches",
                "full_fisher_block",
                "instantiate_factors",
                "multiply",
                "multiply_inverse",
                "register_additional_minibatch",
                "tensors_to_compute_grads",
            )
        },
    ),
    # Its relatives, all releases together.
    Original("FisherBlock", "base", _OWNER, _BASE),
    Original("KroneckerProductFB", "base", _OWNER, _BASE),
    Original(
        "FullyConnectedKFACBasicFB",
        "r1.10",
        {**_OWNER, **_BIAS, **_DIAGONAL_SIDES},
        BLOCK_MEMBERS,
    ),
    Original(
        "FullyConnectedMultiIndepFB",
        "r1.10",
        {**_OWNER, **_BIAS, **_USES, **_DIAGONAL_SIDES},
        BLOCK_MEMBERS,
    ),
    Original(
        "FullyConnectedSeriesFB",
        "r1.10",
        {
            **_OWNER,
            **_BIAS,
            **_USES,
            "option": Name("option", "a `SeriesFBApproximation`, or its number"),
        },
        BLOCK_MEMBERS,
        note="serves the inverse alone; the other products are an error",
    ),
    Original(
        "SeriesFBApproximation",
        "r1.10",
        note="`option1`, `option2`: an enumeration, as it was",
    ),
    Original(
        "EmbeddingKFACMultiIndepFB",
        "r1.10",
        {**_OWNER, "vocab_size": Name("vocab_size"), **_USES},
        BLOCK_MEMBERS,
    ),
    Original(
        "ConvKFCBasicFB",
        "r1.10",
        {
            **_OWNER,
            **_PARAMS,
            **_PATCHES,
            "sub_sample_inputs": Name(
                "sub_sample_inputs", "since 2022; `update_covs` then takes a `key`"
            ),
            "sub_sample_patches": Name(
                "sub_sample_patches", "since 2022; `update_covs` then takes a `key`"
            ),
            "use_sua_approx_for_input_factor": Name(
                "use_sua_approx_for_input_factor", "since 2022"
            ),
            **_MASK,
        },
        BLOCK_MEMBERS,
    ),
    Original(
        "ConvKFCBasicMultiIndepFB",
        "r1.10",
        {**_OWNER, **_PARAMS, **_PATCHES, **_USES},
        BLOCK_MEMBERS,
    ),
    Original(
        "GroupedConvKFCBasicFB",
        "new here",
        {
            **_OWNER,
            **_PARAMS,
            **of_geometry(num_groups="num_groups"),
            **GEOMETRY,
        },
        BLOCK_MEMBERS,
        note="a factor pair for each group of channels",
    ),
    Original(
        "DepthwiseConvKFCBasicFB",
        "r1.10",
        _DEPTHWISE,
        BLOCK_MEMBERS,
        note="a factor pair for each input channel",
    ),
    Original("DepthwiseConvDiagonalFB", "r1.10", _DEPTHWISE, BLOCK_MEMBERS),
    Original("FullyConnectedDiagonalFB", "r1.10", {**_OWNER, **_BIAS}, BLOCK_MEMBERS),
    Original(
        "ConvDiagonalFB",
        "r1.10",
        {
            **_OWNER,
            **_PARAMS,
            **of_geometry(
                strides="strides",
                padding="padding",
                data_format="data_format",
                dilations="dilations",
            ),
            **_MASK,
        },
        BLOCK_MEMBERS,
    ),
    Original("ScaleAndShiftFullFB", "2022", _SCALE_AND_SHIFT, BLOCK_MEMBERS),
    Original("ScaleAndShiftDiagonalFB", "2022", _SCALE_AND_SHIFT, BLOCK_MEMBERS),
    Original("FullFB", "r1.10", _NAIVE, BLOCK_MEMBERS, core="NaiveFullFB"),
    Original("NaiveFullFB", "later name", _NAIVE, BLOCK_MEMBERS),
    Original("NaiveDiagonalFB", "r1.10", _NAIVE, BLOCK_MEMBERS),
)
"""The classes of ``fisher_blocks``."""

"""The factors and blocks of the original, as its manual and its source document them.

For each class the arguments of its constructor, and its members: methods with their
arguments, and properties with None.
"""

# First the classes that the manual has a page for, member by member.
DOCUMENTED = {
    "EmbeddingInputKroneckerFactor": (  # r1.8
        "input_ids, vocab_size, dtype",
        {
            "name": None,
            "get_cov": "",
            "get_cov_var": "",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "left_multiply_matpower": "x, exp, damping_func",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_matpower": "exp, damping_func",
            "right_multiply_matpower": "x, exp, damping_func",
        },
    ),
    "EmbeddingKFACFB": (  # r1.7
        "layer_collection, vocab_size",
        {
            "num_registered_minibatches": None,
            "full_fisher_block": "",
            "instantiate_factors": "grads_list, damping",
            "multiply": "vector",
            "multiply_inverse": "vector",
            "register_additional_minibatch": "inputs, outputs",
            "tensors_to_compute_grads": "",
        },
    ),
    "ConvInputKroneckerFactor": (  # r1.8
        "inputs, filter_shape, padding, strides, dilation_rate, data_format,"
        " extract_patches_fn, has_bias, sub_sample_inputs, sub_sample_patches,"
        " patch_mask",
        {
            "name": None,
            "get_cov": "",
            "get_cov_var": "",
            "get_eigendecomp": "",
            "get_inverse": "damping_func",
            "get_matpower": "exp, damping_func",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "left_multiply_matpower": "x, exp, damping_func",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_inverse": "damping_func",
            "register_matpower": "exp, damping_func",
            "right_multiply_matpower": "x, exp, damping_func",
        },
    ),
    "FullyConnectedDiagonalFactor": (  # r1.10
        "inputs, outputs_grads, has_bias",
        {
            "name": None,
            "get_cholesky": "damping_func",
            "get_cholesky_inverse": "damping_func",
            "get_cov": "",
            "get_cov_as_linear_operator": "",
            "get_matpower": "exp, damping_func",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_cholesky": "damping_func",
            "register_cholesky_inverse": "damping_func",
            "register_matpower": "exp, damping_func",
        },
    ),
}

# Their bases and relatives: the members of all releases together.
FACTOR = {
    "name": None,
    "instantiate_cov_variables": "",
    "make_covariance_update_op": "ema_decay",
    "instantiate_inv_variables": "",
    "make_inverse_update_ops": "",
    "get_cov": "",
    "get_cov_var": "",
    "get_cov_as_linear_operator": "",
    "register_matpower": "exp, damping_func",
    "register_cholesky": "damping_func",
    "register_cholesky_inverse": "damping_func",
    "get_matpower": "exp, damping_func",
    "get_cholesky": "damping_func",
    "get_cholesky_inverse": "damping_func",
    "left_multiply_matpower": "x, exp, damping_func",
    "right_multiply_matpower": "x, exp, damping_func",
}
DENSE = FACTOR | {
    "register_inverse": "damping_func",
    "get_inverse": "damping_func",
    "get_eigendecomp": "",
}
SERIES = DENSE | {
    "register_cov_dt1": "",
    "get_cov_dt1": "",
    "register_option1quants": "damping_func",
    "register_option2quants": "damping_func",
    "get_option1quants": "damping_func",
    "get_option2quants": "damping_func",
}
SCALE_AND_SHIFT = "broadcast_dims_scale, broadcast_dims_shift, has_shift"
SCALE_AND_SHIFT_DATA = f"inputs, outputs_grads, {SCALE_AND_SHIFT}"
BASE_BLOCK = {
    "tensors_to_compute_grads": "",
    "num_registered_minibatches": None,
    "num_registered_towers": None,
    "instantiate_factors": "grads_list, damping",
    "register_matpower": "exp",
    "register_inverse": "",
    "register_cholesky": "",
    "register_cholesky_inverse": "",
    "multiply_matpower": "vector, exp",
    "multiply": "vector",
    "multiply_inverse": "vector",
    "multiply_cholesky": "vector, transpose",
    "multiply_cholesky_inverse": "vector, transpose",
    "full_fisher_block": "",
}
LAYER_BLOCK = BASE_BLOCK | {
    "register_additional_minibatch": "inputs, outputs",
    "register_additional_tower": "inputs, outputs",
}
DEPTHWISE = "layer_collection, params, strides, padding, rate, data_format"
NAIVE_BLOCK = BASE_BLOCK | {
    "register_additional_minibatch": "batch_size",
    "register_additional_tower": "batch_size",
}
DOCUMENTED |= {
    "FisherFactor": ("", FACTOR),
    "DenseSquareMatrixFactor": ("", DENSE),
    "InverseProvidingFactor": ("", DENSE),
    "DiagonalFactor": ("", FACTOR),
    "FullyConnectedKroneckerFactor": ("tensors, has_bias", DENSE),
    "ConvOutputKroneckerFactor": ("outputs_grads, data_format", DENSE),
    "ConvDiagonalFactor": (
        "inputs, outputs_grads, filter_shape, strides, padding, data_format,"
        " dilations, has_bias, patch_mask",
        FACTOR,
    ),
    "FullyConnectedMultiKF": ("tensors, num_uses, has_bias", SERIES),
    "DiagonalKroneckerFactor": ("tensors, has_bias, dtype", FACTOR),
    "DiagonalMultiKF": ("tensors, num_uses, has_bias, dtype", FACTOR),
    "ConvInputMultiKF": (
        "inputs, filter_shape, padding, num_uses, strides, dilation_rate, data_format,"
        " extract_patches_fn, has_bias, sub_sample_inputs, sub_sample_patches,"
        " patch_mask",
        DENSE,
    ),
    "ConvOutputMultiKF": ("outputs_grads, num_uses, data_format", DENSE),
    "ConvInputSUAKroneckerFactor": (
        "inputs, filter_shape, has_bias",
        {
            "name": None,
            "get_cov": "",
            "get_cov_var": "",
            "get_cov_as_linear_operator": "",
            "get_matpower": "exp, damping_func",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_matpower": "exp, damping_func",
        },
    ),
    "ScaleAndShiftFullFactor": (SCALE_AND_SHIFT_DATA, DENSE),
    "ScaleAndShiftDiagonalFactor": (SCALE_AND_SHIFT_DATA, FACTOR),
    "FullFactor": ("params_grads, batch_size", DENSE),
    "NaiveFullFactor": ("params_grads, batch_size", DENSE),
    "NaiveDiagonalFactor": ("params_grads, batch_size", FACTOR),
    "FisherBlock": ("layer_collection", BASE_BLOCK),
    "KroneckerProductFB": ("layer_collection", BASE_BLOCK),
    "FullyConnectedKFACBasicFB": (
        "layer_collection, has_bias, diagonal_approx_for_input,"
        " diagonal_approx_for_output",
        LAYER_BLOCK,
    ),
    "FullyConnectedMultiIndepFB": (
        "layer_collection, has_bias, num_uses, diagonal_approx_for_input,"
        " diagonal_approx_for_output",
        LAYER_BLOCK,
    ),
    "FullyConnectedSeriesFB": (
        "layer_collection, has_bias, num_uses, option",
        LAYER_BLOCK,
    ),
    "SeriesFBApproximation": ("", {}),
    "EmbeddingKFACMultiIndepFB": (
        "layer_collection, vocab_size, num_uses",
        LAYER_BLOCK,
    ),
    "ConvKFCBasicFB": (
        "layer_collection, params, padding, strides, dilation_rate, data_format,"
        " extract_patches_fn, sub_sample_inputs, sub_sample_patches,"
        " use_sua_approx_for_input_factor, patch_mask",
        LAYER_BLOCK,
    ),
    "ConvKFCBasicMultiIndepFB": (
        "layer_collection, params, padding, strides, dilation_rate, data_format,"
        " extract_patches_fn, num_uses",
        LAYER_BLOCK,
    ),
    # Of this library alone.
    "GroupedConvKFCBasicFB": (
        "layer_collection, params, num_groups, padding, strides, dilation_rate,"
        " data_format",
        LAYER_BLOCK,
    ),
    "DepthwiseConvKFCBasicFB": (DEPTHWISE, LAYER_BLOCK),
    "DepthwiseConvDiagonalFB": (DEPTHWISE, LAYER_BLOCK),
    "FullyConnectedDiagonalFB": ("layer_collection, has_bias", LAYER_BLOCK),
    "ConvDiagonalFB": (
        "layer_collection, params, strides, padding, data_format, dilations,"
        " patch_mask",
        LAYER_BLOCK,
    ),
    "ScaleAndShiftFullFB": (f"layer_collection, {SCALE_AND_SHIFT}", LAYER_BLOCK),
    "ScaleAndShiftDiagonalFB": (f"layer_collection, {SCALE_AND_SHIFT}", LAYER_BLOCK),
    "FullFB": ("layer_collection, params", NAIVE_BLOCK),
    "NaiveFullFB": ("layer_collection, params", NAIVE_BLOCK),
    "NaiveDiagonalFB": ("layer_collection, params", NAIVE_BLOCK),
}

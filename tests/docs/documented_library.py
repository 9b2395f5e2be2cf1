"""The rest of the original, as its source documents it, of both generations.

For each class or function its arguments, and for a class its other names.
"""

LOSS = (
    "targets, inputs, params, dtype, evaluate, evaluate_on_sample, sample,"
    " multiply_fisher, multiply_fisher_factor, multiply_fisher_factor_transpose,"
    " multiply_fisher_factor_replicated_one_hot, fisher_factor_inner_shape,"
    " fisher_factor_inner_static_shape, multiply_ggn, multiply_ggn_factor,"
    " multiply_ggn_factor_transpose, multiply_ggn_factor_replicated_one_hot,"
    " ggn_factor_inner_shape, ggn_factor_inner_static_shape, multiply_hessian,"
    " multiply_hessian_factor, multiply_hessian_factor_transpose,"
    " multiply_hessian_factor_replicated_one_hot, hessian_factor_inner_shape,"
    " hessian_factor_inner_static_shape"
)

LOSSES = {
    "NormalMeanNegativeLogProbLoss": "mean, var, targets, seed",
    "NormalMeanVarianceNegativeLogProbLoss": "mean, variance, targets, seed",
    "CategoricalLogitsNegativeLogProbLoss": "logits, targets, seed",
    "OnehotCategoricalLogitsNegativeLogProbLoss": "logits, targets, seed",
    "MultiBernoulliNegativeLogProbLoss": "logits, targets, seed",
}

LAYERS = {
    "fully_connected": "params, inputs, outputs, dense_inputs, approx, reuse",
    "fully_connected_multi": "params, inputs, outputs, num_uses, dense_inputs, approx,"
    " reuse",
    "embedding": "params, inputs, outputs, approx, reuse",
    "embedding_multi": "params, inputs, outputs, num_uses, approx, reuse",
    "conv2d": "params, strides, padding, inputs, outputs, data_format, dilations,"
    " sub_sample_inputs, sub_sample_patches, patch_mask, approx, reuse",
    "conv2d_multi": "params, strides, padding, inputs, outputs, num_uses, data_format,"
    " dilations, approx, reuse",
    "conv1d": "params, strides, padding, inputs, outputs, dilations, sub_sample_inputs,"
    " sub_sample_patches, approx, reuse",
    "convolution": "params, inputs, outputs, padding, strides, dilation_rate,"
    " data_format, approx, reuse",
    "depthwise_conv2d": "params, inputs, outputs, strides, padding, rate, data_format,"
    " approx, reuse",
    "separable_conv2d": "depthwise_params, pointwise_params, inputs, depthwise_outputs,"
    " pointwise_outputs, strides, padding, rate, data_format, approx, reuse",
    "scale_and_shift": "params, inputs, outputs, approx, reuse",
    "generic": "params, batch_size, approx, reuse",
}

LOSS_FUNCTIONS = {
    "loss_function": "loss, colocation_op, base_name, name, coeff, reuse",
    "categorical_predictive_distribution": "logits, seed, targets, name, coeff, reuse",
    "softmax_cross_entropy_loss": "logits, seed, targets, name, coeff, reuse",
    "multi_bernoulli_predictive_distribution": "logits, seed, targets, name, coeff,"
    " reuse",
    "sigmoid_cross_entropy_loss": "logits, seed, targets, name, coeff, reuse",
    "normal_predictive_distribution": "mean, var, seed, targets, name, coeff, reuse",
    "squared_error_loss": "prediction, seed, targets, name, coeff, reuse",
}

THUNKS = (
    "create_ops_and_vars_thunks, make_vars_and_create_op_thunks, cov_update_thunks,"
    " inv_update_thunks"
)

CORE_ALONE = {
    "LayerCollection": (
        "graph, name",
        "fisher_blocks, fisher_factors, losses, towers_by_loss, loss_coeffs,"
        " registered_variables, linked_parameters, graph, subgraph, get_blocks,"
        " get_factors, set_default_generic_approximation,"
        " set_default_embedding_approximation,"
        " set_default_fully_connected_approximation,"
        " set_default_fully_connected_multi_approximation,"
        " set_default_conv2d_approximation, set_default_conv2d_multi_approximation,"
        " set_default_scale_and_shift_approximation, register_block,"
        " check_registration, define_linked_parameters, eval_losses,"
        " eval_losses_on_samples, total_loss, total_sampled_loss, finalize, as_default",
    ),
    **{
        f"register_{name}": (arguments, "")
        for name, arguments in (LAYERS | LOSS_FUNCTIONS).items()
    },
    "FisherEstimator": (
        "variables, cov_ema_decay, damping, layer_collection, exps, estimation_mode,"
        " colocate_gradients_with_ops, name, compute_cholesky,"
        " compute_cholesky_inverse, compute_params_stats, batch_size",
        "variables, damping, blocks, factors, layers, mat_type, params_stats,"
        " get_cov_vars, get_inv_vars, multiply_matpower, multiply, multiply_inverse,"
        f" multiply_cholesky, multiply_cholesky_inverse, {THUNKS}",
    ),
    "CurvatureMatrixVectorProductComputer": (
        "losses, wrt_tensors, layer_collection, colocate_gradients_with_ops",
        "multiply_fisher, multiply_fisher_factor, multiply_fisher_factor_transpose,"
        " multiply_hessian, multiply_generalized_gauss_newton,"
        " multiply_generalized_gauss_newton_factor,"
        " multiply_generalized_gauss_newton_factor_transpose, multiply_ggn,"
        " multiply_ggn_factor, multiply_ggn_factor_transpose,"
        " fisher_factor_inner_shapes, fisher_factor_inner_static_shapes,"
        " generalized_gauss_newton_factor_inner_shapes, ggn_factor_inner_shapes,"
        " ggn_factor_inner_static_shapes",
    ),
    "KfacOptimizer": (
        "learning_rate, cov_ema_decay, damping, layer_collection, var_list, momentum,"
        " momentum_type, use_weight_decay, weight_decay_coeff, qmodel_update_rescale,"
        " norm_constraint, name, estimation_mode, colocate_gradients_with_ops,"
        " batch_size, placement_strategy, compute_params_stats, adapt_damping,"
        " update_damping_immediately, is_chief, prev_train_batch, loss_fn, min_damping,"
        " loss, train_batch, use_passed_loss, l2_reg, damping_adaptation_decay,"
        " damping_adaptation_interval, damping_decrease_rho_threshold,"
        " damping_increase_rho_threshold, precon_damping_mult, print_logs,"
        " tf_replicator, dtype",
        "minimize, compute_gradients, apply_gradients, set_loss,"
        " set_damping_adaptation_params, maybe_pre_update_adapt_damping, learning_rate,"
        " momentum, damping, rho, qmodel_change, counter, factors, variables,"
        " registered_variables, mat_type, params_stats, qmodel_learning_rate,"
        f" qmodel_momentum, prev_loss, {THUNKS}",
    ),
    "PeriodicInvCovUpdateKfacOpt": (
        "invert_every, cov_update_every, num_burnin_steps",
        "minimize, apply_gradients, kfac_update_ops",
    ),
}

CONSTANTS = (
    "INIT_COVARIANCES_AT_ZERO, ZERO_DEBIAS, INIT_INVERSES_AT_ZERO,"
    " EIGENVALUE_DECOMPOSITION_THRESHOLD, EIGENVALUE_CLIPPING_THRESHOLD,"
    " _SUB_SAMPLE_INPUTS, _SUB_SAMPLE_OUTER_PRODUCTS,"
    " _MAX_NUM_OUTER_PRODUCTS_PER_COV_ROW, _SUB_SAMPLE_PATCHES, _MAX_NUM_PATCHES,"
    " _MAX_NUM_PATCHES_PER_DIMENSION, TOWER_STRATEGY, ASSUME_ZERO_MEAN_ACTIVATIONS,"
    " SUBTRACT_MEAN_CONTRIB_FROM_COV, _USE_PATCHES_SECOND_MOMENT_OP,"
    " NORMALIZE_DAMPING_POWER, PI_TYPE, POSDEF_INV_METHOD, POSDEF_EIG_METHOD,"
    " _INCLUDE_DAMPING_IN_QMODEL_CHANGE"
)

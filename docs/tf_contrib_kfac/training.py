"""The estimator, the products and the optimisers, and what their names are here."""

from tf_contrib_kfac.tables import Name, Original, same

_NOT_PLACED = Name("", "nothing is placed: arrays stay on their device")
_PARAMS_STATS = Name(
    "registered_losses.mean_gradient", "what they are in the mode `empirical`"
)
_THUNKS = {
    "create_ops_and_vars_thunks": Name(
        "init", "then `update_covs` and `update_inverses`, for all layers or some"
    ),
    "make_vars_and_create_op_thunks": Name(
        "init", "then `update_covs` and `update_inverses`, for all layers or some"
    ),
}

ESTIMATOR = Original(
    "FisherEstimator",
    "both",
    {
        "variables": Name("variables", "those of the collection"),
        "cov_ema_decay": Name("update_covs(ema_decay)"),
        "damping": Name("update_inverses(damping)"),
        "layer_collection": Name("layer_collection"),
        "exps": Name("matpowers"),
        "estimation_mode": Name("estimation_mode"),
        **same("compute_cholesky", "compute_cholesky_inverse"),
        "compute_params_stats": _PARAMS_STATS,
        "batch_size": Name("Linearization.batch_size"),
        "colocate_gradients_with_ops": _NOT_PLACED,
        "name": Name("", "nothing is looked up by it"),
    },
    {
        **same("variables", "blocks", "layers", "mat_type"),
        "damping": Name("update_inverses(damping)"),
        "factors": Name("FisherBlock.factors", "of one block"),
        "params_stats": _PARAMS_STATS,
        **same(
            "multiply_matpower",
            "multiply",
            "multiply_inverse",
            "multiply_cholesky",
            "multiply_cholesky_inverse",
        ),
        **_THUNKS,
        "cov_update_thunks": Name(
            "update_covs(layers)", "names of layers; whose turn it is, says `rolling`"
        ),
        "inv_update_thunks": Name(
            "update_inverses(layers)",
            "names of layers; whose turn it is, says `rolling`",
        ),
        "get_cov_vars": Name("EstimatorState.blocks", "a state is plain arrays"),
        "get_inv_vars": Name("EstimatorState.blocks", "a state is plain arrays"),
    },
)

_GGN_2018 = "the name of 2018"
_PRODUCT_PARTS = ("", "_factor", "_factor_transpose")

PRODUCTS = Original(
    "CurvatureMatrixVectorProductComputer",
    "both",
    {
        "losses": Name("layer_collection", "the argument of 2018"),
        "layer_collection": Name("layer_collection", "since 2022"),
        "wrt_tensors": Name("LayerCollection.variables", "all parameters"),
        "colocate_gradients_with_ops": _NOT_PLACED,
    },
    {
        **same(*(f"multiply_fisher{part}" for part in _PRODUCT_PARTS)),
        **same(*(f"multiply_ggn{part}" for part in _PRODUCT_PARTS)),
        **{
            f"multiply_generalized_gauss_newton{part}": Name(
                f"multiply_ggn{part}", _GGN_2018
            )
            for part in _PRODUCT_PARTS
        },
        "multiply_hessian": Name(
            "multiply_hessian", "needs the second order of the linearization"
        ),
        "fisher_factor_inner_shapes": Name("fisher_factor_inner_shapes", "by site"),
        "fisher_factor_inner_static_shapes": Name(
            "fisher_factor_inner_shapes", "every shape is static"
        ),
        "ggn_factor_inner_shapes": Name("ggn_factor_inner_shapes", "by site"),
        "ggn_factor_inner_static_shapes": Name(
            "ggn_factor_inner_shapes", "every shape is static"
        ),
        "generalized_gauss_newton_factor_inner_shapes": Name(
            "ggn_factor_inner_shapes", _GGN_2018
        ),
    },
)

_ADAPTATION = {
    "is_chief": Name("", "there is one process"),
    "prev_train_batch": Name("step(prev_batch)"),
    "loss_fn": Name("loss_fn", "of parameters and batch; by default the losses'"),
    "min_damping": Name("min_damping", "by default 1e-8, as in 2022; in 2018 1e-5"),
    "damping_adaptation_decay": Name(
        "damping_adaptation_decay", "by default 0.95, as in 2022; in 2018 0.99"
    ),
    "damping_adaptation_interval": Name("damping_adaptation_interval"),
}

OPTIMIZER = Original(
    "KfacOptimizer",
    "both",
    {
        "learning_rate": Name("learning_rate", "None with `qmodel`, as in 2022"),
        "cov_ema_decay": Name("cov_ema_decay", "by default 0.95, as in 2022"),
        "damping": Name("damping", "a state has the damping of now"),
        "layer_collection": Name("layer_collection", "beside the `model`, new here"),
        "var_list": Name("LayerCollection.variables", "all of them"),
        "momentum": Name("momentum", "or an argument of `step`"),
        "momentum_type": Name("momentum_type", "by default `adam`, as in 2022"),
        "use_weight_decay": Name("weight_decay_coeff", "0: none"),
        "weight_decay_coeff": Name("weight_decay_coeff", "since 2022"),
        "qmodel_update_rescale": Name("qmodel_update_rescale", "since 2022"),
        "norm_constraint": Name("norm_constraint", "`regular` and `adam`"),
        "name": Name("", "nothing is looked up by it"),
        "estimation_mode": Name("estimation_mode"),
        "colocate_gradients_with_ops": _NOT_PLACED,
        "batch_size": Name("Linearization.batch_size"),
        "placement_strategy": _NOT_PLACED,
        "compute_params_stats": _PARAMS_STATS,
        "adapt_damping": Name("adapt_damping", "since 2022; 2018 has a setter"),
        "update_damping_immediately": Name("update_damping_immediately", "since 2022"),
        **_ADAPTATION,
        "loss": Name("step(loss)", "by default that of the registered losses"),
        "train_batch": Name("step(batch)"),
        "use_passed_loss": Name("step(loss)", "used if it is given"),
        "l2_reg": Name("l2_reg", "since 2022"),
        "damping_decrease_rho_threshold": Name("damping_decrease_rho_threshold"),
        "damping_increase_rho_threshold": Name("damping_increase_rho_threshold"),
        "precon_damping_mult": Name("precon_damping_mult", "since 2022"),
        "print_logs": Name("optimizer.StepStatistics", "what every step returns"),
        "tf_replicator": Name("", "nothing is replicated"),
        "dtype": Name("", "that of the parameters, at least float32"),
    },
    {
        "minimize": Name("step", "the model gives loss and gradient"),
        "compute_gradients": Name("registered_losses.mean_gradient"),
        "apply_gradients": Name("step(gradient)"),
        **_THUNKS,
        "create_ops_and_vars_thunks": Name(
            "init", "then `step`, which updates what is due, or as it is told"
        ),
        "cov_update_thunks": Name("step(update_covs)", "a boolean; all layers"),
        "inv_update_thunks": Name("step(update_inverses)", "a boolean; all layers"),
        "set_loss": Name("step(loss)"),
        "set_damping_adaptation_params": Name("adapt_damping", "its options: above"),
        "maybe_pre_update_adapt_damping": Name("step(prev_batch)"),
        **{
            name: Name(f"KfacState.{name}")
            for name in ("learning_rate", "momentum", "damping", "rho", "counter")
        },
        "qmodel_change": Name("KfacState.predicted_change"),
        "qmodel_learning_rate": Name("KfacState.learning_rate"),
        "qmodel_momentum": Name("KfacState.momentum"),
        "prev_loss": Name("KfacState.loss"),
        "variables": Name("LayerCollection.variables"),
        "registered_variables": Name("LayerCollection.registered_variables"),
        "factors": Name("FisherBlock.factors", "of one block"),
        "mat_type": Name("FisherEstimator.mat_type"),
        "params_stats": _PARAMS_STATS,
    },
)

PERIODIC = Original(
    "PeriodicInvCovUpdateKfacOpt",
    "2022",
    {
        "invert_every": Name("invert_every", "by default 5; in `tf.contrib.kfac` 10"),
        "cov_update_every": Name("cov_update_every"),
        "num_burnin_steps": Name("num_burnin_steps"),
    },
    {
        "minimize": Name("step"),
        "apply_gradients": Name("step(gradient)"),
        "kfac_update_ops": Name(
            "step(update_covs)", "and `update_inverses`: to say what is due"
        ),
    },
    core="KfacOptimizer",
    note="one class; `cov_ema_decay` is always by step, not by update",
)

TRAINING = (ESTIMATOR, PRODUCTS, OPTIMIZER, PERIODIC)

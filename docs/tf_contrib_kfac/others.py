"""Constants, functions and helpers of ``tf.contrib.kfac``, and what stands for them."""

from typing import NamedTuple

from tf_contrib_kfac.tables import Name

CONSTANTS = {
    "INIT_COVARIANCES_AT_ZERO": Name("FisherFactor.init_covariances_at_zero"),
    "ZERO_DEBIAS": Name("FisherFactor.zero_debias"),
    "INIT_INVERSES_AT_ZERO": Name("", "reading what was never computed is an error"),
    "EIGENVALUE_DECOMPOSITION_THRESHOLD": Name("", "the exponent alone decides"),
    "EIGENVALUE_CLIPPING_THRESHOLD": Name("", "eigenvalues below zero are zero"),
    "TOWER_STRATEGY": Name("", "towers always count by their rows"),
    "_SUB_SAMPLE_INPUTS": Name(
        "ConvInputKroneckerFactor.sub_sample_inputs", "how many: `inputs_fraction`"
    ),
    "_SUB_SAMPLE_OUTER_PRODUCTS": Name(
        "ConvInputKroneckerFactor.sub_sample_patches", "the name of 2018"
    ),
    "_MAX_NUM_OUTER_PRODUCTS_PER_COV_ROW": Name(
        "ConvInputKroneckerFactor.max_patches_per_dimension", "the name of 2018"
    ),
    "_SUB_SAMPLE_PATCHES": Name("ConvInputKroneckerFactor.sub_sample_patches"),
    "_MAX_NUM_PATCHES": Name("ConvInputKroneckerFactor.max_patches"),
    "_MAX_NUM_PATCHES_PER_DIMENSION": Name(
        "ConvInputKroneckerFactor.max_patches_per_dimension"
    ),
    "ASSUME_ZERO_MEAN_ACTIVATIONS": Name(
        "ConvInputSUAKroneckerFactor.assume_zero_mean"
    ),
    "SUBTRACT_MEAN_CONTRIB_FROM_COV": Name("ConvInputSUAKroneckerFactor.subtract_mean"),
    "_USE_PATCHES_SECOND_MOMENT_OP": Name("", "an error in `tf.contrib.kfac`"),
    "NORMALIZE_DAMPING_POWER": Name("KroneckerProductFB.normalize_damping_power"),
    "PI_TYPE": Name(
        "KroneckerProductFB.damping_type", "`tracenorm` is `pi`, `off` is `off`"
    ),
    "POSDEF_INV_METHOD": Name("", "Cholesky for the inverse, always"),
    "POSDEF_EIG_METHOD": Name(
        "", "`contrib` with `absolute_eigenvalues=True` does as by default"
    ),
    "_INCLUDE_DAMPING_IN_QMODEL_CHANGE": Name(
        "KfacOptimizer.include_damping_in_qmodel_change"
    ),
}
"""Global in ``tf.contrib.kfac``; each is a field of the spec here."""

HELPERS = {
    "PackagedFunc": Name("contrib.PackagedFunc", "in the core a damping id"),
    "compute_pi_tracenorm": Name("damping.compute_pi"),
    "normalize_damping": Name("damping.normalize_damping"),
    "DiagonalFB": Name("SingleFactorFB", "base of all blocks of one factor"),
    "InputOutputMultiTowerMultiUse": Name("MultiUseFB", "base of shared layers"),
    "ScaleAndShiftFactor": Name("fisher_factors.ScaleAndShiftFactor"),
    "NaturalParamsNegativeLogProbLoss": Name("NaturalParamsNegativeLogProbLoss"),
    "compute_cov": Name("statistics.rows.second_moment"),
    "append_homog": Name("statistics.rows.bordered", "of the moment, not a copy"),
    "extract_convolution_patches": Name(
        "statistics.patches.second_moment.extract_patches"
    ),
    "num_conv_locations": Name("statistics.patches.window.Window.num_locations"),
    "is_data_format_channel_last": Name("statistics.patches.geometry.is_channels_last"),
    "LinearOperatorFullMatrix": Name("linalg.FullMatrixOperator"),
    "LinearOperatorDiag": Name("linalg.DiagonalOperator"),
    "kronecker_product": Name("linalg.kronecker.kron"),
    "cholesky": Name("linalg.psd.cholesky"),
    "posdef_inv": Name("linalg.psd.power"),
    "posdef_eig": Name(
        "linalg.psd.eigendecomposition", "what is negative is zero, not made positive"
    ),
    "layer_params_to_mat2d": Name("linalg.parameters.params_to_matrix"),
    "mat2d_to_layer_params": Name("linalg.parameters.matrix_to_params"),
    "tensors_to_column": Name("linalg.parameters.params_to_vector"),
    "column_to_tensors": Name("linalg.parameters.vector_to_params"),
    "ip": Name("linalg.named.inner"),
    "sprod": Name("linalg.named.scaled"),
    "sum_": Name("linalg.named.map_named", "with an addition"),
    "MovingAverageVariable": Name("moving_average.MovingAverage"),
    "batch_execute": Name("estimator.rolling", "says whose turn it is"),
    "make_fisher_estimator": Name("FisherEstimator", "there is one kind"),
    "generate_random_signs": Name("estimator.sources", "within the mode"),
    "fwd_gradients": Name("Linearization.push_forward", "the framework's own `jvp`"),
}
"""Functions, bases and helpers, and what does the same here."""


class Absent(NamedTuple):
    """Names that have no counterpart.

    Attributes:
        names: The names.
        reason: Why.
    """

    names: tuple[str, ...]
    reason: str


ABSENT = (
    Absent(
        (
            "RoundRobinPlacementMixin",
            "ReplicaRoundRobinPlacementMixin",
            "FisherEstimatorRoundRobin",
            "FisherEstimatorReplicaRoundRobin",
            "cov_devices",
            "inv_devices",
            "trans_devices",
            "distribute_transformations",
            "loss_colocation_ops",
        ),
        "Placement and colocation: arrays stay on the device they come from. To spread"
        " the work, update the layers of each device by name.",
    ),
    Absent(
        (
            "on_tpu",
            "cross_replica_mean",
            "all_sum",
            "all_average",
            "map_gather",
            "smart_assign",
        ),
        "Replication belongs to the framework. Statistics are weighted sums: average"
        " them over replicas between `update_covs` and `update_inverses`.",
    ),
    Absent(
        (
            "auto_register_layers",
            "register_layers",
            "RecordType",
            "MatchRecord",
            "AmbiguousRegistrationError",
            "SubGraph",
        ),
        "Automatic registration searches a TensorFlow graph. Here layers are registered"
        " by name; an adapter that knows a framework's modules can do it.",
    ),
    Absent(
        ("get_default_layer_collection", "set_default_layer_collection"),
        "There is no global state.",
    ),
    Absent(
        ("set_global_constants",),
        "There is no global state: what were constants are fields of specs.",
    ),
    Absent(
        ("PartitionedTensor", "InputOutputMultiTower"),
        "Towers are a tuple, and are never concatenated.",
    ),
    Absent(
        ("check_partial_batch_sizes",),
        "The cases are those of one linearization.",
    ),
    Absent(
        ("OpQueue", "AsyncInvCovUpdateKfacOpt"),
        "Queues and threads of ops: a state is a value, which a thread of the caller's"
        " own can update.",
    ),
    Absent(
        ("VariableBatchReader", "CachedDataReader"),
        "Reading data is the caller's; `step` takes the batch of the step before.",
    ),
    Absent(
        ("Kfac", "HyperparameterDecay", "PolynomialDecay", "ExponentialDecay"),
        "Keras. Numbers that change are arguments of `step`.",
    ),
    Absent(
        ("DistributionNegativeLogProbLoss", "insert_slice_in_zeros"),
        "TensorFlow's distributions: each loss has its own formulas.",
    ),
    Absent(
        ("matmul_sparse_dense", "matmul_diag_sparse"),
        "Row-sparse gradients: arrays are dense, and only ids are sparse.",
    ),
    Absent(
        (
            "extract_image_patches",
            "extract_pointwise_conv2d_patches",
        ),
        "Extractors of patches are chosen by name, `extract_patches_fn` of `contrib`.",
    ),
    Absent(
        (
            "LayerParametersDict",
            "SequenceDict",
            "AccumulatorVariable",
            "ensure_sequence",
        ),
        "Python has what they did.",
    ),
)
"""What has no counterpart, and why."""

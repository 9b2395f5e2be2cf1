"""Approximations by name: the block of each, for every kind of layer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks import (
    BiasDiagonalFB,
    BiasFullFB,
    BilinearKFACFB,
    ConvDiagonalFB,
    ConvKFCBasicFB,
    ConvKFCBasicMultiIndepFB,
    DepthwiseConvDiagonalFB,
    DepthwiseConvKFCBasicFB,
    EigenvalueCorrectedFB,
    EmbeddingKFACFB,
    EmbeddingKFACMultiIndepFB,
    FisherBlock,
    ForwardOnlyFB,
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
    FullyConnectedMultiIndepFB,
    FullyConnectedMultiPartialBiasFB,
    FullyConnectedSeriesFB,
    GroupedConvKFCBasicFB,
    GroupedConvKFCBasicMultiIndepFB,
    KFACReduceFB,
    KroneckerOptimalFB,
    KroneckerProductFB,
    NaiveDiagonalFB,
    NaiveFullFB,
    ScaleAndShiftDiagonalFB,
    ScaleAndShiftFullFB,
    SeriesFBApproximation,
    ShampooFB,
    SoapFB,
    TensorNormalTrainingFB,
    TiedWeightsKFACFB,
    TransposedConvKFCBasicFB,
    TransposedConvKFCBasicMultiIndepFB,
)
from kfac_core.fisher_blocks.around.base import AroundProductFB


@dataclass(frozen=True)
class Approximation:
    """How a block is made from what a registration knows about its layer.

    Attributes:
        block: Class of the block.
        fixed: Fields of the block that select this approximation.
        batch_first: Whether cases come before uses, where a registration does not say.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> thin = Approximation(
        ...     FullyConnectedKFACBasicFB, {"diagonal_approx_for_input": True}
        ... )
        >>> block = thin.make("head", {"input_size": 3, "output_size": 2}, {})
        >>> block.name, block.input_factor.cov_shape, block.output_factor.cov_shape
        ('head', (3,), (2, 2))
    """

    block: type[FisherBlock[Any]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    batch_first: bool = False

    def make(
        self, label: str, made: Mapping[str, Any], options: Mapping[str, Any]
    ) -> FisherBlock[Any]:
        """Return the spec of a layer's block.

        Args:
            label: Name of the layer.
            made: Fields that the registration makes from the layer.
            options: Further fields, as the user gives them.

        Returns:
            The spec.

        Raises:
            ArgumentError: If an option is not a field of the block, or is a field that
                the registration makes; or if the block refuses it.
        """
        given = {**made, "name": label, **self.fixed}
        if "batch_first" in given and given["batch_first"] is None:
            given["batch_first"] = self.batch_first
        free = [f.name for f in fields(self.block) if f.init and f.name not in given]
        if unknown := [option for option in options if option not in free]:
            msg = (
                f"{label}: {', '.join(map(repr, unknown))} cannot be options of"
                f" {self.block.__name__}, expected some of {', '.join(free)}"
            )
            raise ArgumentError(msg)
        return self.block(**given, **options)


@dataclass(frozen=True)
class Around(Approximation):
    """A block around that of the layer.

    Attributes:
        around: Class of the block around it.
    """

    around: type[AroundProductFB[Any]] = field(kw_only=True)

    def make(
        self, label: str, made: Mapping[str, Any], options: Mapping[str, Any]
    ) -> FisherBlock[Any]:
        """Return the spec of a layer's block; see `Approximation.make`."""
        known = {f.name for f in fields(AroundProductFB)}
        own = {f.name for f in fields(self.around) if f.init} - known
        of_block = {name: x for name, x in options.items() if name not in own}
        block: Any = super().make(label, made, of_block)
        served = {name: getattr(block, name) for name in SERVED}
        return self.around(
            block, **served, **{name: options[name] for name in own & options.keys()}
        )


@dataclass(frozen=True)
class Reduced(Approximation):
    """The block whose positions are pooled: K-FAC-reduce."""

    def make(
        self, label: str, made: Mapping[str, Any], options: Mapping[str, Any]
    ) -> FisherBlock[Any]:
        """Return the spec of a layer's block; see `Approximation.make`."""
        own = {name: options[name] for name in options if name in REDUCED}
        rest = {name: options[name] for name in options if name not in REDUCED}
        block: Any = super().make(label, made, rest)
        return KFACReduceFB(block, name=label, **own)


REDUCED = ("diagonal_approx_for_input",)
"""The options of K-FAC-reduce alone."""

SERVED = ("name", "matpowers", "cholesky", "cholesky_inverse")
"""The options that a block and the one around it share."""


def _around(block: type[KroneckerProductFB]) -> dict[str, Approximation]:
    """Return the approximations that have a block around that of the layer."""
    return {
        "ekfac": Around(block, around=EigenvalueCorrectedFB),
        "kronecker_optimal": Around(block, around=KroneckerOptimalFB),
        "tnt": Around(block, around=TensorNormalTrainingFB),
        "shampoo": Around(block, around=ShampooFB),
        "soap": Around(block, around=SoapFB),
        "foof": Around(block, around=ForwardOnlyFB),
    }


def _by_sharing(block: type[FisherBlock[Any]]) -> dict[str, Approximation]:
    """Return both ways to share weights: data ``[batch, shared, features]``."""
    return {
        "expand": Approximation(block, batch_first=True),
        "reduce": Reduced(block, batch_first=True),
    }


_INPUT = {"diagonal_approx_for_input": True}
_OUTPUT = {"diagonal_approx_for_output": True}
_SUA = {"use_sua_approx_for_input_factor": True}
_AT_INPUT, _AT_OUTPUT = {"locations": "input"}, {"locations": "output"}

_CONVOLUTION = {
    "kron": Approximation(ConvKFCBasicFB),
    "diagonal": Approximation(ConvDiagonalFB),
    "kron_sua": Approximation(ConvKFCBasicFB, _SUA),
    **_around(ConvKFCBasicFB),
    **_by_sharing(ConvKFCBasicFB),
}

APPROXIMATIONS: dict[str, dict[str, Approximation]] = {
    "generic": {
        "diagonal": Approximation(NaiveDiagonalFB),
        "full": Approximation(NaiveFullFB),
    },
    "fully_connected": {
        "kron": Approximation(FullyConnectedKFACBasicFB),
        "diagonal": Approximation(FullyConnectedDiagonalFB),
        "kron_in_diag": Approximation(FullyConnectedKFACBasicFB, _INPUT),
        "kron_out_diag": Approximation(FullyConnectedKFACBasicFB, _OUTPUT),
        "kron_both_diag": Approximation(FullyConnectedKFACBasicFB, _INPUT | _OUTPUT),
        **_around(FullyConnectedKFACBasicFB),
    },
    "fully_connected_multi": {
        "kron_indep": Approximation(FullyConnectedMultiIndepFB),
        "kron_indep_in_diag": Approximation(FullyConnectedMultiIndepFB, _INPUT),
        "kron_indep_out_diag": Approximation(FullyConnectedMultiIndepFB, _OUTPUT),
        "kron_indep_both_diag": Approximation(
            FullyConnectedMultiIndepFB, _INPUT | _OUTPUT
        ),
        **_around(FullyConnectedMultiIndepFB),
        "kron_series_1": Approximation(
            FullyConnectedSeriesFB, {"option": SeriesFBApproximation.option1}
        ),
        "kron_series_2": Approximation(
            FullyConnectedSeriesFB, {"option": SeriesFBApproximation.option2}
        ),
        **_by_sharing(FullyConnectedMultiIndepFB),
    },
    "fully_connected_partial_bias": {
        "kron_indep": Approximation(FullyConnectedMultiPartialBiasFB),
        "kron_indep_in_diag": Approximation(FullyConnectedMultiPartialBiasFB, _INPUT),
        "kron_indep_out_diag": Approximation(FullyConnectedMultiPartialBiasFB, _OUTPUT),
        "kron_indep_both_diag": Approximation(
            FullyConnectedMultiPartialBiasFB, _INPUT | _OUTPUT
        ),
    },
    # The input factor of ids is always diagonal.
    "embedding": {
        "kron": Approximation(EmbeddingKFACFB),
        "kron_in_diag": Approximation(EmbeddingKFACFB),
        "kron_out_diag": Approximation(EmbeddingKFACFB, _OUTPUT),
        "kron_both_diag": Approximation(EmbeddingKFACFB, _OUTPUT),
        **_around(EmbeddingKFACFB),
    },
    "embedding_multi": {
        "kron_indep": Approximation(EmbeddingKFACMultiIndepFB),
        "kron_indep_in_diag": Approximation(EmbeddingKFACMultiIndepFB),
        "kron_indep_out_diag": Approximation(EmbeddingKFACMultiIndepFB, _OUTPUT),
        "kron_indep_both_diag": Approximation(EmbeddingKFACMultiIndepFB, _OUTPUT),
        **_around(EmbeddingKFACMultiIndepFB),
        **_by_sharing(EmbeddingKFACMultiIndepFB),
    },
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "convolution": _CONVOLUTION,
    "conv2d_multi": {
        "kron_indep": Approximation(ConvKFCBasicMultiIndepFB),
        **_around(ConvKFCBasicMultiIndepFB),
        **_by_sharing(ConvKFCBasicMultiIndepFB),
    },
    "depthwise_conv2d": {
        "diagonal": Approximation(DepthwiseConvDiagonalFB),
        "kron": Approximation(DepthwiseConvKFCBasicFB),
        "ekfac": Around(DepthwiseConvKFCBasicFB, around=EigenvalueCorrectedFB),
    },
    "grouped_convolution": {
        "kron": Approximation(GroupedConvKFCBasicFB),
        "ekfac": Around(GroupedConvKFCBasicFB, around=EigenvalueCorrectedFB),
    },
    "grouped_convolution_multi": {
        "kron_indep": Approximation(GroupedConvKFCBasicMultiIndepFB),
        "ekfac": Around(GroupedConvKFCBasicMultiIndepFB, around=EigenvalueCorrectedFB),
    },
    "transposed_convolution": {
        "kron": Approximation(TransposedConvKFCBasicFB, _AT_INPUT),
        "kron_output_locations": Approximation(TransposedConvKFCBasicFB, _AT_OUTPUT),
    },
    "transposed_convolution_multi": {
        "kron_indep": Approximation(TransposedConvKFCBasicMultiIndepFB, _AT_INPUT),
        "kron_indep_output_locations": Approximation(
            TransposedConvKFCBasicMultiIndepFB, _AT_OUTPUT
        ),
    },
    "bilinear": {
        "kron": Approximation(BilinearKFACFB, {"factored_inputs": False}),
        "kron_factored_inputs": Approximation(
            BilinearKFACFB, {"factored_inputs": True}
        ),
    },
    "tied_weights": {
        "kron": Approximation(TiedWeightsKFACFB, {"pooling": "marginal"}),
        "kron_nearest": Approximation(TiedWeightsKFACFB, {"pooling": "nearest"}),
        "kron_mean": Approximation(TiedWeightsKFACFB, {"pooling": "mean"}),
    },
    "scale_and_shift": {
        "full": Approximation(ScaleAndShiftFullFB),
        "diagonal": Approximation(ScaleAndShiftDiagonalFB),
    },
    "bias": {
        "full": Approximation(BiasFullFB),
        "diagonal": Approximation(BiasDiagonalFB),
    },
}
"""For each kind of layer its approximations by name, the default first."""

APPROXIMATION_NAMES = tuple(
    dict.fromkeys(name for table in APPROXIMATIONS.values() for name in table)
)
"""The names of all approximations."""


def approximation_of(kind: str, name: str) -> str | None:
    """Return what a kind of layer calls an approximation; None if it has none such.

    What is ``"kron"`` for one use of a layer is ``"kron_indep"`` for several.

    Args:
        kind: The kind, such as ``"embedding_multi"``.
        name: The name.

    Returns:
        The name in its table.

    Example:
        >>> approximation_of("embedding_multi", "kron_out_diag")
        'kron_indep_out_diag'
    """
    for own in (name, name.replace("kron", "kron_indep", 1)):
        if own in APPROXIMATIONS[kind]:
            return own
    return None


def chosen_approximation(kind: str, name: str | None, label: str) -> Approximation:
    """Return an approximation of a kind of layer.

    Args:
        kind: The kind, such as ``"embedding_multi"``.
        name: Its name, or that for one use; None: the default.
        label: Name of the layer, for the message.

    Raises:
        ArgumentError: If the kind has none of this name.

    Example:
        >>> chosen_approximation("embedding_multi", "kron", "words").block.__name__
        'EmbeddingKFACMultiIndepFB'
    """
    named = APPROXIMATIONS[kind]
    own = approximation_of(kind, next(iter(named)) if name is None else name)
    if own is None:
        msg = f"{label}: approx is {name!r}, expected one of {', '.join(named)}"
        raise ArgumentError(msg)
    return named[own]


def check_approximation(value: object, allowed: Collection[str], what: str) -> None:
    """Check the name of an approximation.

    Args:
        value: The name.
        allowed: The names that exist.
        what: What gives the name, for the message.

    Raises:
        ArgumentError: If the name is not allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        msg = f"{what} is {value!r}, expected one of {', '.join(allowed)}"
        raise ArgumentError(msg)

"""A layer of the differences of its inputs: a block of a user, in one file."""

from dataclasses import dataclass, field

from differences_factor import DifferencesFactor

from kfac_core.fisher_blocks import KroneckerProductFB
from kfac_core.fisher_factors import FullyConnectedKroneckerFactor


@dataclass(frozen=True)
class DifferencesFB(KroneckerProductFB):
    """K-FAC of weights ``[input_size - 1, output_size]``: a block of a user."""

    input_size: int
    output_size: int
    input_factor: DifferencesFactor = field(init=False, repr=False, compare=False)
    output_factor: FullyConnectedKroneckerFactor = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self):
        super().__post_init__()
        inputs = DifferencesFactor(self.input_size, **self._factor_options("input"))
        outputs = FullyConnectedKroneckerFactor(
            self.output_size,
            data_name="outputs_grads",
            **self._factor_options("output"),
        )
        self._set_factors(inputs, outputs)

    def update_covs(
        self,
        state,
        inputs,
        outputs_grads,
        ema_decay,
        ema_weight=None,
        *,
        weights=None,
        num_cases=None,
    ):
        return self._update_factors(
            state, inputs, outputs_grads, ema_decay, ema_weight, weights, num_cases
        )

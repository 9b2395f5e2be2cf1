"""What K-FAC needs from a model, and checks of what a model gives."""

from kfac_core.linearization.protocols import (
    CountedLinearization,
    Linearization,
    Model,
    NamedLossInputs,
    NamedParams,
    SecondOrderLinearization,
    ShardLinearization,
)

__all__ = [
    "CountedLinearization",
    "Linearization",
    "Model",
    "NamedLossInputs",
    "NamedParams",
    "SecondOrderLinearization",
    "ShardLinearization",
]

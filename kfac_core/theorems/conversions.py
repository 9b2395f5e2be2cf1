"""Conventions of other libraries, which all say the same of the same data."""

import numpy as np

from kfac_core.fisher_blocks import FullyConnectedMultiIndepFB
from kfac_core.presets import CONVENTIONS, convert
from kfac_core.theorems import verbs
from kfac_core.theorems.theorem import theorem
from kfac_core.theorems.trial import Measured, Trial
from kfac_core.typing import Array

TOKENS = 2
"""Positions of a case: the fewest that tell powers of ``T`` apart."""

OUTPUTS = 5
"""``C``, the number of outputs that the loss is a mean over."""

NAMES = tuple(
    name
    for name, own in CONVENTIONS.items()
    if "tokens" in own.scalings and own.sees_gradients
)


def _there(
    spec: tuple[FullyConnectedMultiIndepFB, bool], data: verbs.Data
) -> tuple[Array, ...]:
    """Return the matrix that each library would have, or ours by way of it."""
    block, back = spec
    state, cases = verbs.fitted(block, data), int(data[0].shape[0])
    theirs = (
        convert(block, state, to=name, num_cases=cases, num_outputs=OUTPUTS)
        for name in NAMES
    )
    found = (own.to("kfac_core") if back else own for own in theirs)
    return tuple(own.dense() for own in found)


@theorem(
    "P1",
    condition="A and G in every library's convention, and converted back",
    claim="their product is that of the sums over rows, whatever lies between",
    source="conventions are numbers, orders and places, which have inverses",
    twin="not converted back",
)
def conversions_have_inverses(trial: Trial, holds: bool) -> Measured:
    """Go through each library that has layers of tokens; compare with the sums."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    x, g = (trial.rounded(rng.standard_normal((n, TOKENS, m))) for m in (d, o))
    block = FullyConnectedMultiIndepFB(d, o, batch_first=True)
    found = trial.call(_there, (block, holds), (x, g))
    a, b = (np.einsum("nti,ntj->ij", own, own) / (n * TOKENS) for own in (x, g))
    truth = (TOKENS * np.kron(a, b),) * len(NAMES)
    return trial.judged(found, truth, terms=n * TOKENS, size=d * o)


THEOREMS = (conversions_have_inverses,)

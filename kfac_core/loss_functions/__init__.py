"""Loss functions: values, gradients, samples, and products with Fisher and Hessian.

Each loss is a frozen spec; the outputs of the network (`inputs`), targets and masks are
arguments. A value is a sum over cases, not a mean. The names are those of
``tf.contrib.kfac``.

Example:
    >>> import numpy as np
    >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
    >>> loss, rng = CategoricalLogitsNegativeLogProbLoss(), np.random.default_rng(0)
    >>> logits = np.log(np.asarray([[0.25, 0.75], [0.5, 0.5]]))
    >>> targets = loss.sample(rng, logits)
    >>> loss.gradient(logits, targets).shape
    (2, 2)
    >>> loss.multiply_fisher(logits, np.asarray([[1.0, 0.0], [1.0, 0.0]]))
    array([[ 0.1875, -0.1875],
           [ 0.25  , -0.25  ]])
"""

from kfac_core.loss_functions.base import LossFunction
from kfac_core.loss_functions.bernoulli import MultiBernoulliNegativeLogProbLoss
from kfac_core.loss_functions.categorical import (
    CategoricalLogitsNegativeLogProbLoss,
    OnehotCategoricalLogitsNegativeLogProbLoss,
)
from kfac_core.loss_functions.natural import (
    IndependentNaturalParamsNegativeLogProbLoss,
    NaturalParamsNegativeLogProbLoss,
)
from kfac_core.loss_functions.normal import (
    NormalMeanNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
)

__all__ = [
    "CategoricalLogitsNegativeLogProbLoss",
    "IndependentNaturalParamsNegativeLogProbLoss",
    "LossFunction",
    "MultiBernoulliNegativeLogProbLoss",
    "NaturalParamsNegativeLogProbLoss",
    "NormalMeanNegativeLogProbLoss",
    "NormalMeanVarianceNegativeLogProbLoss",
    "OnehotCategoricalLogitsNegativeLogProbLoss",
]

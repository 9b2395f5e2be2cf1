"""The calling convention of ``tf.contrib.kfac``, name for name.

It is for users of ``tf.contrib.kfac``, and for notebooks. An object holds a spec, its
state and its data, and its methods are those of ``tf.contrib.kfac`` in r1.7, r1.8 and
r1.10. An *op* is a callable. Without arguments it uses the arrays that were given to
the constructor; with new arrays of the same structure, it uses these. There is no
mathematics here: every method calls the spec of the same name in `kfac_core`.

Example:
    >>> import numpy as np
    >>> from kfac_core.contrib import fisher_factors
    >>> ids = np.asarray([[0], [1], [4]])
    >>> factor = fisher_factors.EmbeddingInputKroneckerFactor([ids], vocab_size=5)
    >>> factor.instantiate_cov_variables()
    >>> update = factor.make_covariance_update_op(ema_decay=0.95)
    >>> update().round(2)
    array([0.33, 0.33, 0.  , 0.  , 0.33], dtype=float32)
"""

from kfac_core.contrib import fisher_blocks, fisher_factors, loss_functions
from kfac_core.contrib.damping_functions import PackagedFunc

__all__ = ["PackagedFunc", "fisher_blocks", "fisher_factors", "loss_functions"]

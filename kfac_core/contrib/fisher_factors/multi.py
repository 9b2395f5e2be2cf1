"""The factor of a shared fully connected layer, built as in ``tf.contrib.kfac``."""

from dataclasses import replace
from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.arguments.sizes import as_flag
from kfac_core.contrib.damping_functions import DampingFunc, id_of
from kfac_core.contrib.factor_holder import DenseSquareMatrixFactor
from kfac_core.contrib.forms import SourceList, first_array, multi_use_sources_of
from kfac_core.contrib.original_specs import DenseWithSignlessLag
from kfac_core.linalg.series import Option1Quants, Option2Quants
from kfac_core.typing import Array


class FullyConnectedMultiKF(DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.FullyConnectedMultiKF` as of r1.10.

    Args:
        tensors: List over sources of lists over towers of ``[T * batch, n]`` (time
            slow), ``[T, batch, n]``, or lists over uses of ``[batch, n]``.
        num_uses: ``T``; needed for lag one alone.
        has_bias: Whether each row ends in a one.
        absolute_eigenvalues: Whether option 1 takes negative correlation for positive,
            as ``tf.contrib.kfac`` does.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([[1.0], [2.0], [4.0]])  # one case, three uses
        >>> factor = FullyConnectedMultiKF([[x]], num_uses=3)
        >>> factor.register_cov_dt1()
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # (1 + 4 + 16) / 3
        array([[7.]])
        >>> factor.get_cov_dt1()  # (2 * 1 + 4 * 2) / 3
        array([[3.33333333]])
    """

    forms = (multi_use_sources_of,)

    spec: core.FullyConnectedMultiKF
    _served: core.FullyConnectedMultiKF

    def __init__(
        self,
        tensors: SourceList,
        num_uses: int | None = None,
        has_bias: bool = False,
        absolute_eigenvalues: bool = False,
        **options: Any,
    ) -> None:
        label = self._label(options)
        if as_flag(absolute_eigenvalues, "absolute_eigenvalues", label):
            options["form"] = DenseWithSignlessLag()
        sources = multi_use_sources_of(tensors)
        like = first_array(sources, "tensors", label)
        size = like.shape[-1]
        spec = core.FullyConnectedMultiKF(size, has_bias, num_uses, **options)
        super().__init__(spec, (sources,), like)

    def instantiate_cov_variables(self) -> None:
        """Make the statistics, those of lag one if they are registered by now."""
        self._served = replace(self._served, cov_dt1=self.spec.cov_dt1)
        super().instantiate_cov_variables()

    def register_cov_dt1(self) -> None:
        """Ask for the covariance of lag one, before `instantiate_cov_variables`."""
        self.spec = self.spec.register_cov_dt1()

    def get_cov_dt1(self) -> Array:
        """Return the covariance of lag one, the later use on the left."""
        return self._served.get_cov_dt1(self.state)

    def register_option1quants(self, damping_func: DampingFunc) -> None:
        """Ask for what option 1 of a series block needs."""
        self.spec = self.spec.register_option1quants(self._known(damping_func))

    def register_option2quants(self, damping_func: DampingFunc) -> None:
        """Ask for what option 2 of a series block needs."""
        self.spec = self.spec.register_option2quants(self._known(damping_func))

    def get_option1quants(self, damping_func: DampingFunc) -> Option1Quants:
        """Return ``(lmat, psi)`` as stored."""
        return self._served.get_option1quants(
            self.state, id_of(damping_func, self.spec.label)
        )

    def get_option2quants(self, damping_func: DampingFunc) -> Option2Quants:
        """Return ``(pmat, kmat, mu)`` as stored."""
        return self._served.get_option2quants(
            self.state, id_of(damping_func, self.spec.label)
        )

    def _fresh(
        self, damping_func: DampingFunc, **served: Any
    ) -> tuple[core.FisherFactor, core.FactorState]:
        nothing = {
            "option1quants": (),
            "option2quants": (),
            "eigendecomposition": False,
        }
        return super()._fresh(damping_func, **nothing, **served)

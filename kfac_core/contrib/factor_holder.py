"""A factor's spec, state and data with the methods of ``tf.contrib.kfac``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from kfac_core import fisher_factors as core
from kfac_core.arguments.powers import as_exponent
from kfac_core.contrib.damping_functions import DampingFunc, damping_of, id_of
from kfac_core.errors import ArgumentError, NotComputedError
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.typing import Array, DampingId, Key, Scalar


class FisherFactor:
    """Base of the factors, and the holder of each.

    Attributes:
        spec: The factor of `kfac_core` that does the work.

    Example:
        >>> import numpy as np
        >>> from kfac_core.contrib.fisher_factors import FullyConnectedKroneckerFactor
        >>> x = np.asarray([[2.0, 0.0]])
        >>> factor: FisherFactor = FullyConnectedKroneckerFactor([[x]])
        >>> factor.register_inverse(1.0)  # the damping: a number, or a function
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([[4., 0.],
               [0., 0.]])
        >>> factor.instantiate_inv_variables()
        >>> for update in factor.make_inverse_update_ops():
        ...     update()
        >>> factor.get_inverse(1.0).to_dense()
        array([[0.2, 0. ],
               [0. , 1. ]])
    """

    forms: ClassVar[tuple[Callable[[Any], Any], ...]] = ()
    """For each data argument: from its form in ``tf.contrib.kfac`` to the spec's."""

    def __init__(self, spec: core.FisherFactor, data: tuple[Any, ...], like: Array):
        """Hold a spec and the data of its updates.

        Args:
            spec: The factor.
            data: Arguments of the factor's `update_cov`.
            like: Array that gives library, device and dtype of the state.
        """
        self.spec = spec
        self._data = data
        self._like = like
        self._dampings: dict[DampingId, DampingFunc] = {}
        self._served = spec
        self._state: core.FactorState | None = None

    def _label(self, options: Mapping[str, Any]) -> str:
        """Return the name for messages before there is a spec."""
        return str(options.get("name") or type(self).__name__)

    @property
    def name(self) -> str:
        """The spec in words, which are equal for equal constructor arguments."""
        return self.spec.name or repr(self.spec)

    @property
    def state(self) -> core.FactorState:
        """The current state.

        Raises:
            NotComputedError: Before `instantiate_cov_variables`.
        """
        if self._state is None:
            msg = f"{self.spec.label}: call instantiate_cov_variables first"
            raise NotComputedError(msg)
        return self._state

    @state.setter
    def state(self, state: core.FactorState) -> None:
        self._state = state

    def instantiate_cov_variables(self) -> None:
        """Make the statistics, at their initial value."""
        self.state = self._served.init(self._like)

    def make_covariance_update_op(
        self, ema_decay: Scalar, ema_weight: Scalar | None = None
    ) -> Callable[..., Array]:
        """Return a callable that folds a batch into the statistics.

        Args:
            ema_decay: As in `update_cov` of the spec.
            ema_weight: As in `update_cov` of the spec.

        Returns:
            A callable. Without arguments it uses the arrays of the constructor; with
            new arrays of the same structure, it uses these. Where it draws a sample, it
            takes a ``key``. It returns the statistics as they are stored.
        """

        def op(*data: Any, key: Key = None) -> Array:
            given = self._arrange(*data) if data else self._data
            drawn = {} if key is None else {"key": key}
            self.state = self._served.update_cov(
                self.state, *given, ema_decay=ema_decay, ema_weight=ema_weight, **drawn
            )
            return self.get_cov_var()

        return op

    def instantiate_inv_variables(self) -> None:
        """Make places for all that is registered so far."""
        self._served = self.spec
        self.state = self._served.init_inverses(self.state)

    def make_inverse_update_ops(self) -> list[Callable[[], None]]:
        """Return callables that compute all that is registered: one, or none."""

        def op() -> None:
            dampings = {key: damping_of(f) for key, f in self._dampings.items()}
            self.state = self._served.update_inverses(self.state, dampings)

        return [op] if self._served.damping_ids else []

    def get_cov(self) -> Array:
        """Return the estimated matrix, dense ``[n, n]``."""
        return self._served.get_cov(self.state)

    def get_cov_var(self) -> Array:
        """Return the statistics as they are stored."""
        return self._served.get_cov_var(self.state)

    def get_cov_as_linear_operator(self) -> LinearOperator:
        """Return the estimated matrix as an operator."""
        return self._served.get_cov_as_linear_operator(self.state)

    def get_eigendecomp(self) -> Eigendecomposition:
        """Return eigenvalues and eigenvectors of the current statistics."""
        return self._served.get_eigendecomp(self.state)

    def register_matpower(self, exp: float, damping_func: DampingFunc) -> None:
        """Ask for ``(C + damping_func() I)^exp``."""
        self.spec = self.spec.register_matpower(exp, self._known(damping_func))

    def register_inverse(self, damping_func: DampingFunc) -> None:
        """Ask for the damped inverse."""
        self.register_matpower(-1, damping_func)

    def register_cholesky(self, damping_func: DampingFunc) -> None:
        """Ask for the damped lower Cholesky factor."""
        self.spec = self.spec.register_cholesky(self._known(damping_func))

    def register_cholesky_inverse(self, damping_func: DampingFunc) -> None:
        """Ask for the inverse of the damped lower Cholesky factor."""
        self.spec = self.spec.register_cholesky_inverse(self._known(damping_func))

    def get_matpower(self, exp: float, damping_func: DampingFunc) -> LinearOperator:
        """Return ``(C + damping_func() I)^exp``: as stored, or the power 1 fresh."""
        spec, state = self._serving(exp, damping_func)
        return spec.get_matpower(state, exp, id_of(damping_func, self.spec.label))

    def get_inverse(self, damping_func: DampingFunc) -> LinearOperator:
        """Return the damped inverse as stored."""
        return self.get_matpower(-1, damping_func)

    def get_cholesky(self, damping_func: DampingFunc) -> LinearOperator:
        """Return the damped lower Cholesky factor as stored."""
        return self._served.get_cholesky(
            self.state, id_of(damping_func, self.spec.label)
        )

    def get_cholesky_inverse(self, damping_func: DampingFunc) -> LinearOperator:
        """Return the inverse of the damped lower Cholesky factor as stored."""
        return self._served.get_cholesky_inverse(
            self.state, id_of(damping_func, self.spec.label)
        )

    def left_multiply_matpower(
        self, x: Array, exp: float, damping_func: DampingFunc
    ) -> Array:
        """Return ``(C + damping_func() I)^exp @ x``."""
        spec, state = self._serving(exp, damping_func)
        return spec.left_multiply_matpower(
            state, x, exp, id_of(damping_func, self.spec.label)
        )

    def right_multiply_matpower(
        self, x: Array, exp: float, damping_func: DampingFunc
    ) -> Array:
        """Return ``x @ (C + damping_func() I)^exp``."""
        spec, state = self._serving(exp, damping_func)
        return spec.right_multiply_matpower(
            state, x, exp, id_of(damping_func, self.spec.label)
        )

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        """Return data in the forms of the constructor as arguments of `update_cov`."""
        if len(data) != len(self.forms):
            msg = (
                f"{self.spec.label}: {len(data)} arguments of data, expected"
                f" {len(self.forms)}, as in the constructor"
            )
            raise ArgumentError(msg)
        return tuple(form(x) for form, x in zip(self.forms, data, strict=True))

    def _known(self, damping_func: DampingFunc) -> DampingId:
        """Remember a damping function by its id; the first with an id is kept."""
        damping_id = id_of(damping_func, self.spec.label)
        self._dampings.setdefault(damping_id, damping_func)
        return damping_id

    def _serving(
        self, exp: float, damping_func: DampingFunc
    ) -> tuple[core.FisherFactor, core.FactorState]:
        """Return the spec and the state that serve a power."""
        if as_exponent(exp, self.spec.label, "exp") == 1:
            served = ((1, id_of(damping_func, self.spec.label)),)
            return self._fresh(damping_func, matpowers=served)
        return self._served, self.state

    def _fresh(
        self, damping_func: DampingFunc, **served: Any
    ) -> tuple[core.FisherFactor, core.FactorState]:
        """Return a spec and a state that serve one thing, computed now."""
        options = {"matpowers": (), "cholesky": (), "cholesky_inverse": (), **served}
        spec = replace(self._served, **options)
        state = spec.init_inverses(self.state)
        return spec, spec.update_inverses(state, damping_of(damping_func))


class DenseSquareMatrixFactor(FisherFactor):
    """Base of the factors that store a matrix.

    Example:
        >>> import numpy as np
        >>> from kfac_core.contrib.fisher_factors import FullyConnectedKroneckerFactor
        >>> factor = FullyConnectedKroneckerFactor([[np.asarray([[1.0, 2.0]])]])
        >>> isinstance(factor, DenseSquareMatrixFactor)
        True
        >>> factor.instantiate_cov_variables()
        >>> len(factor.make_inverse_update_ops())  # nothing is registered yet
        0
        >>> factor.register_cholesky(1e-3)
        >>> factor.instantiate_inv_variables()
        >>> len(factor.make_inverse_update_ops())
        1
    """


InverseProvidingFactor = DenseSquareMatrixFactor
"""The name until r1.8."""


class DiagonalFactor(FisherFactor):
    """Base of the factors that store a diagonal: powers are computed on demand.

    Example:
        >>> import numpy as np
        >>> from kfac_core.contrib.fisher_factors import DiagonalKroneckerFactor
        >>> x = np.asarray([[1.0, 2.0]])
        >>> factor: DiagonalFactor = DiagonalKroneckerFactor([[x]])
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([1., 4.])
        >>> factor.make_inverse_update_ops()  # nothing is kept
        []
    """

    def make_inverse_update_ops(self) -> list[Callable[[], None]]:
        """Return an empty list: there is nothing to keep."""
        return []

    def get_cholesky(self, damping_func: DampingFunc) -> LinearOperator:
        """Return the power 1/2, fresh."""
        key = id_of(damping_func, self.spec.label)
        spec, state = self._fresh(damping_func, cholesky=(key,))
        return spec.get_cholesky(state, key)

    def get_cholesky_inverse(self, damping_func: DampingFunc) -> LinearOperator:
        """Return the power -1/2, fresh."""
        key = id_of(damping_func, self.spec.label)
        spec, state = self._fresh(damping_func, cholesky_inverse=(key,))
        return spec.get_cholesky_inverse(state, key)

    def _serving(
        self, exp: float, damping_func: DampingFunc
    ) -> tuple[core.FisherFactor, core.FactorState]:
        power = as_exponent(exp, self.spec.label, "exp")
        served = ((power, id_of(damping_func, self.spec.label)),)
        return self._fresh(damping_func, matpowers=served)

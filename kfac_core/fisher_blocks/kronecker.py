"""`KroneckerProductFB`: a block that is a Kronecker product of two factors."""

from dataclasses import dataclass
from typing import Any

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.damping import (
    DampingType,
    normalize_damping,
    split_by_traces,
    split_damping,
)
from kfac_core.errors import NotFiniteError, NotRegisteredError, UnsupportedError
from kfac_core.exponents import as_exponent
from kfac_core.fisher_blocks.kronecker_state import KroneckerState, whole
from kfac_core.fisher_blocks.kronecker_statistics import KroneckerStatisticsFB
from kfac_core.fisher_factors import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.messages import not_positive_definite, not_registered
from kfac_core.linalg.in_range import scaled_product, times_power
from kfac_core.linalg.kronecker import kron, kron_matmul
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.parameters import (
    check_params,
    matrix_to_params,
    params_to_matrix,
)
from kfac_core.linalg.residual import product_rho
from kfac_core.registry import backend_of
from kfac_core.scalars import as_scalar
from kfac_core.sizes import as_flag
from kfac_core.state import commit, without_graph
from kfac_core.typing import Array, Params, Scalar


@dataclass(frozen=True, kw_only=True)
class KroneckerProductFB(KroneckerStatisticsFB):
    """Abstract base of the blocks ``F = c kron(A, G)``.

    ``A`` is on the side of the rows of the parameters' matrix, ``G`` on that of its
    columns, and ``c`` the number of locations or uses of the layer in a case: the
    statistics are means over these, and the gradient a sum (Grosse & Martens, 2016,
    section 3). Where these have weights, both statistics have their mean as a factor,
    so that ``c`` is divided by it. Damped, ``F`` is ``c (A + a I) kron (G + g I)``,
    with ``a`` and ``g`` as `kfac_core.damping` says, both factors as of one
    `update_inverses`.

    Attributes:
        damping_type: How the two factors are damped: ``"pi"``, ``"off"``,
            ``"constant"``, or ``"exact"``, which damps the product itself, has the
            power 1/2 for its Cholesky factor, and takes the power 1, too, as of the
            last `update_inverses`.
        normalize_damping_power: The damping is divided by ``c`` to this power.
        input_factor: The factor ``A``, made from the block's fields.
        output_factor: The factor ``G``, likewise.
    """

    damping_type: DampingType = "pi"
    normalize_damping_power: float = 1.0

    def update_inverses(self, state: KroneckerState, damping: Scalar) -> KroneckerState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        backend = backend_of(self._own(state).scale)
        given = as_scalar(backend, damping, state.scale, "damping", self.label)
        scale, mean_weight = self._scale(backend, state)
        of_inputs, of_outputs = self._split(backend, state, given, scale)
        new = state._replace(
            input_factor=self.input_factor.update_inverses(
                state.input_factor, of_inputs
            ),
            output_factor=self.output_factor.update_inverses(
                state.output_factor, of_outputs
            ),
            scale=scale,
            mean_weight=mean_weight,
            damping=given,
        )
        if self.damping_type == "exact":
            new = self._check_exact(backend, new)
        return whole(backend, new, state, "derived_ok")

    def inverse_error(self, state: KroneckerState, damping: Scalar) -> Array:
        """Return how wrong the stored inverse is now; see `FisherBlock.inverse_error`.

        Of both factors with their parts of the damping, and of ``c``: exact for exact
        errors of these, and otherwise estimated from below, as they are.

        Raises:
            UnsupportedError: If the damping is exact.
        """
        if self.damping_type == "exact":
            msg = (
                f"{self.label}: a block with damping_type 'exact' has no inverse of"
                " which the error could be told without an eigendecomposition: call"
                " update_inverses, with no tolerance, or use another damping_type"
            )
            raise UnsupportedError(msg)
        backend = backend_of(self._own(state).scale)
        given = as_scalar(backend, damping, state.scale, "damping", self.label)
        scale, _ = self._scale(backend, state)
        of_inputs, of_outputs = self._split(backend, state, given, scale)
        errors = product_rho(
            backend,
            self.input_factor.inverse_residual(state.input_factor, of_inputs),
            self.output_factor.inverse_residual(state.output_factor, of_outputs),
            scale / state.scale,
        )
        return without_graph(backend, backend.xp.max(errors))

    def multiply_matpower(
        self, state: KroneckerState, vector: Params, exp: float
    ) -> Params:
        """Return ``c^p (A + a I)^p V (G + g I)^p``; see `FisherBlock`."""
        if self.damping_type == "exact":
            exp = as_exponent(exp, self.label, "exp")
            if exp not in {1.0, *self.matpowers}:
                raise self._not_registered(exp, "matpower")
            return self._multiply_exact(self._own(state), vector, exp)
        a = self.input_factor.get_matpower(self._own(state).input_factor, exp)
        g = self.output_factor.get_matpower(state.output_factor, exp)
        return self._multiply(state, a, g, vector, exp)

    def multiply_cholesky(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``sqrt(c) L_A V L_G'``, or the transposes; see `FisherBlock`."""
        if self.damping_type == "exact":
            as_flag(transpose, "transpose", self.label)
            if not self.cholesky:
                raise self._not_registered(None, "cholesky")
            return self._multiply_exact(self._own(state), vector, 0.5)
        a = self.input_factor.get_cholesky(self._own(state).input_factor)
        g = self.output_factor.get_cholesky(state.output_factor)
        return self._multiply(state, a, g, vector, 0.5, transpose=transpose)

    def multiply_cholesky_inverse(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``inv(L_A) V inv(L_G)' / sqrt(c)``, or the transposes."""
        if self.damping_type == "exact":
            as_flag(transpose, "transpose", self.label)
            if not self.cholesky_inverse:
                raise self._not_registered(None, "cholesky_inverse")
            return self._multiply_exact(self._own(state), vector, -0.5)
        a = self.input_factor.get_cholesky_inverse(self._own(state).input_factor)
        g = self.output_factor.get_cholesky_inverse(state.output_factor)
        return self._multiply(state, a, g, vector, -0.5, transpose=transpose)

    def full_fisher_block(self, state: KroneckerState) -> Array:
        """Return ``c kron(A, G)`` of the current statistics, dense and undamped."""
        backend = backend_of(self._own(state).scale)
        product = kron(
            backend,
            self.input_factor.get_cov(state.input_factor),
            self.output_factor.get_cov(state.output_factor),
        )
        product = product * self._scale(backend, state)[0]
        return self._laid_out(backend, product)

    def _split(
        self, backend: Backend, state: KroneckerState, damping: Array, scale: Array
    ) -> tuple[Array, Array]:
        """Return the dampings of both factors for their statistics as they are now."""
        if self.damping_type == "exact":
            return damping, damping
        power = self.normalize_damping_power
        normal = damping
        if self.is_repeated and power != 1:
            uses = moving_average.value(backend, state.uses, self.label)
            normal = damping * normalize_damping(uses, uses, power)
        normal = normalize_damping(normal, scale, 1.0)
        if self.damping_type != "pi":
            no_pi = backend.xp.ones_like(normal)
            return split_damping(backend, self.damping_type, normal, no_pi)
        traces = (
            self.input_factor.trace(state.input_factor),
            self.output_factor.trace(state.output_factor),
        )
        sizes = (self.input_factor.dimension, self.output_factor.dimension)
        return split_by_traces(backend, normal, traces, sizes)

    def _multiply(
        self,
        state: KroneckerState,
        a: LinearOperator,
        g: LinearOperator,
        vector: Params,
        exp: float,
        *,
        transpose: bool = False,
    ) -> Params:
        adjoint = as_flag(transpose, "transpose", self.label)
        backend = self._vector_backend(state, vector)
        matrix = self._matrix(backend, vector)
        # Symmetric powers are their own transposes; for Cholesky factors the product
        # with kron(L_A, L_G) is L_A V L_G', and with its transpose L_A' V L_G.
        product = kron_matmul(a, g, matrix, adjoint_a=adjoint, adjoint_g=not adjoint)
        return self._params(backend, times_power(product, state.scale, exp), vector)

    def _multiply_exact(
        self, state: KroneckerState, vector: Params, exp: float
    ) -> Params:
        """Multiply in the eigenbasis, where ``F`` is diagonal, damping and all."""
        backend = self._vector_backend(state, vector)
        matrix = self._matrix(backend, vector)
        a = self.input_factor.get_eigenvectors(state.input_factor)
        g = self.output_factor.get_eigenvectors(state.output_factor)
        rotated = kron_matmul(a, g, matrix, adjoint_a=True)
        scaled = times_power(rotated, self._exact_eigenvalues(state), exp)
        product = kron_matmul(a, g, scaled, adjoint_g=True)
        return self._params(backend, product, vector)

    def _not_registered(self, exp: float | None, what: str) -> NotRegisteredError:
        name = what if exp is None else f"{what} {exp:g}"
        served = (
            f"the powers {list(self.matpowers)}, cholesky {self.cholesky},"
            f" cholesky_inverse {self.cholesky_inverse}"
        )
        return not_registered(self.label, name, DEFAULT_DAMPING_ID, served)

    def _exact_eigenvalues(self, state: KroneckerState) -> Array:
        """Return the eigenvalues of ``c kron(A, G) + damping I``, as a matrix."""
        a = self.input_factor.get_eigenvalues(state.input_factor)
        g = self.output_factor.get_eigenvalues(state.output_factor)
        backend = backend_of(state.scale)
        product = scaled_product(backend, state.scale, a[:, None], g[None, :])
        return product + state.damping

    def _check_exact(self, backend: Backend, new: KroneckerState) -> KroneckerState:
        """Check that eigenvalues are finite, and none zero that is to be divided by."""
        eigenvalues = self._exact_eigenvalues(new)
        ok = backend.is_finite(eigenvalues)
        if min(self.matpowers, default=0) < 0 or self.cholesky_inverse:
            ok = ok & (backend.xp.min(eigenvalues) > 0)

        def error() -> Exception:
            if not bool(backend.is_finite(eigenvalues)):
                msg = (
                    f"{self.label}: eigenvalues of the block overflow"
                    f" {eigenvalues.dtype}; scale the loss, or use a float64 state. The"
                    " state is unchanged"
                )
                return NotFiniteError(msg)
            sizes = self.input_factor.dimension, self.output_factor.dimension
            return not_positive_definite(
                backend,
                self.label,
                backend.xp.sum(eigenvalues),
                sizes[0] * sizes[1],
                float(new.damping),
            )

        return commit(backend, ok, new, new.with_flag("derived_ok", ok), error)

    def _matrix(self, backend: Backend, vector: Params) -> Array:
        rows, columns = self.input_factor.dimension, self.output_factor.dimension
        check_params(vector, rows, columns, self.label, self.weight_layout)
        return params_to_matrix(backend, vector, self.weight_layout)

    def _params(self, backend: Backend, product: Array, vector: Params) -> Params:
        params = matrix_to_params(backend, product, vector, self.weight_layout)
        return self._in_dtypes_of(backend, params, vector)

    def _factor_options(self, side: str) -> dict[str, Any]:
        """Return the fields that both factors have, for the factor of one side."""
        served = (
            {"eigendecomposition": True, **self._averaging(), **self._inverting()}
            if self.damping_type == "exact"
            else self._served()
        )
        return {"name": f"{self.label} ({side} factor)", **served}

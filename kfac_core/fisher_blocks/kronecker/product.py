"""`KroneckerProductFB`: a block that is a Kronecker product of two factors."""

from dataclasses import dataclass
from typing import Any

from kfac_core.arguments.powers import as_exponent, is_among
from kfac_core.arguments.scalars import as_scalar
from kfac_core.arguments.sizes import as_flag
from kfac_core.backend import Backend
from kfac_core.damping import DampingType
from kfac_core.errors import UnsupportedError
from kfac_core.fisher_blocks.base.served import check_served
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.kronecker.known_numbers import of_numbers
from kfac_core.fisher_blocks.kronecker.splitting import Splitting
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_blocks.kronecker.statistics import KroneckerStatisticsFB
from kfac_core.fisher_factors.base.messages import (
    not_positive_definite,
    overflowed,
)
from kfac_core.fisher_factors.base.updating import inverse_residual, with_inverses
from kfac_core.fisher_factors.eigenbasis import eigenbasis
from kfac_core.linalg.in_range import scaled_product, times_power
from kfac_core.linalg.kronecker import kron, kron_matmul
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.parameters import (
    check_params,
    matrix_to_params,
    params_to_matrix,
)
from kfac_core.linalg.residual import product_rho
from kfac_core.linalg.spectrum import Spectrum, dense_matrix
from kfac_core.registry import backend_of
from kfac_core.rows.counts import mean_weight
from kfac_core.state import commit, kept, without_graph
from kfac_core.typing import Array, Params, Scalar


@dataclass(frozen=True, kw_only=True)
class KroneckerProductFB(KroneckerStatisticsFB):
    """Abstract base of the blocks ``F = c kron(A, G)``.

    ``A`` is on the side of the rows of the parameters' matrix, ``G`` on that of its
    columns, and ``c`` the number of locations or uses of the layer in a case: the
    statistics are means over these, and the gradient a sum (Grosse & Martens, 2016,
    section 3). Damped, ``F`` is ``c (A + a I) kron (G + g I)``, with ``a`` and ``g`` as
    `kfac_core.damping` says, both factors as of one `update_inverses`.

    Where rows have weights, both statistics have the mean weight ``w`` as a factor, and
    ``F`` has it once: ``A`` and ``G`` are the statistics divided by ``sqrt(w)``. So
    weights, and numbers of cases, may be as small and as large as the dtype holds, as
    long as it holds, as normal numbers, ``w``, the statistics ``sum w x x' / N`` and
    ``sum w g g' / N``, and the damped block. Statistics below count as zero, the block
    then being the damping alone; those above, and any other ``w``, are refused.

    Attributes:
        damping_type: How the two factors are damped: ``"pi"``, ``"off"``,
            ``"constant"``, or ``"exact"``, which damps the product itself. With
            ``"exact"`` the Cholesky factor is the power 1/2, and the power 1, too, is a
            snapshot of the last `update_inverses`.
        normalize_damping_power: The damping is divided by ``c`` to this power.
        input_factor: The factor ``A``, made from the block's fields.
        output_factor: The factor ``G``, made from the block's fields.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> x, g, one = np.asarray([[2.0]]), np.asarray([[1.0]]), np.ones((1, 1))
        >>> for kind in ("exact", "off", "pi"):  # A is 4 and G is 1
        ...     block = FullyConnectedKFACBasicFB(1, 1, damping_type=kind)
        ...     state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        ...     state = block.update_inverses(state, damping=0.25)
        ...     print(kind, block.multiply(state, one).item())
        exact 4.25
        off 6.75
        pi 6.25
    """

    damping_type: DampingType = "pi"
    normalize_damping_power: float = 1.0

    def update_inverses(self, state: KroneckerState, damping: Scalar) -> KroneckerState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        backend = self._checked(state)
        given = as_scalar(backend, damping, state.scale, "damping", self.label)
        scale, mean = self._scale(backend, state)
        balanced = self._balanced(backend, state, mean)
        of_inputs, of_outputs = self._split(backend, balanced, given, scale, mean)
        a, g = balanced.input_factor, balanced.output_factor
        a = with_inverses(self.input_factor, backend, a, of_inputs)
        g = with_inverses(self.output_factor, backend, g, of_outputs)
        if balanced is not state:
            a = a._replace(cov=state.input_factor.cov)
            g = g._replace(cov=state.output_factor.cov)
        new = state._replace(
            input_factor=a,
            output_factor=g,
            scale=kept(scale),
            mean_weight=kept(mean),
            damping=given,
        )
        if self.damping_type == "exact":
            new = self._check_exact(backend, new)
        return whole(backend, new, state, "derived_ok")

    def inverse_error(self, state: KroneckerState, damping: Scalar) -> Array:
        """Return how wrong the stored inverse is now; see `FisherBlock.inverse_error`.

        It combines the errors of both damped factors and of ``c``. If these errors are
        exact, the result is exact; if they are estimates from below, so is the result.

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
        backend = self._checked(state)
        given = as_scalar(backend, damping, state.scale, "damping", self.label)
        scale, mean = self._scale(backend, state)
        now = self._balanced(backend, state, mean)
        of_inputs, of_outputs = self._split(backend, now, given, scale, mean)
        ratio = scale / state.scale
        if by_weight := self._means_by_weight:
            ratio = ratio * (mean / state.mean_weight) ** (by_weight / 2)
        errors = product_rho(
            backend,
            inverse_residual(self.input_factor, backend, now.input_factor, of_inputs),
            inverse_residual(
                self.output_factor, backend, now.output_factor, of_outputs
            ),
            ratio,
        )
        return without_graph(backend, backend.xp.max(errors))

    def multiply_matpower(
        self, state: KroneckerState, vector: Params, exp: float
    ) -> Params:
        """Return ``c^p (A + a I)^p V (G + g I)^p``; see `FisherBlock`."""
        exp = as_exponent(exp, self.label, "exp")
        if self.damping_type == "exact":
            check_served(
                self, is_among(exp, (1.0, *self.matpowers)), f"matpower {exp:g}"
            )
            return self._multiply_exact(self._own(state), vector, exp)
        # The power 1 is that of the current statistics and weights.
        now = self._now(state) if exp == 1 else self._own(state)
        a = self.input_factor._matpower(now.input_factor, exp)
        g = self.output_factor._matpower(now.output_factor, exp)
        return self._multiply(state, a, g, vector, exp)

    def multiply_cholesky(
        self, state: KroneckerState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``sqrt(c) L_A V L_G'``, or the transposes; see `FisherBlock`."""
        if self.damping_type == "exact":
            as_flag(transpose, "transpose", self.label)
            check_served(self, self.cholesky, "cholesky")
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
            check_served(self, self.cholesky_inverse, "cholesky_inverse")
            return self._multiply_exact(self._own(state), vector, -0.5)
        a = self.input_factor.get_cholesky_inverse(self._own(state).input_factor)
        g = self.output_factor.get_cholesky_inverse(state.output_factor)
        return self._multiply(state, a, g, vector, -0.5, transpose=transpose)

    def full_fisher_block(self, state: KroneckerState) -> Array:
        """Return ``c kron(A, G)`` of the current statistics, dense and undamped."""
        backend = backend_of(self._own(state).scale)
        scale, mean = self._scale(backend, state)
        now = self._balanced(backend, state, mean)
        product = kron(
            backend,
            self.input_factor.get_cov(now.input_factor),
            self.output_factor.get_cov(now.output_factor),
        )
        for _ in range(self._means_by_weight):
            product = product * backend.xp.sqrt(mean)
        product = product * scale
        return self._laid_out(backend, product)

    def spectrum(self, state: KroneckerState) -> tuple[Spectrum, ...]:
        """Return the products of both factors' eigenvalues; see `FisherBlock`."""
        backend = backend_of(self._own(state).scale)
        scale, mean = self._scale(backend, state)
        now = self._balanced(backend, state, mean)
        a = eigenbasis(backend, self.input_factor, now.input_factor)
        g = eigenbasis(backend, self.output_factor, now.output_factor)
        rows, columns = a.values[..., :, None], g.values[..., None, :]
        root = backend.xp.sqrt(mean) ** self._means_by_weight
        values = scaled_product(backend, scale * root, rows, columns)
        return (Spectrum((a, g), values),)

    def _dense(self, backend: Backend, spectrum: Spectrum) -> Array:
        """Return the matrix of complete bases, dense, before it is laid out."""
        return dense_matrix(backend, spectrum)

    def to_tensors(self, backend: Backend, vector: Params) -> tuple[Array, ...]:
        """Return the parameters as a matrix; see `FisherBlock.to_tensors`."""
        return (self._matrix(backend, vector),)

    def from_tensors(
        self, backend: Backend, tensors: tuple[Array, ...], like: Params
    ) -> Params:
        """Return a vector in the form of `like`; see `FisherBlock.from_tensors`."""
        return self._params(backend, tensors[0], like)

    @property
    def splitting(self) -> Splitting:
        """How the block splits its damping."""
        first, second = self.input_factor, self.output_factor
        return Splitting(
            self.damping_type,
            self.normalize_damping_power if self.is_repeated else 1.0,
            self._sizes,
            (first.form.is_mean_by_weight, second.form.is_mean_by_weight),
        )

    def _now(self, state: KroneckerState) -> KroneckerState:
        """Return the balanced state, by the current mean weight."""
        backend = backend_of(self._own(state).scale)
        return self._balanced(backend, state, mean_weight(backend, state.weights))

    def _split(
        self,
        backend: Backend,
        state: KroneckerState,
        damping: Array,
        scale: Array,
        mean: Array,
    ) -> tuple[Array, Array]:
        """Return the dampings of both factors of a balanced state, ``c`` and ``w``."""
        if self.damping_type == "exact":
            return damping, damping
        traces: tuple[Array, ...] = ()
        first, second = self.input_factor, self.output_factor
        if not second.form.takes_damping:
            # All of it is on the side of A, which is exact beside an identity.
            root = backend.xp.sqrt(mean) ** self._means_by_weight
            return damping / (scale * root), damping * 0
        if self.damping_type == "pi":
            traces = (
                first.form.trace(backend, state.input_factor.cov, first),
                second.form.trace(backend, state.output_factor.cov, second),
            )
        a, g = of_numbers(backend, self.splitting.of, damping, scale, mean, *traces)
        return a, g

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
        by_weight = self._means_by_weight
        if by_weight:
            # Each such factor lacks the root of the mean weight.
            root = backend.xp.sqrt(state.mean_weight)
            matrix = times_power(matrix, root, exp)
        product = kron_matmul(a, g, matrix, adjoint_a=adjoint, adjoint_g=not adjoint)
        if by_weight > 1:
            product = times_power(product, root, exp)
        if backend.known_number(state.scale) != 1:
            product = times_power(product, state.scale, exp)
        return self._params(backend, product, vector)

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

    def _exact_eigenvalues(self, state: KroneckerState) -> Array:
        """Return the eigenvalues of ``c kron(A, G) + damping I``, as a matrix."""
        a = self.input_factor.get_eigenvalues(state.input_factor)
        g = self.output_factor.get_eigenvalues(state.output_factor)
        backend = backend_of(state.scale)
        rows, columns = a[..., :, None], g[..., None, :]
        return scaled_product(backend, state.scale, rows, columns) + state.damping

    def _check_exact(self, backend: Backend, new: KroneckerState) -> KroneckerState:
        """Check that eigenvalues are finite, and not zero where they are divided by."""
        eigenvalues = self._exact_eigenvalues(new)
        ok = backend.is_finite(eigenvalues)
        if self.cholesky_inverse or any(exp < 0 for exp in self.matpowers):
            ok = ok & (backend.xp.min(eigenvalues) > 0)

        def error() -> Exception:
            if not bool(backend.is_finite(eigenvalues)):
                what, dtype = "eigenvalues of the block", eigenvalues.dtype
                return overflowed(backend, self.label, what, dtype, scaled="loss")
            size = self.input_factor.dimension * self.output_factor.dimension
            known = backend.xp.sum(eigenvalues), size, float(new.damping)
            return not_positive_definite(backend, self.label, *known)

        new = new.with_flag("derived_ok", ok & new.flag("derived_ok"))
        return commit(backend, ok, new, new, error)

    def _matrix(self, backend: Backend, vector: Params) -> Array:
        check_params(vector, *self._sizes, self.label, self.weight_layout)
        return params_to_matrix(backend, vector, self.weight_layout)

    def _params(self, backend: Backend, product: Array, vector: Params) -> Params:
        params = matrix_to_params(backend, product, vector, self.weight_layout)
        if (
            not isinstance(params, tuple)
            and not isinstance(vector, tuple | list)
            and params.dtype == vector.dtype
        ):
            return params  # the product is a new array
        return self._in_dtypes_of(backend, params, vector)

    def _factor_options(self, side: str) -> dict[str, Any]:
        """Return the fields that both factors have, for the factor of one side."""
        served = (
            {"eigendecomposition": True, **self._averaging(), **self._inverting()}
            if self.damping_type == "exact"
            else self._served()
        )
        return {"name": f"{self.label} ({side} factor)", **served}

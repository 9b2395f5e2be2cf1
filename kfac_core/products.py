"""Exact products with a model's curvature matrices: no approximation, no damping.

With the Jacobian ``J`` of the loss inputs by the parameters, and the losses' own
Fisher ``F_L = B B'``,

    Fisher  J' F_L J,    its factor  J' B,    the factor's transpose  B' J,

and the same of the generalised Gauss-Newton matrix (Schraudolph, 2002). All are sums
over cases: divide by the batch size for the mean loss.

Each product can be differentiated for its vector. Where autograd does not track the
vector, the product has no graph, even if the parameters of the model have one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kfac_core.arguments.arrays import backend_for, check_shape, statistics_dtype
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import (
    as_named,
    check_all_finite,
    check_named,
    map_named,
)
from kfac_core.linearization import (
    Linearization,
    NamedLossInputs,
    NamedParams,
    SecondOrderLinearization,
)
from kfac_core.linearization.checked import check_is_collection, checked
from kfac_core.loss_functions import LossFunction
from kfac_core.loss_functions.positions import input_arrays
from kfac_core.registered_losses import (
    LossAt,
    loss_gradient,
    losses_at,
    scaled_inputs,
    target,
)
from kfac_core.registry import backend_of
from kfac_core.spec.quiet import Quiet
from kfac_core.state import check_finite, without_graph
from kfac_core.typing import Array

Verb: TypeAlias = Callable[[LossFunction], Callable[..., Any]]
"""Picks the method of a loss that multiplies inputs, an operand and a mask."""


@dataclass(frozen=True)
class CurvatureMatrixVectorProductComputer(Quiet):
    """Products of the registered losses' curvature with vectors of parameters.

    The matrix of a loss is multiplied by its coefficient, and a factor by the root of
    the coefficient.

    Attributes:
        layer_collection: Where the losses are registered; its layers are not used.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> weights = {"dense_0/weights": np.asarray([[1.0], [0.0]])}
        >>> batch = Batch(np.asarray([[1.0, 2.0], [0.0, 3.0]]))
        >>> linearization = model.linearize(weights, batch)
        >>> computer = CurvatureMatrixVectorProductComputer(collection)
        >>> computer.multiply_fisher(linearization, weights)["dense_0/weights"]
        array([[1.],
               [2.]])
    """

    layer_collection: LayerCollection

    def __post_init__(self) -> None:
        """Check the collection.

        Raises:
            ArgumentError: If it is not a collection.
        """
        check_is_collection(self.layer_collection, "layer_collection", _LABEL)

    def multiply_fisher(
        self, linearization: Linearization, vectors: NamedParams
    ) -> NamedParams:
        """Return ``J' F_L J v``.

        Args:
            linearization: The model at its parameters and a batch.
            vectors: For every parameter an array of its shape.

        Returns:
            The product, by name.
        """
        return self._squared(linearization, lambda f: f.multiply_fisher, vectors)

    def multiply_fisher_factor(
        self, linearization: Linearization, inner: Mapping[str, Array]
    ) -> NamedParams:
        """Return ``J' B u``.

        Args:
            linearization: The model at its parameters and a batch.
            inner: For every loss site an array of `fisher_factor_inner_shapes`.

        Returns:
            The product, by name.
        """
        return self._pulled(
            linearization,
            lambda f: f.multiply_fisher_factor,
            lambda f: f.fisher_factor_inner_shape,
            inner,
        )

    def multiply_fisher_factor_transpose(
        self, linearization: Linearization, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return ``B' J v``.

        Args:
            linearization: The model at its parameters and a batch.
            vectors: For every parameter an array of its shape.

        Returns:
            For every loss site an array of `fisher_factor_inner_shapes`.
        """
        return self._pushed(
            linearization, lambda f: f.multiply_fisher_factor_transpose, vectors
        )

    def fisher_factor_inner_shapes(
        self, linearization: Linearization
    ) -> dict[str, tuple[int, ...]]:
        """Return for every loss site the shape of what its factor multiplies."""
        return {
            at.site: at.loss.fisher_factor_inner_shape(at.inputs)
            for at in losses_at(self.layer_collection, linearization)
        }

    def multiply_ggn(
        self, linearization: Linearization, vectors: NamedParams
    ) -> NamedParams:
        """Return ``J' H_L J v`` with the losses' GGN ``H_L``; see `multiply_fisher`."""
        return self._squared(linearization, lambda f: f.multiply_ggn, vectors)

    def multiply_ggn_factor(
        self, linearization: Linearization, inner: Mapping[str, Array]
    ) -> NamedParams:
        """Return ``J' B u`` with ``B B' = H_L``; see `multiply_fisher_factor`."""
        return self._pulled(
            linearization,
            lambda f: f.multiply_ggn_factor,
            lambda f: f.ggn_factor_inner_shape,
            inner,
        )

    def multiply_ggn_factor_transpose(
        self, linearization: Linearization, vectors: NamedParams
    ) -> dict[str, Array]:
        """Return ``B' J v``; see `multiply_fisher_factor_transpose`."""
        return self._pushed(
            linearization, lambda f: f.multiply_ggn_factor_transpose, vectors
        )

    def ggn_factor_inner_shapes(
        self, linearization: Linearization
    ) -> dict[str, tuple[int, ...]]:
        """Return for every loss site the shape of what its GGN's factor multiplies."""
        return {
            at.site: at.loss.ggn_factor_inner_shape(at.inputs)
            for at in losses_at(self.layer_collection, linearization)
        }

    def multiply_hessian(
        self, linearization: SecondOrderLinearization, vectors: NamedParams
    ) -> NamedParams:
        """Return the exact Hessian of the total loss on its targets, times a vector.

        It is the losses' own Hessian, pulled back to the parameters, plus the model's
        second derivative along the gradient (Pearlmutter, 1994).

        Args:
            linearization: The model at its parameters and a batch, with its second
                derivatives.
            vectors: For every parameter an array of its shape.

        Returns:
            The product, by name.

        Raises:
            ArgumentError: If the linearization has no second derivatives, or a loss has
                no targets.
        """
        known = checked(self.layer_collection, linearization)
        if not known.has_second_derivatives:
            msg = (
                f"multiply_hessian: linearization: {type(linearization).__name__} has"
                " no param_gradients_change; see SecondOrderLinearization"
            )
            raise ArgumentError(msg)
        self._check_vectors(vectors)
        pushed = known.push_forward(vectors)
        bent = {
            at.site: scaled_inputs(
                at.coeff,
                at.loss.multiply_hessian(
                    at.inputs, target(known, at), pushed[at.site], at.mask
                ),
            )
            for at in losses_at(self.layer_collection, known)
        }
        gradient = loss_gradient(self.layer_collection, known)
        product = map_named(
            lambda of_losses, of_model: of_losses + of_model,
            known.param_gradients(bent),
            known.param_gradients_change(gradient, vectors),
        )
        return _of(vectors, product)

    def _squared(
        self, linearization: Linearization, verb: Verb, vectors: NamedParams
    ) -> NamedParams:
        """Push forward; multiply at the losses, by their coefficients; pull back."""
        self._check_vectors(vectors)
        known = checked(self.layer_collection, linearization)
        pushed = known.push_forward(vectors)
        bent: NamedLossInputs = {
            at.site: scaled_inputs(
                at.coeff, verb(at.loss)(at.inputs, pushed[at.site], at.mask)
            )
            for at in losses_at(self.layer_collection, known)
        }
        return _of(vectors, known.param_gradients(bent))

    def _pulled(
        self,
        linearization: Linearization,
        verb: Verb,
        shape: Verb,
        inner: Mapping[str, Any],
    ) -> NamedParams:
        """Multiply at the losses, by the roots of their coefficients; pull back."""
        known = checked(self.layer_collection, linearization)
        as_named(inner, "inner", _LABEL)
        vectors: NamedLossInputs = {
            at.site: scaled_inputs(
                at.root,
                verb(at.loss)(
                    at.inputs, _at_site(inner, at, shape(at.loss)(at.inputs)), at.mask
                ),
            )
            for at in losses_at(self.layer_collection, known)
        }
        return _of(inner, known.param_gradients(vectors))

    def _pushed(
        self, linearization: Linearization, verb: Verb, vectors: NamedParams
    ) -> dict[str, Array]:
        """Push forward; multiply at the losses, by the roots of their coefficients."""
        self._check_vectors(vectors)
        known = checked(self.layer_collection, linearization)
        pushed = known.push_forward(vectors)
        products = {
            at.site: verb(at.loss)(at.inputs, pushed[at.site], at.mask) * at.root
            for at in losses_at(self.layer_collection, known)
        }
        return _of(vectors, products)

    def _check_vectors(self, vectors: NamedParams) -> None:
        """Check that there is a real, finite vector for each parameter."""
        shapes = dict(self.layer_collection.variables)
        backend = check_named(vectors, shapes, "vectors", _LABEL)
        check_all_finite(backend, vectors, "vectors", _LABEL)


_LABEL = "CurvatureMatrixVectorProductComputer"


def _at_site(inner: Mapping[str, Any], at: LossAt, shape: tuple[int, ...]) -> Array:
    """Return what the factor of a loss multiplies, after checking it.

    Raises:
        ArgumentError: If there is nothing for the site.
        BackendError: If it is not an array of the library of the loss's inputs.
        DTypeError: If it does not hold real numbers.
        NotFiniteError: If it is not finite.
        ShapeError: If it has another shape.
    """
    if at.site not in inner:
        msg = (
            f"{at.name}: inner has nothing for the loss site {at.site!r}, only for"
            f" {list(inner)}"
        )
        raise ArgumentError(msg)
    argument = f"inner at {at.site!r}"
    given: Array = inner[at.site]
    backend = backend_for(at.name, argument, given, *input_arrays(at.inputs))
    check_shape(given, shape, argument, at.name)
    statistics_dtype(backend, given, argument, at.name)
    check_finite(backend, given, argument, at.name)
    return given


def _of(
    vectors: Mapping[str, Array], products: Mapping[str, Array]
) -> dict[str, Array]:
    """Return products without a graph, unless the user differentiates for a vector.

    Raises:
        BackendError: If a product is not on the device of its vector.
        NotFiniteError: If a product is not finite, though its vectors are.
    """
    backend = backend_of(next(iter(vectors.values())))
    for name in vectors.keys() & products.keys():
        backend_for(_LABEL, f"the product of {name}", vectors[name], products[name])
    check_all_finite(backend, products, "the product", _LABEL)
    if any(backend.has_graph(vector) for vector in vectors.values()):
        return dict(products)
    return without_graph(backend, dict(products))

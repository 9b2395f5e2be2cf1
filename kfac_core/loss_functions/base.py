"""`LossFunction`: negative log-likelihoods, summed over cases, and their curvature.

The Fisher information of a case for the inputs of its loss (outputs of the network) is

    F = E[g g'],    g the gradient for the inputs, targets drawn from the model,

and ``B`` is any matrix with ``B B' = F``. Back-propagating the columns of ``B``, in
place of gradients, gives the exact Fisher (Martens, 2020, sections 5 and 9). The
matrices are block-diagonal, with one block for each position of each case.
"""

from dataclasses import dataclass
from typing import Any

from kfac_core.arguments.arrays import backend_for
from kfac_core.arguments.random_keys import drawn
from kfac_core.arguments.sizes import as_size
from kfac_core.loss_functions.members import Index, LossMembers
from kfac_core.loss_functions.positions import check_beside, input_arrays
from kfac_core.typing import Array, Key, LossInputs


@dataclass(frozen=True)
class LossFunction(LossMembers):
    """Abstract base of the losses: specs without arrays.

    In all methods, `inputs` is what the loss takes from the network: an array ``[batch,
    ..., n]``, or a tuple of arrays of one such shape. `mask` is None or ``[batch,
    ...]``: weights of the positions, not negative. A position of weight zero (padding)
    has no effect, even if it holds NaN or an invalid target. A product with a matrix of
    a masked loss belongs to the weighted loss: ``w F v`` and ``sqrt(w) B u``. Vectors
    may have further leading axes. Inputs in half precision are computed in float32;
    results have the dtype of the inputs, and values of the loss are at least float32.

    A loss of your own is a frozen dataclass with the abstract members. They get checked
    arrays of one dtype, without a mask (padding is ones in inputs, and zeros
    elsewhere). ``inputs`` have the structure that the user gave, and vectors may have
    further leading axes. ``xp`` is ``backend.xp``:

    - ``_losses(backend, inputs, targets)``: ``-log p`` of each position,
      ``[batch, ...]``;
    - ``_gradient(backend, inputs, targets)``: the gradient of ``_losses``, structured
      like the inputs;
    - ``_sample_from(backend, noise, inputs)``: targets;
    - ``_fisher_factor(backend, inputs, inner)`` and
      ``_fisher_factor_transpose(backend, inputs, vector)``: ``B u`` and ``B' v``;
    - ``_hessian(backend, inputs, targets, vector)``.

    `NaturalParamsNegativeLogProbLoss` and `IndependentNaturalParamsNegativeLogProbLoss`
    need fewer members. Where the defaults of this class do not fit, a loss also sets
    ``input_names``, and overrides ``targets_shape``, ``_as_targets``, ``_valid_inputs``
    and ``_valid_targets`` (by default, finite numbers are valid), ``noise_shape``,
    ``fisher_factor_inner_shape``, ``_fisher``, and the members of the Gauss-Newton
    matrix.

    Attributes:
        input_names: Names of the inputs, for messages; one name for each array.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> loss: LossFunction = CategoricalLogitsNegativeLogProbLoss()
        >>> logits, targets = np.zeros((1, 2)), np.asarray([0])
        >>> loss.gradient(logits, targets)  # p - y
        array([[-0.5,  0.5]])
        >>> loss.multiply_fisher(logits, np.asarray([[1.0, 0.0]]))  # diag(p) - p p'
        array([[ 0.25, -0.25]])
    """

    def evaluate(
        self, inputs: LossInputs, targets: Array, mask: Array | None = None
    ) -> Array:
        """Return the negative log-likelihood, normalisers included, summed.

        Args:
            inputs: ``[batch, ..., n]``, or a tuple of these.
            targets: Targets of the shape `targets_shape`; constants to differentiation.
            mask: Weights of the positions, ``[batch, ...]``.

        Returns:
            0-d: the sum over all cases and positions, weighted.

        Raises:
            ArgumentError: If a weight or target has a value, and is out of range.
            BackendError: If the arrays are of several libraries or devices.
            DTypeError: If a dtype cannot be used.
            ShapeError: If a shape is wrong.
        """
        at, prepared = self._with_targets(inputs, targets, mask)
        losses = self._losses(at.backend, at.inputs, prepared)
        return at.backend.xp.sum(at.weighted(losses[..., None]))

    def gradient(
        self, inputs: LossInputs, targets: Array, mask: Array | None = None
    ) -> Any:
        """Return the gradient of `evaluate`, shaped like the inputs; same arguments."""
        at, prepared = self._with_targets(inputs, targets, mask)
        gradient = self._gradient(at.backend, at.inputs, prepared)
        return self._results(at, gradient, inputs)

    def half_gradient(
        self, inputs: LossInputs, targets: Array, mask: Array | None = None
    ) -> Any:
        """Return the gradient, weighted by the root of the mask.

        Its outer product has the weights of the loss, and not their squares, so that it
        can take the place of ``B u`` in an estimate of the Fisher.
        """
        at, prepared = self._with_targets(inputs, targets, mask)
        gradient = self._gradient(at.backend, at.inputs, prepared)
        return self._results(at, gradient, inputs, root=True)

    def sample(
        self,
        key: Key,
        inputs: LossInputs,
        num_samples: int | None = None,
        mask: Array | None = None,
    ) -> Array:
        """Draw targets from the model.

        Args:
            key: What the array library draws from.
            inputs: ``[batch, ..., n]``, or a tuple of these.
            num_samples: Number of targets for each position; None: one.
            mask: Weights of the positions; where it is zero, inputs may be anything,
                and the targets mean nothing.

        Returns:
            Targets, with a first axis for the samples if their number is given. Within
            a trace, inputs that are NaN give NaN, or an invalid label.

        Raises:
            ArgumentError: If the number of samples is not a positive integer, or the
                library cannot draw from the key.
            NotFiniteError: If an input has a value, and that is NaN.
            KfacError: What else the library's backend refuses.
        """
        at = self._positions(inputs, mask)
        shape = self.noise_shape(inputs)
        if num_samples is not None:
            shape = (
                as_size(num_samples, "num_samples", self.label, optional=True),
                *shape,
            )
        device = at.backend.creation_device(input_arrays(inputs)[0])
        noise = drawn(
            at.backend,
            key,
            self.label,
            lambda own: at.backend.uniform(own, shape, at.dtype, device),
        )
        return self.sample_from(noise, inputs, mask)

    def sample_from(
        self, noise: Array, inputs: LossInputs, mask: Array | None = None
    ) -> Array:
        """Return targets computed from noise, with the distribution of `sample`.

        Args:
            noise: Uniform numbers on [0, 1), of the shape `noise_shape`, or with one
                more axis in front, for the samples.
            inputs: ``[batch, ..., n]``, or a tuple of these.
            mask: As in `sample`.

        Returns:
            Targets, with a first axis for the samples if the noise has it; constants
            to differentiation.

        Raises:
            ShapeError: If the noise has another shape.
            ArgumentError: If the noise has values, and they are not in [0, 1).
            NotFiniteError: If an input has a value, and that is NaN.
        """
        at = self._checked(inputs, mask)
        backend_for(self.label, "noise, inputs", noise, *input_arrays(inputs))
        wanted = self.noise_shape(inputs)
        extra = ("num_samples",) if len(noise.shape) > len(wanted) else ()
        names = self.input_names
        check_beside(noise, (*extra, *wanted), "noise", names, self.label)
        uniforms = self._as_uniforms(at, noise)
        targets = self._sample_from(at.backend, uniforms, at.inputs)
        return at.backend.stop_gradient(targets)

    def evaluate_on_sample(
        self, key: Key, inputs: LossInputs, mask: Array | None = None
    ) -> Array:
        """Return `evaluate` at targets drawn from the model."""
        targets = self.sample(key, inputs, mask=mask)
        return self.counting_all().evaluate(inputs, targets, mask)

    def multiply_fisher(
        self, inputs: LossInputs, vector: LossInputs, mask: Array | None = None
    ) -> Any:
        """Return ``F v``.

        Args:
            inputs: ``[batch, ..., n]``, or a tuple of these.
            vector: ``v``, structured like the inputs.
            mask: Weights of the positions, ``[batch, ...]``.

        Returns:
            The product, structured like the vector.

        Raises:
            ShapeError: If a shape is wrong.
        """
        at, vectors = self._with_vector(inputs, vector, mask)
        product = self._fisher(at.backend, at.inputs, vectors)
        return self._results(at, product, inputs)

    def multiply_fisher_factor(
        self, inputs: LossInputs, inner: Array, mask: Array | None = None
    ) -> Any:
        """Return ``B u``, like the inputs, for `inner` ``u``; see `multiply_fisher`.

        `inner` is of the shape `fisher_factor_inner_shape`.
        """
        shape = self.fisher_factor_inner_shape(inputs)
        at, inner = self._with_inner(inputs, inner, shape, mask)
        product = self._fisher_factor(at.backend, at.inputs, inner)
        return self._results(at, product, inputs, root=True)

    def multiply_fisher_factor_transpose(
        self, inputs: LossInputs, vector: LossInputs, mask: Array | None = None
    ) -> Array:
        """Return ``B' v``, of the inner shape; see `multiply_fisher`."""
        at, vectors = self._with_vector(inputs, vector, mask)
        product = self._fisher_factor_transpose(at.backend, at.inputs, vectors)
        return self._inner_result(at, product, inputs)

    def multiply_fisher_factor_replicated_one_hot(
        self, inputs: LossInputs, index: Index, mask: Array | None = None
    ) -> Any:
        """Return one column of ``B`` for every case at once, like the inputs.

        Args:
            inputs: ``[batch, ..., n]``, or a tuple of these.
            index: The column: a place on each axis of the inner shape, except the
                batch.
            mask: Weights of the positions, ``[batch, ...]``.

        Returns:
            ``B e``, where ``e`` is one at the index, for every case, and zero
            elsewhere.

        Raises:
            ArgumentError: If there is no such place.
        """
        shape = self.fisher_factor_inner_shape(inputs)
        at = self._checked(inputs, mask)
        one_hot = self._replicated_one_hot(at, shape, index)
        product = self._fisher_factor(at.backend, at.inputs, one_hot)
        return self._results(at, product, inputs, root=True)

    def multiply_ggn(
        self, inputs: LossInputs, vector: LossInputs, mask: Array | None = None
    ) -> Any:
        """Return the (generalised) Gauss-Newton matrix times a vector.

        The matrix is the second derivative of the loss for its inputs, if that is
        positive semi-definite and does not depend on the targets. See
        `multiply_fisher`.

        Raises:
            UnsupportedError: If the loss has no such matrix.
        """
        at, vectors = self._with_vector(inputs, vector, mask)
        product = self._ggn(at.backend, at.inputs, vectors)
        return self._results(at, product, inputs)

    def multiply_ggn_factor(
        self, inputs: LossInputs, inner: Array, mask: Array | None = None
    ) -> Any:
        """Return a factor of the matrix of `multiply_ggn` times `inner`.

        See `multiply_fisher_factor`.

        Raises:
            UnsupportedError: If the loss has no such matrix.
        """
        shape = self.ggn_factor_inner_shape(inputs)
        at, inner = self._with_inner(inputs, inner, shape, mask)
        product = self._ggn_factor(at.backend, at.inputs, inner)
        return self._results(at, product, inputs, root=True)

    def multiply_ggn_factor_transpose(
        self, inputs: LossInputs, vector: LossInputs, mask: Array | None = None
    ) -> Array:
        """Return the transpose of the factor of `multiply_ggn_factor` times a vector.

        Raises:
            UnsupportedError: If the loss has no such matrix.
        """
        at, vectors = self._with_vector(inputs, vector, mask)
        product = self._ggn_factor_transpose(at.backend, at.inputs, vectors)
        return self._inner_result(at, product, inputs)

    def multiply_ggn_factor_replicated_one_hot(
        self, inputs: LossInputs, index: Index, mask: Array | None = None
    ) -> Any:
        """Return one column of the factor of `multiply_ggn_factor` for every case.

        See `multiply_fisher_factor_replicated_one_hot`.

        Raises:
            UnsupportedError: If the loss has no such matrix.
        """
        shape = self.ggn_factor_inner_shape(inputs)
        at = self._checked(inputs, mask)
        one_hot = self._replicated_one_hot(at, shape, index)
        product = self._ggn_factor(at.backend, at.inputs, one_hot)
        return self._results(at, product, inputs, root=True)

    def multiply_hessian(
        self,
        inputs: LossInputs,
        targets: Array,
        vector: LossInputs,
        mask: Array | None = None,
    ) -> Any:
        """Return the exact second derivative of `evaluate` times a vector.

        Args:
            inputs: ``[batch, ..., n]``, or a tuple of these.
            targets: As in `evaluate`.
            vector: Structured like the inputs.
            mask: Weights of the positions, ``[batch, ...]``.

        Returns:
            The product, like the vector.
        """
        at, prepared = self._with_targets(inputs, targets, mask)
        vectors = self._vectors(at, inputs, vector)
        product = self._hessian(at.backend, at.inputs, prepared, vectors)
        return self._results(at, product, inputs)

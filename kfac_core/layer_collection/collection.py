"""`LayerCollection`: the layers and losses of a model."""

from collections.abc import Mapping
from typing import Any, Self

from kfac_core.layer_collection.bias import BiasRegistrations
from kfac_core.layer_collection.bilinear import BilinearRegistrations
from kfac_core.layer_collection.checks import RegistrationChecks
from kfac_core.layer_collection.defaults import DefaultApproximations
from kfac_core.layer_collection.dense import DenseRegistrations
from kfac_core.layer_collection.grouped_convolution import GroupedRegistrations
from kfac_core.layer_collection.losses import LossRegistrations
from kfac_core.layer_collection.part_definitions import PartDefinitions
from kfac_core.layer_collection.shapes import shapes_of
from kfac_core.layer_collection.tied import TiedRegistrations
from kfac_core.layer_collection.transposed_convolution import TransposedRegistrations


class LayerCollection(
    DenseRegistrations,
    GroupedRegistrations,
    TransposedRegistrations,
    TiedRegistrations,
    BiasRegistrations,
    BilinearRegistrations,
    LossRegistrations,
    PartDefinitions,
    DefaultApproximations,
    RegistrationChecks,
):
    """The layers and losses of a model: which block covers which parameters.

    A collection is frozen, hashable, and without arrays: every method returns a new
    collection, and a method that raises changes nothing. *Sites* say where the data of
    a layer come from: they are names of the uses of layers in a model, as in
    `kfac_core.linearization`. Unlike ``tf.contrib.kfac``, there is no default
    collection and no ``finalize``.

    Every parameter belongs to one layer. A layer that is registered again, with
    ``reuse``, gets one more tower: a shard of the batch, with cases of its own. If the
    same cases use a layer several times, these uses are one tower with several sites:
    see `register_fully_connected_multi`.

    The approximation of a layer is the argument ``approx``; without it, the
    approximation of its linked parameters; and without that, the default of its kind,
    which is the first in each line:

    - ``generic``: diagonal, full
    - ``fully_connected``: kron, diagonal, kron_in_diag, kron_out_diag,
      kron_both_diag, ekfac, kronecker_optimal, tnt, shampoo, soap, foof
    - ``fully_connected_multi``: kron_indep, kron_indep_in_diag, kron_indep_out_diag,
      kron_indep_both_diag, ekfac, kronecker_optimal, tnt, shampoo, soap, foof,
      kron_series_1, kron_series_2, expand, reduce
    - ``fully_connected_partial_bias``: kron_indep, kron_indep_in_diag,
      kron_indep_out_diag, kron_indep_both_diag
    - ``embedding``: kron, kron_in_diag, kron_out_diag, kron_both_diag, ekfac,
      kronecker_optimal, tnt, shampoo, soap, foof
    - ``embedding_multi``: kron_indep, kron_indep_in_diag, kron_indep_out_diag,
      kron_indep_both_diag, ekfac, kronecker_optimal, tnt, shampoo, soap, foof, expand,
      reduce
    - ``conv1d``, ``conv2d``, ``convolution``: kron, diagonal, kron_sua, ekfac,
      kronecker_optimal, tnt, shampoo, soap, foof, expand, reduce
    - ``conv2d_multi``: kron_indep, ekfac, kronecker_optimal, tnt, shampoo, soap, foof,
      expand, reduce
    - ``depthwise_conv2d``: diagonal, kron, ekfac
    - ``grouped_convolution``: kron, ekfac
    - ``grouped_convolution_multi``: kron_indep, ekfac
    - ``transposed_convolution``: kron, kron_output_locations
    - ``transposed_convolution_multi``: kron_indep, kron_indep_output_locations
    - ``bilinear``: kron, kron_factored_inputs
    - ``tied_weights``: kron, kron_nearest, kron_mean
    - ``scale_and_shift``: full, diagonal
    - ``bias``: full, diagonal

    A layer that acts at several positions shares its weights among them, in one of two
    ways (Eschenhagen et al., 2023). ``expand`` is another name of the block that takes
    the positions to be independent, ``kron`` or ``kron_indep``; ``reduce`` pools them
    first: see `kfac_core.fisher_blocks.KFACReduceFB`. Under both names the arrays of
    one site are ``[batch, uses, ...]``, unless ``batch_first`` says otherwise.

    Attributes:
        variables: Name and shape of every parameter, in the order of the model.
        layers: The registered layers, in the order of registration.
        losses: The registered losses, in the order of registration.
        links: Sets of parameters that form one layer each, with their approximation if
            they have one.
        defaults: Default approximations that differ from the library's, by kind.
        parts: Slices of parameters that layers have as parameters of their own.

    Example:
        >>> params = {"w1": (784, 100), "b1": (100,), "w2": (100, 10)}  # or arrays
        >>> collection = LayerCollection.of(params)
        >>> collection = collection.register_fully_connected(
        ...     ("w1", "b1"), site="hidden", damping_type="exact"
        ... )
        >>> collection = collection.register_generic("w2")
        >>> collection = collection.register_softmax_cross_entropy_loss("logits")
        >>> collection.check_registration()
        >>> [layer.name for layer in collection.layers]
        ['w1+b1', 'w2']
    """

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Return the empty collection of a model.

        Args:
            params: Every parameter of the model, or its shape, by name; the order is
                kept.

        Returns:
            The collection.

        Raises:
            ArgumentError: If a name is not a string, or a value is neither an array nor
                a shape.
        """
        return cls(shapes_of(params))

"""Default approximations, by kind of layer."""

from dataclasses import replace
from typing import Self

from kfac_core.layer_collection.approximations import (
    APPROXIMATION_NAMES,
    APPROXIMATIONS,
    approximation_of,
    check_approximation,
)
from kfac_core.layer_collection.base import Registrations


class DefaultApproximations(Registrations):
    """Sets the default approximation of each kind of layer.

    Each function returns a new collection; the default holds for the registrations that
    follow. It raises `ArgumentError` if the kind has no such approximation.
    """

    def set_default_approximation(self, value: str) -> Self:
        """Set the default for all kinds of layers that have such an approximation.

        Other kinds keep their default; see `approximation_of` for shared layers.

        Args:
            value: The name, such as ``"ekfac"``.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If no kind has it.

        Example:
            >>> from kfac_core import LayerCollection
            >>> collection = LayerCollection.of({"w": (3, 2)})
            >>> dict(collection.set_default_approximation("expand").defaults)
            ... # doctest: +NORMALIZE_WHITESPACE
            {'fully_connected_multi': 'expand', 'embedding_multi': 'expand',
             'conv1d': 'expand', 'conv2d': 'expand', 'convolution': 'expand',
             'conv2d_multi': 'expand'}
        """
        check_approximation(value, APPROXIMATION_NAMES, "the default of all layers")
        collection = self
        for kind in APPROXIMATIONS:
            name = approximation_of(kind, value)
            if name is not None:
                collection = collection._set_default(kind, name)
        return collection

    def set_default_generic_approximation(self, value: str) -> Self:
        """Set the default for generic parameters."""
        return self._set_default("generic", value)

    def set_default_fully_connected_approximation(self, value: str) -> Self:
        """Set the default for fully connected layers."""
        return self._set_default("fully_connected", value)

    def set_default_fully_connected_multi_approximation(self, value: str) -> Self:
        """Set the default for shared fully connected layers."""
        return self._set_default("fully_connected_multi", value)

    def set_default_fully_connected_partial_bias_approximation(
        self, value: str
    ) -> Self:
        """Set the default for shared layers that add a bias in some uses alone."""
        return self._set_default("fully_connected_partial_bias", value)

    def set_default_embedding_approximation(self, value: str) -> Self:
        """Set the default for embeddings."""
        return self._set_default("embedding", value)

    def set_default_embedding_multi_approximation(self, value: str) -> Self:
        """Set the default for shared embeddings."""
        return self._set_default("embedding_multi", value)

    def set_default_conv1d_approximation(self, value: str) -> Self:
        """Set the default for convolutions by `register_conv1d`."""
        return self._set_default("conv1d", value)

    def set_default_conv2d_approximation(self, value: str) -> Self:
        """Set the default for convolutions by `register_conv2d`."""
        return self._set_default("conv2d", value)

    def set_default_conv2d_multi_approximation(self, value: str) -> Self:
        """Set the default for shared convolutions."""
        return self._set_default("conv2d_multi", value)

    def set_default_convolution_approximation(self, value: str) -> Self:
        """Set the default for convolutions by `register_convolution`."""
        return self._set_default("convolution", value)

    def set_default_depthwise_conv2d_approximation(self, value: str) -> Self:
        """Set the default for depthwise convolutions."""
        return self._set_default("depthwise_conv2d", value)

    def set_default_grouped_convolution_approximation(self, value: str) -> Self:
        """Set the default for grouped convolutions."""
        return self._set_default("grouped_convolution", value)

    def set_default_grouped_convolution_multi_approximation(self, value: str) -> Self:
        """Set the default for shared grouped convolutions."""
        return self._set_default("grouped_convolution_multi", value)

    def set_default_transposed_convolution_approximation(self, value: str) -> Self:
        """Set the default for transposed convolutions."""
        return self._set_default("transposed_convolution", value)

    def set_default_transposed_convolution_multi_approximation(
        self, value: str
    ) -> Self:
        """Set the default for shared transposed convolutions."""
        return self._set_default("transposed_convolution_multi", value)

    def set_default_tied_weights_approximation(self, value: str) -> Self:
        """Set the default for matrices that unlike layers share."""
        return self._set_default("tied_weights", value)

    def set_default_bilinear_approximation(self, value: str) -> Self:
        """Set the default for bilinear layers."""
        return self._set_default("bilinear", value)

    def set_default_scale_and_shift_approximation(self, value: str) -> Self:
        """Set the default for scale-and-shift layers."""
        return self._set_default("scale_and_shift", value)

    def set_default_bias_approximation(self, value: str) -> Self:
        """Set the default for biases that stand alone."""
        return self._set_default("bias", value)

    def _set_default(self, kind: str, value: str) -> Self:
        check_approximation(value, APPROXIMATIONS[kind], f"the default of {kind}")
        defaults = tuple(pair for pair in self.defaults if pair[0] != kind)
        return replace(self, defaults=(*defaults, (kind, value)))

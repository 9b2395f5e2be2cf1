"""`Factors`: the Kronecker factors of one layer, in the convention of some library."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.fisher_blocks import ForwardOnlyFB, KroneckerProductFB, KroneckerState
from kfac_core.linalg.kronecker import kron
from kfac_core.presets.conventions import convention
from kfac_core.presets.layer import Layer, layer_of
from kfac_core.presets.monomial import Counts
from kfac_core.presets.scaling import Convention, Scaling
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Scalar


@dataclass(frozen=True)
class Factors:
    """The factors of one layer as a library has them.

    Attributes:
        inputs: ``A``.
        gradients: ``G``.
        scale: What the Kronecker product is multiplied by, 0-d or a number.
        convention: Name of the convention.
        layer: The layer.
        counts: Numbers of cases ``N``, of positions ``T`` and of outputs ``C``. Where
            rows have weights, ``T`` is the sum of those of a case, on the mean: a
            number of tokens without padding. It is None for a pooled layer whose
            number is not given.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = FullyConnectedKFACBasicFB(1, 1)
        >>> x, g = np.asarray([[1.0], [2.0]]), np.asarray([[1.0], [3.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> theirs = convert(block, state, to="kronfluence, mean", num_cases=2)
        >>> theirs.inputs, theirs.gradients
        (array([[2.5]]), array([[1.25]]))
        >>> theirs.to("kfac_core").gradients
        array([[5.]])
    """

    inputs: Array
    gradients: Array
    scale: Scalar
    convention: str
    layer: Layer
    counts: Counts

    def to(self, name: str) -> Self:
        """Return the factors that another library would have.

        Args:
            name: Name of its convention.

        Returns:
            The factors.

        Raises:
            ArgumentError: If there is no such convention, or if it depends on the
                number of positions of a pooled layer, which is not given.
            UnsupportedError: If the library refuses such layers; or if its ``A`` has a
                row of the bias, or its ``G`` sees gradients, and this one's has not.
        """
        old, new = convention(self.convention), convention(name)
        if old.bias != "joint" and new.bias == "joint" and self.layer.has_bias:
            msg = (
                f"{self.layer.label}: {old.name} keeps no mean input, expected by"
                f" {new.name} beside a bias; convert from a convention with the bias in"
                " its inputs, such as 'kfac_core'"
            )
            raise UnsupportedError(msg)
        counts = self.counts
        before, after = (
            scaling_for(each, self.layer, counts[1]) for each in (old, new)
        )
        inputs = self._without_bias(old, new)
        if old.channels_first != new.channels_first:
            inputs = self._reordered(inputs, to_channels=new.channels_first)
        return replace(
            self,
            inputs=inputs * (after.inputs(*counts) / before.inputs(*counts)),
            gradients=self._gradients(before, after, name),
            scale=after.block(*counts),
            convention=name,
        )

    def dense(self) -> Array:
        """Return the block of weights and a joint bias, in the library's order."""
        backend = backend_of(self.inputs, self.gradients)
        pair = (self.inputs, self.gradients)
        if convention(self.convention).outputs_first:
            pair = pair[::-1]
        return kron(backend, *pair) * self.scale

    def _gradients(self, before: Scaling, after: Scaling, name: str) -> Array:
        """Return ``G`` as another library has it."""
        if before.gradients and after.gradients:
            ratio = after.gradients(*self.counts) / before.gradients(*self.counts)
            return self.gradients * ratio
        if before.gradients:
            like, backend = self.gradients, backend_of(self.gradients)
            eye: Array = backend.xp.eye(
                like.shape[0], dtype=like.dtype, device=backend.creation_device(like)
            )
            return eye
        if after.gradients:
            msg = (
                f"{self.layer.label}: {self.convention} keeps no gradients, expected by"
                f" {name}; convert from a convention with gradients, such as"
                " 'kfac_core'"
            )
            raise UnsupportedError(msg)
        return self.gradients

    def _without_bias(self, old: Convention, new: Convention) -> Array:
        """Return ``A`` without the row of the bias, where the other has none."""
        joint = self.layer.has_bias and old.bias == "joint" and new.bias != "joint"
        return self.inputs[:-1, :-1] if joint else self.inputs

    def _reordered(self, inputs: Array, *, to_channels: bool) -> Array:
        """Return ``A`` with patches in the other order; a last row of a bias stays."""
        backend = backend_of(inputs)
        order = self._order(backend, inputs, to_channels=to_channels)
        rows: Array = backend.xp.take(inputs, order, axis=0)
        both: Array = backend.xp.take(rows, order, axis=1)
        return both

    def _order(self, backend: Backend, inputs: Array, *, to_channels: bool) -> Array:
        xp, device = backend.xp, backend.creation_device(inputs)
        size = self.layer.places * self.layer.channels
        shape = (self.layer.places, self.layer.channels)
        places = xp.arange(inputs.shape[0], device=device)
        split = xp.reshape(places[:size], shape if to_channels else shape[::-1])
        return xp.concat([xp.reshape(split.mT, (-1,)), places[size:]])


def convert(
    block: KroneckerProductFB | ForwardOnlyFB,
    state: KroneckerState,
    *,
    to: str,
    num_cases: Scalar,
    num_outputs: Scalar = 1,
    num_positions: Scalar | None = None,
) -> Factors:
    """Return the factors that another library would have for the same data.

    Args:
        block: The block of a linear layer, a convolution or an embedding, shared or
            not; its ``A`` and ``G`` as the block has them. Or a `ForwardOnlyFB`.
        state: Its state, of gradients of the summed loss.
        to: Name of the other convention; see `CONVENTIONS`.
        num_cases: ``N``, the number of cases that the mean loss divides by.
        num_outputs: ``C``, the number of outputs of a case where the loss is a mean
            over them, as a mean squared error is; 1 for a cross entropy.
        num_positions: ``T`` of a pooled layer, a `KFACReduceFB`, whose state does not
            keep it; only conventions that divide by it, such as ``"lzhangbv"``, ask
            for it. The state of any other layer knows its own.

    Returns:
        The factors.

    Raises:
        ArgumentError: If there is no such convention, a number is not positive, or
            ``num_positions`` is missing, or given for a layer that is not pooled.
        UnsupportedError: If other libraries have no such block, or this one refuses
            such layers, or needs gradients that a `ForwardOnlyFB` has not seen.
        NotComputedError: If there are no statistics yet.
    """
    layer = layer_of(block)
    check_counts(layer.label, num_cases=num_cases, num_outputs=num_outputs)
    if num_positions is not None:
        _check_is_pooled(layer, num_positions)
    product = block._product if isinstance(block, ForwardOnlyFB) else block
    uses, mean = product._scale(backend_of(state.scale), state)
    positions = num_positions if layer.kind == "reduce" else uses * mean
    counts = (num_cases, positions, num_outputs)
    ours = ours_for(layer)
    scaling = scaling_for(ours, layer, positions)
    a, g = (
        factor.get_cov(each) * (mean if factor.form.is_mean_by_weight else 1.0)
        for factor, each in zip(product._sides, state[:2], strict=True)
    )
    # Both are sums over rows that count, divided by cases and uses; g of summed losses.
    if layer.kind == "reduce":
        g = g / mean  # no number of theirs has the mean weight, but the block has
    if scaling.gradients:
        g = g * (uses / num_cases) * scaling.gradients(*counts)
    else:
        g = product.output_factor.get_cov(state.output_factor)
    own = Factors(
        a * (uses * num_cases) * scaling.inputs(*counts),
        g,
        scaling.block(*counts),
        ours.name,
        layer,
        counts,
    )
    return own.to(to)


def _check_is_pooled(layer: Layer, num_positions: Scalar) -> None:
    check_counts(layer.label, num_positions=num_positions)
    if layer.kind != "reduce":
        msg = (
            f"{layer.label}: num_positions is {shown(num_positions)}, expected none:"
            " only a pooled layer, a KFACReduceFB, does not keep its own number; leave"
            " it out"
        )
        raise ArgumentError(msg)


def check_counts(label: str, *, or_zero: bool = False, **counts: object) -> None:
    """Check numbers, by their names.

    Raises:
        ArgumentError: If one is no number, not finite, or not positive.
    """
    for name, number in counts.items():
        given: Any = number
        try:
            fits = (given >= 0 if or_zero else given > 0) and given < math.inf
            is_fine = bool(fits) and not isinstance(given, bool)
        except (TypeError, ValueError):  # what does not compare, or has many answers
            is_fine = False
        if not is_fine:
            least = "zero or more" if or_zero else "more than zero"
            msg = f"{label}: {name} is {shown(given)}, expected {least}"
            raise ArgumentError(msg)


def ours_for(layer: Layer) -> Convention:
    """Return the convention of this library for a layer."""
    return convention(
        "kfac_core, forward-only" if layer.is_forward_only else "kfac_core"
    )


def scaling_for(each: Convention, layer: Layer, positions: Scalar | None) -> Scaling:
    """Return what a library multiplies its sums by, for a layer.

    Args:
        each: The convention of the library.
        layer: The layer.
        positions: The number of positions, None where it is not known.

    Raises:
        ArgumentError: If the number of positions is not known, and is needed.
        UnsupportedError: If the library refuses such layers.
    """
    if layer.kind not in each.scalings:
        msg = (
            f"{layer.label}: {each.name} has no factors of layers of the kind"
            f" {layer.kind!r}, only of {', '.join(map(repr, each.scalings))}"
        )
        raise UnsupportedError(msg)
    scaling = each.scalings[layer.kind]
    if positions is None and scaling.counts_positions:
        msg = (
            f"{layer.label}: the number of positions of a case is not given, and the"
            f" factors of {each.name} depend on it; give num_positions to convert, or"
            " positions to damping_like"
        )
        raise ArgumentError(msg)
    return scaling

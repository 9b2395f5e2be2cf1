"""Definition of parts: slices of a parameter that layers have as their own."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from numbers import Integral
from typing import Self

from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.parts import Part
from kfac_core.layer_collection.shapes import is_length
from kfac_core.layer_collection.sites import listed


class PartDefinitions(Registrations):
    """Cuts parameters into those of several layers."""

    def define_parts(
        self,
        param: str,
        sizes: Sequence[int] | None = None,
        *,
        axis: int = 0,
    ) -> Self:
        """Declare that a parameter is those of several layers, one after another.

        Each part is then registered as a parameter; vectors, gradients and products
        still have the whole one. Such are the projections of attention in one matrix,
        the gates of a recurrent cell, and layers that are stacked for a scan.

        Args:
            param: Name of the parameter. The parts of ``"w"`` are ``"w[0:4]"``,
                ``"w[4:12]"``; along the axis 1 ``"w[:, 0:4]"``; of a stack ``"w[0]"``.
            sizes: Lengths of the parts along the axis. None: the parameter is a stack
                of arrays, which are the parts; they lack the axis.
            axis: The axis that is cut.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If the name or the axis is unknown, or the sizes are not
                positive integers whose sum is the length of the axis.
            RegistrationError: If the parameter is registered, linked or cut already.

        Example:
            >>> from kfac_core import LayerCollection
            >>> collection = LayerCollection.of({"qkv": (12, 4), "stack": (2, 4, 3)})
            >>> collection = collection.define_parts("qkv", (4, 8))
            >>> list(collection.define_parts("stack").shapes)
            ['qkv[0:4]', 'qkv[4:12]', 'stack[0]', 'stack[1]']
        """
        names, label = self._named(param)
        whole = dict(self.variables)
        if len(names) > 1 or names[0] not in whole:
            msg = f"{label}: param is {listed(names)}, expected one of {listed(whole)}"
            raise ArgumentError(msg)
        shape = whole[names[0]]
        place: object = axis
        if not is_length(place) or axis >= len(shape):
            msg = (
                f"{label}: axis is {axis!r}, expected one of the {len(shape)} axes of"
                f" the shape {shape}"
            )
            raise ArgumentError(msg)
        lengths = (1,) * shape[axis] if sizes is None else sizes
        given: object = lengths
        fits = isinstance(given, tuple | list) and all(
            isinstance(n, Integral) and is_length(n) and int(n) > 0 for n in given
        )
        if not fits or sum(lengths) != shape[axis] or not lengths:
            msg = (
                f"{label}: sizes is {sizes!r}, expected positive integers whose sum is"
                f" {shape[axis]}, the length of the axis {axis}"
            )
            raise ArgumentError(msg)
        self._check_free(names, label)
        if any(names[0] in group for group, _ in self.links):
            msg = f"{label}: the parameter is linked, and so cannot be cut into parts"
            raise RegistrationError(msg)
        before = ":, " * axis
        ends = tuple(accumulate(map(int, lengths)))
        parts = tuple(
            Part(
                f"{names[0]}[{before}{start}{'' if sizes is None else f':{stop}'}]",
                names[0],
                int(axis),
                start,
                stop,
                sizes is None,
            )
            for start, stop in zip((0, *ends), ends, strict=False)
        )
        if taken := [part.name for part in parts if part.name in self.shapes]:
            msg = f"{label}: there are parameters named {listed(taken)} already"
            raise RegistrationError(msg)
        return replace(self, parts=(*self.parts, *parts))

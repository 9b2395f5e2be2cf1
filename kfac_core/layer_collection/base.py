"""What a `LayerCollection` holds, and how a layer is registered in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection.approximations import (
    APPROXIMATION_NAMES,
    APPROXIMATIONS,
    check_approximation,
)
from kfac_core.layer_collection.parts import Part
from kfac_core.layer_collection.records import (
    LayerRegistration,
    LossRegistration,
    ParamNames,
    check_block,
    check_collection,
    check_same_block,
)
from kfac_core.layer_collection.shapes import Shape, check_bias, check_weight_axes
from kfac_core.layer_collection.sites import (
    Names,
    Reuse,
    Sites,
    Tower,
    as_names,
    as_sites,
    check_name,
    check_reuse,
    listed,
)


@dataclass(frozen=True)
class Registrations:
    """The fields of a `LayerCollection`, and what all registrations share."""

    variables: tuple[tuple[str, Shape], ...]
    layers: tuple[LayerRegistration, ...] = ()
    losses: tuple[LossRegistration, ...] = ()
    links: tuple[tuple[frozenset[str], str | None], ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        """Check the form of the fields, which functions make."""
        check_collection(self)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of all that layers can be registered with, by name.

        Those are the parameters of the model; of one that is cut, its parts.
        """
        whole = dict(self.variables)
        if not self.parts:
            return whole
        shapes = {part.name: part.shape(whole[part.param]) for part in self.parts}
        cut = {part.param for part in self.parts}
        return {name: x for name, x in whole.items() if name not in cut} | shapes

    @property
    def registered_variables(self) -> tuple[str, ...]:
        """Names of the parameters that a layer covers, in the order of the layers."""
        return tuple(name for layer in self.layers for name in layer.params)

    @property
    def linked_parameters(self) -> dict[frozenset[str], str | None]:
        """The linked sets of parameters, each with its approximation or None."""
        return dict(self.links)

    @property
    def total_num_uses(self) -> dict[str, float]:
        """Number of uses of each registered parameter in all towers; infinite: any.

        A single site whose array holds all uses, one after another, counts as one.
        """
        return {name: layer.num_uses for layer in self.layers for name in layer.params}

    def register_block(
        self,
        params: Names,
        block: FisherBlock[Any],
        site: Sites = None,
        reuse: Reuse = False,
    ) -> Self:
        """Register a layer with a block of the caller's own.

        Args:
            params: Name of the layer's parameter, or names of its weights and its bias.
            block: Spec of the layer's block. If it has no name, it gets the joined
                names of the parameters.
            site: The site of its use; or a tuple of sites, the uses of one tower; or
                None, if the block takes the gradients for the parameters themselves.
            reuse: False: the parameters must be new; True: they must be registered with
                an equal block, and `site` is one more tower of the layer, a shard of
                the batch with cases of its own; ``"auto"``: either.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If a name is unknown, or an argument has an unknown form.
            RegistrationError: If the parameters overlap with those of another layer or
                linked group, if a site is taken, or if `reuse` does not hold.
        """
        names, label = self._named(params, getattr(block, "name", None))
        check_block(block, label)
        tower = as_sites(site, label)
        check_reuse(reuse, label)
        layer = next((layer for layer in self.layers if layer.params == names), None)
        if layer is None:
            if reuse is True:
                msg = (
                    f"{label}: reuse is True, but the parameters {listed(names)} are"
                    " not registered; register them with reuse=False first, or 'auto'"
                )
                raise RegistrationError(msg)
            self._check_free(names, label)
            self._check_sites(tower, label)
            named = block if block.name else replace(block, name=label)
            new = LayerRegistration(names, named, (tower,) if tower else ())
            return replace(self, layers=(*self.layers, new))
        if reuse is False:
            msg = (
                f"{label}: the parameters {listed(names)} are registered already, as"
                f" {layer.name} with the sites {listed(layer.sites)}. For one more"
                " shard (tower) of the batch, other cases than there, give reuse=True;"
                " for one more use by the same cases, register all uses as one tower"
                " instead, by a tuple of their sites, with a function whose name ends"
                " in _multi"
            )
            raise RegistrationError(msg)
        check_same_block(layer, block, tower, label)
        self._check_sites(tower, label)
        towers = (*layer.towers, tower) if tower else ()
        grown = replace(layer, towers=towers)
        return replace(
            self, layers=tuple(grown if x is layer else x for x in self.layers)
        )

    def define_linked_parameters(
        self, params: Names, approximation: str | None = None
    ) -> Self:
        """Declare that parameters belong to one layer.

        They can then be registered only together. A registration without an
        approximation takes `approximation`.

        Args:
            params: Names of the parameters, in any order.
            approximation: Name of an approximation, or None for the default.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If a name or the approximation is unknown.
            RegistrationError: If a parameter is linked already, or registered with
                other parameters.
        """
        names, label = self._named(params)
        group = frozenset(names)
        if approximation is not None:
            what = f"{label}: approximation"
            check_approximation(approximation, APPROXIMATION_NAMES, what)
        for other, _ in self.links:
            if shared := group & other:
                msg = (
                    f"{label}: the parameters {listed(sorted(shared))} are linked"
                    f" already, with {listed(sorted(other))}"
                )
                raise RegistrationError(msg)
        for layer in self.layers:
            shared = group.intersection(layer.params)
            if shared and group != set(layer.params):
                msg = (
                    f"{label}: the parameters {listed(sorted(shared))} are registered"
                    f" already, in {layer.name} of {listed(layer.params)}; link the"
                    " same parameters, or register others"
                )
                raise RegistrationError(msg)
        return replace(self, links=(*self.links, (group, approximation)))

    def _register(
        self,
        kind: str,
        names: ParamNames,
        site: Sites,
        made: Mapping[str, Any],
        approx: str | None,
        reuse: Reuse,
        label: str,
        options: Mapping[str, Any],
    ) -> Self:
        """Register a layer of some kind.

        Args:
            kind: A key of `APPROXIMATIONS`.
            names: Names of the layer's parameters.
            site: As in `register_block`.
            made: Fields of its block that the registration makes.
            approx: Name of the approximation, as users give it.
            reuse: As in `register_block`.
            label: Name of the layer.
            options: Further fields of its block, from the user.

        Returns:
            The new collection.
        """
        approximations = APPROXIMATIONS[kind]
        what = "approx"
        if approx is None:
            approx = self.linked_parameters.get(frozenset(names))
            what = "the approximation of the linked parameters"
        if approx is None:
            approx = dict(self.defaults).get(kind, next(iter(approximations)))
        check_approximation(approx, approximations, f"{label}: {what}")
        block = approximations[approx].make(label, made, options)
        return self.register_block(names, block, site, reuse)

    def _weights(
        self,
        names: ParamNames,
        axes: tuple[str, ...],
        label: str,
        layout: str,
        places: tuple[int, ...],
        output_axes: int = 1,
    ) -> tuple[Shape, bool]:
        """Return the weights' shape in our order, and whether there is a bias.

        Args:
            names: Names of the layer's parameters.
            axes: Names of the axes that the weights must have, in our order.
            label: Name of the layer, for the messages.
            layout: Name of the weights' layout, for the messages.
            places: For each of `axes`, its place in the weights as they lie.
            output_axes: Number of axes, from the last, that belong to the outputs; if
                zero, there can be no bias.

        Returns:
            The shape, and whether there is a bias.

        Raises:
            ArgumentError: If there are further parameters.
            ShapeError: If a shape does not fit weights or a bias.
        """
        if len(names) > (2 if output_axes else 1):
            wanted = "weights, or weights and a bias" if output_axes else "weights"
            msg = f"{label}: params are {listed(names)}, expected {wanted} alone"
            raise ArgumentError(msg)
        shapes = [self.shapes[name] for name in names]
        as_laid = tuple(axes[places.index(i)] for i in range(len(axes)))
        check_weight_axes(names[0], shapes[0], as_laid, label, layout)
        shape = tuple(shapes[0][i] for i in places)
        if len(names) == 2:
            outputs = math.prod(shape[-output_axes:])
            check_bias(names[1], shapes[1], outputs, label)
        return shape, len(names) == 2

    def _named(self, params: Names, name: str | None = None) -> tuple[ParamNames, str]:
        """Return the names of known parameters, each once, and the layer's name."""
        check_name(name, "the layer")
        label = name or "the layer"
        names, known = as_names(params), self.shapes
        if not names:
            given: object = params
            got = listed(()) if isinstance(given, Sequence) else repr(given)
            msg = f"{label}: params is {got}, expected a name, or a tuple of names"
            raise ArgumentError(msg)
        if unknown := [x for x in names if not isinstance(x, str) or x not in known]:
            msg = (
                f"{label}: params has {listed(unknown)}, which the collection has not,"
                f" expected some of {listed(known)}"
            )
            raise ArgumentError(msg)
        if len(set(names)) != len(names):
            msg = f"{label}: params are {listed(names)}, expected names, each once"
            raise ArgumentError(msg)
        return names, name or default_name(names)

    def _check_free(self, names: ParamNames, label: str) -> None:
        """Check that no name or parameter belongs to another layer, or is linked."""
        for layer in self.layers:
            if shared := [name for name in names if name in layer.params]:
                msg = (
                    f"{label}: the parameters {listed(shared)} are registered already,"
                    f" in {layer.name} of {listed(layer.params)}; every parameter"
                    " belongs to one layer, under one tuple of names"
                )
                raise RegistrationError(msg)
            if layer.name == label:
                msg = (
                    f"{label}: the layer of {listed(layer.params)} has this name"
                    f" already; give that of {listed(names)} another"
                )
                raise RegistrationError(msg)
        for group, _ in self.links:
            if group.intersection(names) and group != set(names):
                msg = (
                    f"{label}: params are {listed(names)}, but"
                    f" {listed(sorted(group))} are linked; register these as one layer"
                )
                raise RegistrationError(msg)

    def _check_sites(self, tower: Tower, label: str) -> None:
        """Check that no site is taken: each is one use of one layer."""
        for layer in self.layers:
            if taken := [site for site in tower if site in layer.sites]:
                msg = (
                    f"{label}: the sites {listed(taken)} are those of {layer.name}"
                    " already; a site is one use of one layer"
                )
                raise RegistrationError(msg)


def default_name(names: ParamNames) -> str:
    """Return the default name of a layer."""
    return "+".join(names)

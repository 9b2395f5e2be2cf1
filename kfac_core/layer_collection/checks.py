"""The check that a collection covers each parameter of a model once."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.shapes import Shape, is_length, shapes_of


class RegistrationChecks(Registrations):
    """Checks a collection against a model."""

    def check_registration(
        self,
        variables: Mapping[str, Any] | None = None,
        uses: Mapping[str, int] | None = None,
    ) -> None:
        """Check that every parameter is covered, and that there is a loss.

        A registration itself checks that no two layers share a parameter.

        Args:
            variables: The model's parameters, or their shapes, by name; by default
                those that the collection was made with.
            uses: How often the model uses a parameter, by name, where that is known;
                see `total_num_uses`.

        Raises:
            ArgumentError: If an argument is not such a mapping.
            RegistrationError: If something is wrong; the message names all problems.
        """
        shapes = self.shapes
        if variables is not None:
            shapes = self._with_parts(dict(shapes_of(variables, "variables")))
        problems = [
            *self._coverage_problems(shapes),
            *self._use_problems({} if uses is None else _numbers(uses)),
        ]
        if not self.losses:
            problems.append("no loss is registered; call a register_..._loss function")
        if problems:
            listed = "".join(f"\n- {problem}" for problem in problems)
            msg = f"the collection does not fit the model:{listed}"
            raise RegistrationError(msg)

    def _with_parts(self, shapes: dict[str, Shape]) -> dict[str, Shape]:
        """Return shapes with those of parts, where these fill their parameter."""
        own = dict(self.variables)
        cut = {part.param for part in self.parts if part.param in shapes}
        cut = {name for name in cut if shapes[name] == own[name]}
        found = {n: x for n, x in shapes.items() if n not in cut}
        parts = (part for part in self.parts if part.param in cut)
        return found | {part.name: part.shape(own[part.param]) for part in parts}

    def _coverage_problems(self, shapes: Mapping[str, Shape]) -> Iterator[str]:
        """Yield the differences between the registered and the model's parameters."""
        own = self.shapes
        registered = {name: layer for layer in self.layers for name in layer.params}
        for name, shape in shapes.items():
            if name not in registered:
                yield (
                    f"no layer covers the parameter {name!r} of shape {shape}; register"
                    " it, with register_generic if nothing else fits"
                )
            elif own[name] != shape:
                yield (
                    f"the parameter {name!r} has shape {shape}, but {own[name]} in the"
                    f" collection, where {registered[name].name} covers it"
                )
        for name, layer in registered.items():
            if name not in shapes:
                yield (
                    f"{layer.name} covers the parameter {name!r}, but the model has no"
                    " such parameter"
                )

    def _use_problems(self, uses: Mapping[str, int]) -> Iterator[str]:
        """Yield what is wrong with the numbers of uses."""
        registered = self.total_num_uses
        for name, number in uses.items():
            given = registered.get(name, math.inf)
            if name not in self.shapes:
                yield f"uses are given of {name!r}, but there is no such parameter"
            elif math.isfinite(given) and given != number:
                yield (
                    f"the model uses the parameter {name!r} {number} times, but it is"
                    f" registered for {given}: one for each site of each tower"
                )


def _numbers(uses: object) -> Mapping[str, int]:
    """Check numbers of uses, none of which may be below zero, and return them."""
    numbers = uses.values() if isinstance(uses, Mapping) else [None]
    if not all(map(is_length, numbers)):
        msg = f"uses is {uses!r}, expected a mapping from name to a number of uses"
        raise ArgumentError(msg)
    return uses  # type: ignore[return-value]

"""`Part`: a slice of a parameter that a layer has as a parameter of its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfac_core.backend import Backend
from kfac_core.layer_collection.shapes import Shape
from kfac_core.typing import Array


@dataclass(frozen=True)
class Part:
    """A slice of a parameter along one axis.

    Attributes:
        name: Name, which no parameter and no other part has.
        param: Name of the parameter.
        axis: The axis that is cut.
        start: The first index of the slice.
        stop: The index after its last.
        is_stacked: Whether the part is without this axis, being of length one.
    """

    name: str
    param: str
    axis: int
    start: int
    stop: int
    is_stacked: bool = False

    def of(self, array: Array) -> Array:
        """Return this part of the parameter, or of a gradient of it."""
        place: Any = self.start if self.is_stacked else slice(self.start, self.stop)
        rest = (slice(None),) * (array.ndim - self.axis - 1)
        part: Array = array[(slice(None),) * self.axis + (place, *rest)]
        return part

    def shape(self, whole: Shape) -> Shape:
        """Return its shape, from that of the parameter."""
        own = () if self.is_stacked else (self.stop - self.start,)
        return whole[: self.axis] + own + whole[self.axis + 1 :]


def owners(parts: Iterable[Part], names: Iterable[str]) -> tuple[str, ...]:
    """Return the parameters that some parts and parameters are of, each once."""
    whole = {part.name: part.param for part in parts}
    return tuple(dict.fromkeys(whole.get(name, name) for name in names))


def with_parts(parts: Iterable[Part], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return arrays by the names of parameters, with those of all parts beside them."""
    found = {part.name: part.of(named[part.param]) for part in parts}
    return {**named, **found} if found else named


def whole_params(
    backend: Backend, parts: Sequence[Part], named: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the arrays of whole parameters.

    Args:
        backend: Backend of the arrays.
        parts: The parts, those of a parameter in order.
        named: An array for each part, and for each parameter without parts.

    Returns:
        The arrays by the names of parameters.
    """
    by_param: dict[str, list[Part]] = {}
    for part in parts:
        by_param.setdefault(part.param, []).append(part)
    names = {part.name for part in parts}
    found = {name: array for name, array in named.items() if name not in names}
    for param, own in by_param.items():
        arrays = [named[part.name] for part in own]
        join = backend.xp.stack if own[0].is_stacked else backend.xp.concat
        found[param] = join(arrays, axis=own[0].axis)
    return found

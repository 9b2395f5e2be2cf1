"""Weights that a model makes of a length and a direction, ``W = g v / |v|``.

The layer has the Fisher of ``W``. Length and direction are another chart of the same
weight: as many numbers, but for the length of ``v``, which changes nothing. So their
gradients tell all of that for ``W``, and each change of ``W`` is one of theirs. K-FAC
is taken in ``W``, its damping too, as if there was no such chart.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from kfac_adapters.torch.matrices import Matrix
from kfac_adapters.torch.views import View

if TYPE_CHECKING:
    from kfac_adapters.torch.record import Record


class Made(NamedTuple):
    """A weight of `torch.nn.utils.parametrizations.weight_norm`, old or new.

    Attributes:
        name: Name of the weight.
        length: Name of ``g``.
        direction: Name of ``v``.
        axis: The axis of ``W`` whose entries have a length each; -1: all have one.
    """

    name: str
    length: str
    direction: str
    axis: int

    @property
    def maker(self) -> str:
        """What made it, for messages."""
        return "_weight_norm"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parameters that it is made of."""
        return self.length, self.direction

    def weight(self, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``W``, without a graph."""
        g, v = self._arrays(params)
        made: torch.Tensor = torch._weight_norm(v, g, self.axis)
        return made

    def seen(
        self, params: Mapping[str, torch.Tensor], gradient: torch.Tensor
    ) -> torch.Tensor:
        """Return what `gradient` returns where ``W`` has a gradient."""
        g, _ = self._arrays(params)
        of_length = self.steps(params, gradient)[self.length]
        across = self._across(self._unit(params), gradient)
        return self._unit(params) * of_length + torch.where(g == 0, 0.0, across)

    def gradient(
        self,
        params: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor | None],
    ) -> torch.Tensor | None:
        """Return the gradient for ``W`` that length and direction have got theirs of.

        Args:
            params: The parameters.
            gradients: Their gradients.

        Returns:
            ``u dg + |v| / g P dv``, with the unit direction ``u = v / |v|`` and the
            projection ``P`` across it; None if neither has one.
        """
        dg, dv = gradients.get(self.length), gradients.get(self.direction)
        if dg is None and dv is None:
            return None
        g, v = self._arrays(params)
        unit, ratio = self._unit(params), self._ratio(params)
        dg = torch.zeros_like(g) if dg is None else dg
        dv = torch.zeros_like(v) if dv is None else dv
        return unit * dg + ratio * self._across(unit, dv)

    def steps(
        self, params: Mapping[str, torch.Tensor], step: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the steps of length and direction that are a step of ``W``.

        That of the direction is across it. Products with gradients stay as they are:
        ``<step, dW> = <step_g, dg> + <step_v, dv>``.
        """
        g, _ = self._arrays(params)
        unit, ratio = self._unit(params), self._ratio(params)
        along = self._summed(unit * step).reshape(g.shape)
        return {self.length: along, self.direction: ratio * self._across(unit, step)}

    def _arrays(
        self, params: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return params[self.length].detach(), params[self.direction].detach()

    def _unit(self, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        _, v = self._arrays(params)
        return v / self._summed(v * v).sqrt()

    def _summed(self, x: torch.Tensor) -> torch.Tensor:
        if self.axis == -1:
            return x.sum()
        axes = [i for i in range(x.ndim) if i != self.axis]
        return x.sum(axes, keepdim=True) if axes else x

    def _ratio(self, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``|v| / g``; zero where nothing has a length, nor so a direction."""
        g, v = self._arrays(params)
        size = self._summed(v * v).sqrt()
        return torch.where(g == 0, 0.0, size / torch.where(g == 0, 1.0, g))

    def _across(self, unit: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x - unit * self._summed(unit * x)


MadeWeight: TypeAlias = Made | Matrix
"""A weight that layers have in place of the parameters that it is made of."""


def weight_normed(func: Any, args: Any, views: Mapping[int, View]) -> Made | None:
    """Return the weight that a function makes of two whole parameters; else None."""
    if func is not torch._weight_norm or len(args) not in (2, 3):
        return None
    v, g = views.get(id(args[0])), views.get(id(args[1]))
    if v is None or g is None or v != View(v.name) or g != View(g.name):
        return None
    plain = v.name.replace("parametrizations.", "")
    plain = plain.removesuffix(".original1").removesuffix("_v")
    name = plain if plain != v.name else f"{v.name}, {g.name}"
    return Made(name, g.name, v.name, int(args[2]) if len(args) == 3 else 0)


def with_made(
    made: Iterable[MadeWeight], params: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return parameters by name, with the weights in the places of their parts."""
    found = dict(params)
    for own in made:
        for name in own.parts:
            del found[name]
        found[own.name] = own.weight(params)
    return found


def unmade(record: "Record", left: Mapping[str, str]) -> bool:
    """Let go of weights that are no layer's: of their parts something else is said.

    Args:
        record: What a pass did; changed in place.
        left: For each parameter that no layer covers, why.

    Returns:
        Whether there was one.
    """
    found = False
    for own in [*record.made.values()]:
        why = [left[own.name]] if own.name in left else []
        why += [
            f"used by {record.elsewhere[x]}" for x in own.parts if x in record.elsewhere
        ]
        if why:
            found = True
            del record.made[own.name]
            for x in own.parts:
                record.elsewhere[x] = f"{own.maker}, whose result {why[0]}"
    return found

"""`Use`: one place in a function where a parameter meets data."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import jax

from kfac_adapters.jax.forms import Form
from kfac_adapters.jax.parts import Part
from kfac_adapters.jax.views import View, whole


@dataclass(frozen=True)
class Leaf:
    """A value that is a parameter, or a part of one, but for its layout.

    Attributes:
        part: Which parameter, or part.
        shape: Shape of the part.
        view: How the value lies.
        reversed: The atoms of the view that run backwards, by their places.
    """

    part: Part
    shape: tuple[int, ...]
    view: View
    reversed: frozenset[tuple[int, ...]] = frozenset()

    def turned(self, axes: Iterable[int]) -> "Leaf | None":
        """Return the value with some axes reversed; None if one is cut into parts."""
        places = set(self.reversed)
        for axis in axes:
            atoms = self.view.axes[axis]
            if len(atoms) > 1 or any(len(atom.place) > 1 for atom in atoms):
                return None
            places ^= {atom.place for atom in atoms if atom.real}
        return replace(self, reversed=frozenset(places))

    def cut(self, axis: int, start: int, stop: int) -> "Leaf | None":
        """Return a slice of the value; None if it is no part of the parameter.

        Args:
            axis: Axis of the value.
            start: The first index.
            stop: The index after the last.
        """
        atoms = self.view.axes[axis]
        size = math.prod(atom.size for atom in atoms)
        if stop - start == size:
            return self
        whole_first = atoms and atoms[0].real and not any(atoms[0].place[1:])
        if not whole_first or self.reversed:
            return None
        first, *others = atoms
        own = first.place[0]
        rest = size // first.size  # of this axis, beside the first atom
        if start % rest or stop % rest:
            return None
        low, high = start // rest, stop // rest
        stride = self.shape[own] // first.size
        shape = list(self.shape)
        shape[own] = (high - low) * stride
        kept = () if high - low == 1 else (first._replace(size=high - low),)
        axes = list(self.view.axes)
        axes[axis] = (*kept, *others)
        part = self.part.within(own, low * stride, high * stride)
        return Leaf(part, tuple(shape), View(tuple(axes)))

    def stacked(self, number: int = 0) -> "Leaf | None":
        """Return one of the values that are stacked along the first axis."""
        found = self.cut(0, number, number + 1)
        return found and replace(found, view=View(found.view.axes[1:]))


def leaf_of(part: Part, shape: tuple[int, ...]) -> Leaf:
    """Return a whole parameter as a value."""
    return Leaf(part, shape, whole(shape))


@dataclass(frozen=True)
class Output:
    """A value that is the output of a use, but for its layout.

    Attributes:
        site: Site of the use.
        view: How the value lies.
    """

    site: str
    view: View


@dataclass(frozen=True)
class Use(ABC):
    """One operation between a parameter and data.

    Attributes:
        site: Its name: the place in the jaxpr.
        leaf: Which parameter, or part of one.
        form: The parameter as the core takes it.
        shape: Shape of the output.
        dtype: Dtype of the output.
        features: Axes of the output that come from the parameter, in the order in which
            the core has them.
        operand: Which operand of the operation holds the data.
        lead: Number of leading axes of data and output that count repetitions, as by
            `jax.lax.scan`; `features` are of the axes after them.
    """

    site: str
    leaf: Part
    form: Form
    shape: tuple[int, ...]
    dtype: Any
    features: tuple[int, ...]
    operand: int
    lead: int = field(default=0, kw_only=True)

    kind: ClassVar[str]
    """What the use is called."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Sizes of the axes of the output that are not the parameter's."""
        return (*self.shape[: self.lead], *self._once._rows)

    def inputs(self, operand: Any) -> Any:
        """Return the data as a block takes inputs, ``[*rows, ...]``."""
        return self._mapped(self._once._inputs)(operand)

    def gradients(self, output: Any) -> Any:
        """Return gradients as a block takes them, ``[*rows, ...]``."""
        return self._mapped(self._once._gradients)(output)

    def repeated(self, times: int) -> Self:
        """Return the use as one that is repeated, along a new first axis."""
        return replace(self, shape=(times, *self.shape), lead=self.lead + 1)

    @abstractmethod
    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return the gradient for the parameter that rows stand for, in its form.

        Args:
            inputs: What `inputs` returns.
            gradients: What `gradients` returns.
        """

    def bias_gradient(self, gradients: Any, form: Form) -> Any:
        """Return the gradient for a bias of this form, added to the output."""
        return gradients.reshape(-1, *form.shape).sum(axis=0)

    @property
    def _once(self) -> Self:
        """The use without repetitions."""
        return replace(self, shape=self.shape[self.lead :], lead=0)

    def _mapped(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        for _ in range(self.lead):
            function = jax.vmap(function)
        return function

    @property
    def _rows(self) -> tuple[int, ...]:
        """Sizes of the axes of rows, of one repetition."""
        return tuple(n for i, n in enumerate(self.shape) if i not in self.features)

    @abstractmethod
    def _inputs(self, operand: Any) -> Any:
        """Return the inputs of one repetition."""

    @abstractmethod
    def _gradients(self, output: Any) -> Any:
        """Return the gradients of one repetition."""

    def is_like(self, other: "Use") -> bool:
        """Return whether another use is this one, perhaps for another batch."""
        mine, its = ((type(u), u.site, u.leaf, u.form) for u in (self, other))
        return mine == its

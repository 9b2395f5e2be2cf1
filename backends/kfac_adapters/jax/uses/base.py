"""`Use`: one place in a function where a parameter meets data."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from kfac_adapters.jax.forms import Form
from kfac_adapters.jax.parts import Part
from kfac_adapters.jax.views import KEEPING, View, moved, whole


@dataclass(frozen=True)
class Leaf:
    """A value that is a parameter, or a part of one, but for its layout.

    Attributes:
        part: Which parameter, or part.
        shape: Shape of the part.
        view: How the value lies.
        reversed: The atoms of the view that run backwards, by their places.
        scales: Factors of the derivative of the entries by those of the parameter, each
            a number or of the rank of the value; see `kfac_adapters.jax.alone`.
        steps: The operations that made the value of the parameter alone.
        others: Other parameters that the value is a product with, in its axes.
        is_mixed: Whether a function of several entries, as a norm, is a factor, too.
    """

    part: Part
    shape: tuple[int, ...]
    view: View
    reversed: frozenset[tuple[int, ...]] = frozenset()
    scales: tuple[Any, ...] = field(default=(), compare=False)
    steps: tuple[str, ...] = ()
    others: tuple["Leaf", ...] = ()
    is_mixed: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether an entry is made of more than one of the parameter."""
        return self.is_mixed or bool(self.others)

    @property
    def leaves(self) -> tuple[int, ...]:
        """Indices of the parameters that it is made of."""
        return (self.part.leaf, *(own.part.leaf for own in self.others))

    def moved(self, name: str, params: Any, bound: Callable[[Any], Any]) -> Self | None:
        """Return the value after an operation of layout; None if it is no view.

        Args:
            name: Name of the primitive.
            params: Its parameters.
            bound: Takes a value to the result.
        """
        view = moved(self.view, name, params)
        others = [own.moved(name, params, bound) for own in self.others]
        if view is None or None in others:
            return None
        scales = self.scales if name in KEEPING else self._scales_after(name, bound)
        kept: Any = tuple(others)
        return replace(self, view=view, scales=scales, others=kept)

    def _scales_after(self, name: str, bound: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Return the factors after an operation of layout."""
        rank, shape = len(self.view.axes), self.view.shape
        found = []
        for scale in map(jnp.asarray, self.scales):
            if scale.ndim == 0:
                found.append(scale)
                continue
            own = scale.reshape((1,) * (rank - scale.ndim) + scale.shape)
            # Axes of size one stay so where they only move.
            is_whole = name in ("reshape", "broadcast_in_dim", "tile")
            found.append(bound(jnp.broadcast_to(own, shape) if is_whole else own))
        return tuple(found)

    def times(self, factor: float, step: str) -> "Leaf":
        """Return the value times a number, by an operation."""
        scales = (*self.scales, jnp.asarray(factor))
        return replace(self, scales=scales, steps=(*self.steps, step))

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
        if not whole_first or self.reversed or self.is_joint:
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
        scales = tuple(_sliced(own, axis, start, stop) for own in self.scales)
        view = View(tuple(axes))
        return Leaf(part, tuple(shape), view, scales=scales, steps=self.steps)

    def stacked(self, number: int = 0) -> "Leaf | None":
        """Return one of the values that are stacked along the first axis."""
        found = self.cut(0, number, number + 1)
        return found and found.without(0)

    def without(self, axis: int) -> "Leaf":
        """Return the value without an axis of size one."""
        axes = tuple(a for i, a in enumerate(self.view.axes) if i != axis)
        scales = tuple(
            own if jnp.ndim(own) == 0 else jnp.squeeze(own, axis) for own in self.scales
        )
        return replace(self, view=View(axes), scales=scales)


def _sliced(scale: Any, axis: int, start: int, stop: int) -> Any:
    """Return the factors of a slice."""
    if jnp.ndim(scale) == 0 or scale.shape[axis] == 1:
        return scale
    return jax.lax.slice_in_dim(scale, start, stop, axis=axis)


def leaf_of(part: Part, shape: tuple[int, ...]) -> Leaf:
    """Return a whole parameter as a value."""
    return Leaf(part, shape, whole(shape))


@dataclass(frozen=True)
class Output:
    """A value that is the output of a use, but for its layout.

    Attributes:
        site: Site of the use.
        view: How the value lies.
        is_free: Whether no data went in: it is of parameters and constants alone.
    """

    site: str
    view: View
    is_free: bool = False


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
        chart: What the weight is made of, if it is not the parameter itself; see
            `kfac_adapters.jax.charts`.
    """

    site: str
    leaf: Part
    form: Form
    shape: tuple[int, ...]
    dtype: Any
    features: tuple[int, ...]
    operand: int
    lead: int = field(default=0, kw_only=True)
    chart: Any = field(default=None, kw_only=True)

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

    def counts(self, operand: Any) -> Any:
        """Return how much each row counts, as far as the data say it, ``[*rows]``."""
        return jnp.ones(self.rows, operand.dtype)

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

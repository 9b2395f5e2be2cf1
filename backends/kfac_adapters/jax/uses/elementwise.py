"""Scales and shifts: ``mul`` and ``add`` of data and a parameter, broadcast."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from kfac_adapters.jax.forms import Form, form_of
from kfac_adapters.jax.uses.base import Leaf, Output, Use
from kfac_adapters.jax.views import View


@dataclass(frozen=True)
class Elementwise(Use):
    """Abstract base: a parameter and data, entry by entry.

    Attributes:
        fixed: How many leading axes of the output the parameter is broadcast along.
    """

    fixed: int

    @property
    def _rows(self) -> tuple[int, ...]:
        """Sizes of the leading axes along which the parameter is broadcast."""
        return self.shape[: self.fixed]

    def _inputs(self, operand: Any) -> Any:
        """Return the data in the shape of the output."""
        return jnp.broadcast_to(operand, self.shape)

    def _gradients(self, output: Any) -> Any:
        """Return the gradients as they are."""
        return output

    def bias_gradient(self, gradients: Any, form: Form) -> Any:
        """Return the gradient for a shift of this form, added to the output."""
        return _summed(gradients, form)


@dataclass(frozen=True)
class Scale(Elementwise):
    """A product of entries."""

    kind: ClassVar[str] = "scale"

    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return the sum of ``x g``."""
        return _summed(inputs * gradients, self.form)


@dataclass(frozen=True)
class Shift(Elementwise):
    """A sum of entries.

    Attributes:
        after: The site of the use to whose features it is added, if there is one.
        bias_form: The parameter as the bias of that, ``[features]``.
    """

    after: str | None = None
    bias_form: Form | None = None

    kind: ClassVar[str] = "shift"

    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return the sum of ``g``."""
        return _summed(gradients, self.form)


def elementwise(
    make: type[Scale] | type[Shift],
    site: str,
    which: int,
    leaf: Leaf,
    output: Any,
) -> Scale | Shift:
    """Return the use of a parameter by ``mul`` or ``add``.

    Args:
        make: Which of the two.
        site: Name of the place.
        which: Which operand is the parameter.
        leaf: The parameter.
        output: Something of the shape and dtype of the output.

    Returns:
        The use.
    """
    view = leaf.view
    own = [any(atom.real for atom in axis) for axis in view.axes]
    fixed = own.index(True) if any(own) else len(own)
    sizes = [
        size if is_own else 1 for size, is_own in zip(view.shape, own, strict=True)
    ]
    return make(
        site,
        leaf.part,
        form_of(leaf.shape, view.real, tuple(sizes[fixed:]) or (1,)),
        tuple(output.shape),
        output.dtype,
        tuple(i for i, is_own in enumerate(own) if is_own),
        1 - which,
        fixed,
    )


def is_separate(view: View) -> bool:
    """Return whether no axis mixes what is a parameter's with what is broadcast."""
    return all(len({atom.real for atom in axis}) <= 1 for axis in view.axes)


def bias_form(leaf: Leaf, output: Output, use: Use) -> Form | None:
    """Return a parameter as the bias of a use's features.

    Args:
        leaf: What is added.
        output: What it is added to.
        use: Whose output that is.

    Returns:
        The form ``[features]``; None if the parameter is broadcast along a part of the
        features, or differs along other axes.
    """
    by_place: list[tuple[list[Any], list[Any]]] = []
    for own, others in zip(leaf.view.axes, output.view.axes, strict=True):
        of_leaf = [atom for atom in own if atom.real]
        is_feature = [atom.place[0] in use.features for atom in others]
        if bool(of_leaf) != any(is_feature) or not all(
            flag == is_feature[0] for flag in is_feature
        ):
            return None
        if of_leaf:
            by_place.append((list(others), of_leaf))
    rank = {axis: i for i, axis in enumerate(use.features)}
    by_place.sort(key=lambda pair: [(rank[a.place[0]], a.place) for a in pair[0]])
    lying = [(rank[a.place[0]], a.place) for others, _ in by_place for a in others]
    if lying != sorted(lying):
        return None
    size = math.prod(use.shape[axis] for axis in use.features)
    atoms = [atom for _, of_leaf in by_place for atom in of_leaf]
    if math.prod(atom.size for atom in atoms) != size:
        return None
    return form_of(leaf.shape, atoms, (size,))


def _summed(product: Any, form: Form) -> Any:
    """Return the sum over the axes along which a parameter is broadcast."""
    shape = (1,) * (product.ndim - len(form.shape)) + form.shape
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return product.sum(axis=axes, keepdims=True).reshape(form.shape)

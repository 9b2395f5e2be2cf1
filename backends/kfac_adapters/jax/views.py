"""How the axes of an array come from those of another, by layout operations alone.

An axis is cut into *atoms*, runs of indices that layout operations move as a whole:
``reshape`` cuts and joins axes, ``transpose`` moves them, ``broadcast_in_dim`` adds
atoms that are not of the array. So a view knows the axes of what it is a view of,
without an index being computed.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class Atom(NamedTuple):
    """A part of an axis.

    Attributes:
        place: Orders the atoms as they lie in the array, slow ones first.
        size: How many indices it has, more than one.
        real: Whether it is the array's own: one of a broadcast is not.
    """

    place: tuple[int, ...]
    size: int
    real: bool = True


class View(NamedTuple):
    """An array as a layout of another.

    Attributes:
        axes: For each axis its atoms, slow first; none for an axis of size one.
    """

    axes: tuple[tuple[Atom, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(math.prod(atom.size for atom in axis) for axis in self.axes)

    @property
    def real(self) -> tuple[Atom, ...]:
        """The atoms of the array that is viewed, in the order of this view."""
        return tuple(atom for axis in self.axes for atom in axis if atom.real)

    @property
    def is_broadcast(self) -> bool:
        """Whether some axis is none of the array's."""
        return any(not atom.real for axis in self.axes for atom in axis)

    def transposed(self, permutation: Sequence[int]) -> "View":
        """Return the view with its axes in another order."""
        return View(tuple(self.axes[i] for i in permutation))

    def reshaped(self, shape: Sequence[int]) -> "View | None":
        """Return the view in another shape; None if an atom would be torn apart.

        Example:
            >>> whole(((4, 6))).reshaped((2, 2, 6)).transposed((0, 2, 1)).shape
            (2, 6, 2)
            >>> whole((4, 6)).transposed((1, 0)).reshaped((4, 6)) is None
            True
        """
        left = [atom for axis in reversed(self.axes) for atom in reversed(axis)]
        axes = []
        for size in shape:
            axis: list[Atom] = []
            wanted = size
            while wanted > 1:
                if not left:
                    return None
                atom = left.pop()
                if wanted % atom.size == 0:
                    axis.append(atom)
                    wanted //= atom.size
                elif atom.size % wanted == 0:
                    first = Atom((*atom.place, 0), wanted, atom.real)
                    axis.append(first)
                    rest = atom.size // wanted
                    left.append(Atom((*atom.place, 1), rest, atom.real))
                    wanted = 1
                else:
                    return None
            axes.append(tuple(axis))
        return View(tuple(axes)) if not left else None

    def broadcast(self, shape: Sequence[int], dimensions: Sequence[int]) -> "View":
        """Return the view after ``broadcast_in_dim``.

        Args:
            shape: Shape of the result.
            dimensions: For each axis of the view its axis in the result.
        """
        axes = []
        for place, size in enumerate(shape):
            own = self.axes[dimensions.index(place)] if place in dimensions else ()
            new = (Atom((-1, place), size, real=False),)
            axes.append(own or (new if size > 1 else ()))
        return View(tuple(axes))


def whole(shape: Sequence[int]) -> View:
    """Return an array as a view of itself."""
    return View(
        tuple((Atom((i,), size),) if size != 1 else () for i, size in enumerate(shape))
    )


def moved(view: View, name: str, params: Any) -> View | None:
    """Return a view after an operation of JAX.

    Args:
        view: View of the operand.
        name: Name of the primitive.
        params: Its parameters.

    Returns:
        The view of the result; None if the operation is none of layout, or one whose
        result is no view.
    """
    if name in KEEPING:
        return view
    if name == "transpose":
        return view.transposed(params["permutation"])
    if name == "reshape" and params.get("dimensions") is None:
        return view.reshaped(params["new_sizes"])
    if name == "squeeze":
        gone = params["dimensions"]
        return View(tuple(a for i, a in enumerate(view.axes) if i not in gone))
    if name == "expand_dims":
        axes = list(view.axes)
        for place in sorted(params["dimensions"]):
            axes.insert(place, ())
        return View(tuple(axes))
    if name == "broadcast_in_dim":
        return view.broadcast(params["shape"], params["broadcast_dimensions"])
    if name == "tile":
        pairs = zip(view.axes, params["reps"], strict=True)
        return View(
            tuple(
                (Atom((-1, i), count, real=False), *axis) if count > 1 else axis
                for i, (axis, count) in enumerate(pairs)
            )
        )
    return None


KEEPING = frozenset(
    {
        "convert_element_type",
        "copy",
        "copy_p",
        "mesh_cast",
        "optimization_barrier",
        "pvary",
        "reduce_precision",
        "sharding_constraint",
    }
)
"""The operations that move nothing."""

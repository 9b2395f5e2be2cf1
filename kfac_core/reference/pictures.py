"""Pictures of matrices, and the look that all pictures of the documentation have."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kfac_core.arguments.arrays import backend_for
from kfac_core.arguments.powers import shown
from kfac_core.arguments.sizes import as_flag, as_size
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.reference.dense_fisher import DenseFisher
from kfac_core.state import check_finite
from kfac_core.typing import Array

Matrix = np.ndarray[Any, np.dtype[np.float64]]

LABEL = "heat_maps"

# Okabe & Ito (2008): told apart without colour vision.
COLOURS = ("0072B2", "D55E00", "009E73", "E69F00", "CC79A7", "56B4E9", "444444")

PICTURE_STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "axes.grid": True,
        "axes.labelsize": 12,
        "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 13,
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "figure.figsize": (8.0, 4.2),
        "font.size": 12,
        "grid.alpha": 0.3,
        "legend.fontsize": 11,
        "legend.frameon": False,
        "lines.linewidth": 2.0,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
    }
)
"""Settings of matplotlib: ``plt.rcParams.update(PICTURE_STYLE)``."""


def heat_maps(
    matrices: Mapping[str, Array | DenseFisher],
    *,
    borders: Sequence[int] = (),
    columns: int | None = None,
    one_scale: bool = True,
    gamma: float = 1.0,
) -> Any:
    """Draw matrices side by side, with lines at the borders of layers.

    Positive entries are red, negative ones are blue. A scale of colours reaches to the
    largest entry, so that nothing is cut off.

    Args:
        matrices: The matrices ``[rows, columns]`` by their titles, of any array
            library. A `DenseFisher` has the borders and names of its layers.
        borders: Sizes of layers along the diagonal, for those that are not a
            `DenseFisher`; they sum to the number of rows and of columns.
        columns: Number of pictures in a row; None: all in one.
        one_scale: Whether all pictures have one scale of colours; otherwise, each has
            its own.
        gamma: Power of the absolute values that colours show, in (0, 1]: below one,
            small entries can be seen beside large ones.

    Returns:
        A figure of matplotlib, which a notebook draws as a picture, and a script saves
        by its ``savefig``.

    Raises:
        ArgumentError: If there is nothing to draw, or an option is out of range.
        ImportError: If matplotlib is not installed.
        NotFiniteError: If a matrix holds NaN or infinity.
        ShapeError: If one is no matrix, or does not fit the borders.

    Example:
        >>> import numpy as np
        >>> figure = heat_maps({"one": np.eye(2), "other": np.ones((3, 2))})
        >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
        ['one', 'other']
    """
    given: object = matrices
    if not isinstance(given, Mapping) or not given:
        msg = (
            f"{LABEL}: matrices is {shown(matrices)}, expected a mapping from titles to"
            " matrices, at least one"
        )
        raise ArgumentError(msg)
    flag = as_flag(one_scale, "one_scale", LABEL)
    wide = len(given) if columns is None else as_size(columns, "columns", LABEL)
    panels = [_panel(str(k), m, borders) for k, m in matrices.items()]
    return draw(panels, wide, one_scale=flag, gamma=_power(gamma))


class Panel(NamedTuple):
    """One picture: a matrix, its title, and the layers along its sides."""

    title: str
    matrix: Matrix
    borders: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()


def draw(
    panels: Sequence[Panel | None],
    columns: int,
    *,
    one_scale: bool = True,
    gamma: float = 1.0,
) -> Any:
    """Return a figure of what is known to be right; None leaves a place empty."""
    from matplotlib.colors import FuncNorm
    from matplotlib.figure import Figure

    powers = partial(_signed, gamma), partial(_signed, 1 / gamma)
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (2.9 * columns + 0.8, 2.9 * rows)
    figure: Any = Figure(figsize=size, layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    limits = [abs(panel.matrix).max() for panel in panels if panel is not None]
    image: Any = None
    for axis, panel in zip_longest(axes.flat, panels):
        if panel is None:
            axis.set_axis_off()
            continue
        limit = max(limits) if one_scale else abs(panel.matrix).max()
        scale = FuncNorm(powers, -limit, limit)
        image = axis.imshow(panel.matrix, cmap="RdBu_r", norm=scale)
        axis.set(title=panel.title, xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.spines[:].set_visible(True)
        ends = np.cumsum(panel.borders)
        if panel.layers:
            middles = ends - np.asarray(panel.borders) / 2 - 0.5
            axis.set_xticks(middles, panel.layers, rotation=90, fontsize=9)
            axis.tick_params(length=0)
        for border in ends[:-1] - 0.5:
            axis.axhline(border, color="0.4", linewidth=0.6)
            axis.axvline(border, color="0.4", linewidth=0.6)
        if not one_scale:
            figure.colorbar(image, ax=axis, shrink=0.6)
    if one_scale:
        figure.colorbar(image, ax=axes, shrink=0.6)
    # Only figures of pyplot are drawn by notebooks on their own, and those are kept
    # alive by pyplot.
    figure._repr_png_ = partial(_png, figure)
    return figure


def numbers(x: Array, argument: str, label: str) -> Matrix:
    """Return an array of any library in NumPy, with its kind and values checked."""
    backend = backend_for(label, argument, x)
    if not backend.isdtype(x.dtype, "real floating"):
        msg = f"{label}: {argument} has dtype {x.dtype}, expected real numbers"
        raise ArgumentError(msg)
    check_finite(backend, x, argument, label)
    return np.asarray(backend.to_numpy(backend.stop_gradient(x)), np.float64)


def as_borders(borders: object, size: int | None, label: str) -> tuple[int, ...]:
    """Return sizes of layers, or none; they sum to `size`, if that is given."""
    sizes = tuple(borders) if isinstance(borders, list | tuple) else None
    fits = sizes is not None and all(type(each) is int and each > 0 for each in sizes)
    wrong = sizes and size is not None and sum(sizes) != size
    if not fits or sizes is None or wrong:
        total = "" if size is None else f" that sum to {size}"
        msg = f"{label}: borders is {shown(borders)}, expected sizes of layers{total}"
        raise ArgumentError(msg)
    return sizes


def _panel(title: str, given: Array | DenseFisher, borders: Sequence[int]) -> Panel:
    argument = f"matrices[{title!r}]"
    if isinstance(given, DenseFisher):
        matrix = numbers(given.matrix, argument, LABEL)
        return Panel(title, matrix, given.sizes, given.layers)
    matrix = numbers(given, argument, LABEL)
    if matrix.ndim != 2 or not matrix.size:
        msg = f"{LABEL}: {argument} has shape {matrix.shape}, expected a matrix"
        raise ShapeError(msg)
    sizes = as_borders(borders, None, LABEL)
    if sizes and matrix.shape != (sum(sizes), sum(sizes)):
        msg = (
            f"{LABEL}: {argument} has shape {matrix.shape}, expected"
            f" {(sum(sizes), sum(sizes))}, the sum of borders"
        )
        raise ShapeError(msg)
    return Panel(title, matrix, sizes)


def _power(gamma: object) -> float:
    known = isinstance(gamma, float | int) and not isinstance(gamma, bool)
    number = gamma if isinstance(gamma, float | int) and known else -1.0
    if not 0 < number <= 1:
        msg = f"{LABEL}: gamma is {shown(gamma)}, expected a number in (0, 1]"
        raise ArgumentError(msg)
    return float(number)


def _signed(power: float, x: Any) -> Any:
    """Return a power of the absolute values, with the signs."""
    return np.sign(x) * np.abs(x) ** power


def _png(figure: Any) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()

"""The picture: how fast the loss falls, and what K-FAC approximates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.demo.digits import Digits
from kfac_core.demo.given import as_path, check_is
from kfac_core.demo.optimizers import Params
from kfac_core.demo.training import MODEL, NETWORK, Run
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference import block_for, exact_fisher, exact_sources

COLOURS = (
    "#0072b2",
    "#e69f00",
    "#d55e00",
    "#009e73",
)  # told apart without colour vision
FISHER_CASES = 256
LAYER = 3  # the output layer: small enough to see, and not too easy


def draw(
    path: Path,
    runs: Sequence[Run],
    fishers: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    """Draw the picture.

    Args:
        path: Where to write it; the ending says the format.
        runs: The best run of each optimiser.
        fishers: A layer's exact Fisher and its approximation, of `fishers_of`.

    Raises:
        ArgumentError: If an argument is none that could be.
    """
    path = as_path(path)
    listed: Any = runs
    some = isinstance(listed, Sequence) and bool(listed)
    fits = some and all(isinstance(run, Run) and run.epochs for run in listed)
    check_is(fits, runs, "runs", "runs of `train`, at least one")
    pair: Any = fishers
    is_pair = isinstance(pair, tuple | list) and len(pair) == 2
    shapes = {getattr(x, "shape", None) for x in pair} if is_pair else set()
    square = len(shapes) == 1 and all(s and len(s) == 2 for s in shapes)
    check_is(square, fishers, "fishers", "two matrices of one size")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.9), layout="constrained")
    grid = figure.add_gridspec(2, 6, height_ratios=(1.0, 1.1))
    for place, quantity in ((grid[0, :2], "steps"), (grid[0, 2:4], "seconds")):
        axes = figure.add_subplot(place)
        for run, colour in zip(runs, COLOURS, strict=False):
            axes.plot(
                [getattr(epoch, quantity) for epoch in run.epochs],
                [epoch.loss for epoch in run.epochs],
                color=colour,
                marker="o",
                markersize=3,
                label=f"{run.optimizer} ({run.setting} {run.value:g})",
            )
        axes.set_yscale("log")
        axes.set_xlabel(quantity)
        axes.set_ylabel("training loss")
        axes.grid(alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
        frameon=False,
    )
    axes = figure.add_subplot(grid[0, 4:])
    for run, colour in zip(runs, COLOURS, strict=False):
        epochs = [epoch for epoch in run.epochs if "damping" in epoch.stats]
        axes.plot(
            [epoch.steps for epoch in epochs],
            [epoch.stats["damping"] for epoch in epochs],
            color=colour,
        )
    axes.set_yscale("log")
    axes.set_xlabel("steps")
    axes.set_ylabel("damping")
    axes.grid(alpha=0.3)

    exact, approximate = fishers
    # A few entries are far larger than most: a fifth of the largest shows the rest.
    limit = float(np.max(np.abs(exact))) / 5
    error = np.linalg.norm(exact - approximate) / np.linalg.norm(exact)
    panels = (
        (exact, "exact Fisher of the output layer, 330 x 330"),
        (approximate, "its K-FAC approximation"),
        (exact - approximate, f"difference ({error:.0%} of the norm)"),
    )
    drawn = []
    for column, (matrix, title) in enumerate(panels):
        axes = figure.add_subplot(grid[1, 2 * column : 2 * column + 2])
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        drawn.append(axes)
    figure.colorbar(image, ax=drawn, shrink=0.8, extend="both")
    figure.savefig(path, dpi=120)


def fishers_of(
    backend: Backend, digits: Digits, params: Params
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the output layer's exact Fisher and its K-FAC approximation.

    Both of the same images, without sampling: the expectation over labels is taken in
    full.

    Args:
        backend: Backend of the arrays.
        digits: The data.
        params: The network's parameters.

    Returns:
        Two matrices ``[330, 330]``.
    """
    x = digits.x_train[:FISHER_CASES, ...]
    loss = CategoricalLogitsNegativeLogProbLoss()
    own = MODEL.unnamed(params)
    exact = exact_fisher(NETWORK, own, x, loss, layer=LAYER)
    block = block_for(NETWORK.param_layers[LAYER])
    data = exact_sources(NETWORK, own, x, loss)[LAYER]
    state = block.update_covs(block.init(like=x), *data, ema_decay=0.0)
    approximate = block.full_fisher_block(state)
    return backend.to_numpy(exact), backend.to_numpy(approximate)

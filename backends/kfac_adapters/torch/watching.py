"""`watched`: a model with a tracker of its statistics, for whoever uses these."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from kfac_adapters.coverage import Policy
from kfac_adapters.torch.capture import capture
from kfac_adapters.torch.losses import Reduction, given_loss
from kfac_adapters.torch.ranks import ranks_of
from kfac_adapters.torch.settings import check_settings
from kfac_adapters.torch.tracking import Told, Tracker
from kfac_core.collectives import teams_of
from kfac_core.errors import ArgumentError
from kfac_core.estimator import ESTIMATION_MODES, EstimationMode
from kfac_core.estimator.sharing import check_share
from kfac_core.loss_functions import LossFunction


def watched(
    label: str,
    model: torch.nn.Module,
    loss: LossFunction | str,
    *,
    reduction: Reduction,
    mode: EstimationMode,
    decay: float,
    cov_every: int,
    statistics_share: float,
    unclaimed: Policy,
    approx: Mapping[str, str] | str | None,
    class_axis: int | None,
    output: Callable[[Any], torch.Tensor] | None,
    seed: int,
    told: Told | None = None,
    collective: object = None,
    gradient_worker_fraction: float = 1.0,
    **numbers: object,
) -> Tracker:
    """Return the tracker of a model, which it sees from now on.

    Args:
        label: Who wants it, for messages.
        model: The model.
        loss: As in `KFAC`.
        reduction: As in `KFAC`.
        mode: As in `KFAC`.
        decay: As in `KFAC`.
        cov_every: As in `KFAC`.
        statistics_share: As in `KFAC`.
        unclaimed: As in `capture`.
        approx: As in `capture`.
        class_axis: As in `capture`.
        output: As in `capture`.
        seed: As in `KFAC`.
        told: Who is told of every pass besides the tracker.
        collective: As in `KFAC`.
        gradient_worker_fraction: As in `KFAC`.
        **numbers: More numbers to check, by their names.

    Returns:
        The tracker.

    Raises:
        ArgumentError: If an argument is out of range.
        UnsupportedError: If a module is compiled; or if not all ranks are to keep an
            inverse, and they cannot talk in groups.
    """
    numbers["gradient_worker_fraction"] = gradient_worker_fraction
    check_settings(label, decay=decay, cov_every=cov_every, **numbers)
    known = given_loss(loss, reduction)
    if mode not in ESTIMATION_MODES:
        msg = f"mode is {mode!r}, expected one of {', '.join(ESTIMATION_MODES)}"
        raise ArgumentError(msg)
    made = capture(
        model,
        loss,
        unclaimed=unclaimed,
        approx=approx,
        class_axis=class_axis,
        output=output,
    )
    teams = teams_of(ranks_of(model, collective, label), gradient_worker_fraction)
    share = check_share(statistics_share, label)
    return Tracker(
        made, known, reduction, mode, decay, cov_every, share, seed, told, teams
    )

"""Steps that are not taken, since their numbers are not finite: it is said, once."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kfac_adapters.torch.tracking import Tracker
from kfac_core.errors import NotFiniteError
from kfac_core.optimizer import StepStatistics


@dataclass(frozen=True)
class StepReport:
    """What a step did.

    Attributes:
        taken: Whether anything changed; a step whose gradients or statistics hold NaN
            or infinity changes nothing, as where the scale of a loss was too large.
        reason: Why it was not taken; an empty text if it was.
        statistics: What the core reports of a step that adapts the damping, or finds
            its own length; else None.
    """

    taken: bool
    reason: str = ""
    statistics: StepStatistics | None = None


class Skipping:
    """Lets steps fail that are not finite.

    Args:
        label: Whose steps, for the warning.
    """

    def __init__(self, label: str) -> None:
        self._label, self._has_warned = label, False
        self.report = StepReport(taken=False, reason="there was no step yet")

    def take(self, tracker: Tracker, step: Callable[[], StepReport]) -> None:
        """Take a step, in the precision of its arrays.

        An error of what is not finite ends it: the first such is a warning, all are in
        the report.

        Args:
            tracker: The statistics.
            step: Takes the step.
        """
        if reason := tracker.agree():
            self._skipped(reason)
            return
        device = next(tracker.capture.model.parameters()).device.type
        try:
            with torch.autocast(device, enabled=False):
                self.report = step()
        except NotFiniteError as error:
            self._skipped(str(error))

    def _skipped(self, reason: str) -> None:
        self.report = StepReport(taken=False, reason=reason)
        if not self._has_warned:
            self._has_warned = True
            msg = f"{self._label}: a step was not taken: {reason}"
            warnings.warn(msg, RuntimeWarning, stacklevel=5)

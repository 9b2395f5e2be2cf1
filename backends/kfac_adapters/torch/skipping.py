"""Steps that are not taken, since their numbers are not finite: it is said, once."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def unless_finite(self, tracker: Tracker) -> Iterator[None]:
        """Take a step within, in the precision of its arrays.

        An error of what is not finite ends it: the first such is a warning, all are in
        the report.

        Raises:
            NotFiniteError: Never beyond this.
        """
        device = next(iter(tracker.capture.model.parameters())).device.type
        try:
            if tracker.refused and not tracker.has_statistics:
                raise NotFiniteError(tracker.refused)
            with torch.autocast(device, enabled=False):
                self.report = StepReport(taken=True)
                yield
        except NotFiniteError as error:
            self.report = StepReport(taken=False, reason=str(error))
            if not self._has_warned:
                self._has_warned = True
                msg = f"{self._label}: a step was not taken: {error}"
                warnings.warn(msg, RuntimeWarning, stacklevel=4)

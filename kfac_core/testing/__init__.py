"""The contract suites for backends and models: run them on yours.

`check_linearization` is for the author of a model or an adapter.

>>> from kfac_core.registry import load_backend
>>> report = check_backend(load_backend("numpy"))
>>> report.backend, len(report.passed) == len(CONTRACT)
('numpy', True)
"""

from kfac_core.testing.candidate import Candidate
from kfac_core.testing.contract import CONTRACT, Check, Report, check_backend
from kfac_core.testing.linearizations import check_linearization

__all__ = [
    "CONTRACT",
    "Candidate",
    "Check",
    "Report",
    "check_backend",
    "check_linearization",
]

"""The contract suite for backends: run it on yours.

>>> from kfac_core.registry import load_backend
>>> report = check_backend(load_backend("numpy"))
>>> report.backend, len(report.passed) == len(CONTRACT)
('numpy', True)
"""

from kfac_core.testing.candidate import Candidate
from kfac_core.testing.contract import CONTRACT, Check, Report, check_backend

__all__ = ["CONTRACT", "Candidate", "Check", "Report", "check_backend"]

"""``kfac-core verify``: whether the mathematics holds on a library and its device.

It is what one runs on a new GPU, driver or array library, and what the tables of the
documentation are made with.
"""

from kfac_core.verify.lapack import Ratio
from kfac_core.verify.libraries import installed
from kfac_core.verify.report import Report, Result, Run
from kfac_core.verify.running import verify

__all__ = ["Ratio", "Report", "Result", "Run", "installed", "verify"]

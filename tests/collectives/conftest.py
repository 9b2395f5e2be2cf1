"""The cases of factors, blocks and estimators, which stand with their own tests."""

import sys
from pathlib import Path

for _folder in ("fisher_factors", "fisher_blocks", "misuse", "estimator", "states"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))

"""The factor of a user, which stands with the tests of factors."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "fisher_factors"))

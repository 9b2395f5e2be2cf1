"""The walks use the cases of all factors and blocks."""

import sys
from pathlib import Path

for _folder in ("factors", "blocks"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))

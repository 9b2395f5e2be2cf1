"""Each front end is tested where its library is installed, and wanted."""

import os
from importlib.util import find_spec

LIBRARIES = os.environ.get("KFAC_CORE_LIBRARIES", "")


def _is_tested(library: str) -> bool:
    # One that is wanted and missing fails its tests, as everywhere.
    return library in LIBRARIES.split(",") if LIBRARIES else bool(find_spec(library))


collect_ignore_glob = [
    f"*{library}_*.py" for library in ("torch", "jax") if not _is_tested(library)
]

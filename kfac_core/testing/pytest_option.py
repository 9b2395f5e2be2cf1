"""The option ``--golden DIR`` of this project's own test suite.

It is a pytest plugin, since pytest looks for its configuration next to every folder
that it is given: an option from a ``conftest.py`` is not known yet when its value is a
folder outside of the project. Outside of a checkout the plugin adds nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: "pytest.Parser") -> None:
    """Add the option where the tests that read it are."""
    here = Path.cwd()
    if any((p / "tests/golden/recordings.py").is_file() for p in (here, *here.parents)):
        parser.addoption(
            "--golden",
            metavar="DIR",
            type=Path,
            help="run the recorded cases (*.npz) in DIR, and no other test",
        )

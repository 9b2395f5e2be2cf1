"""Collects the recorded cases."""

import pytest
from recordings import cases_in, folder_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_path" in metafunc.fixturenames:
        folder = folder_of(metafunc.config)
        paths, _ = cases_in(folder)
        if not paths:
            msg = f"--golden: no recorded case (*.npz) to run in {folder}"
            raise pytest.UsageError(msg)
        metafunc.parametrize("case_path", paths, ids=[path.stem for path in paths])

"""Collects the recorded cases."""

import pytest
from recordings import cases_in, faces_of, folder_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_path" in metafunc.fixturenames:
        folder = folder_of(metafunc.config)
        paths = cases_in(folder)
        if not paths:
            msg = f"--golden: no recorded case (*.npz) to run in {folder}"
            raise pytest.UsageError(msg)
        pairs = [(path, face) for path in paths for face in faces_of(path)]
        ids = [f"{path.stem}-{face}" for path, face in pairs]
        metafunc.parametrize(("case_path", "face"), pairs, ids=ids)

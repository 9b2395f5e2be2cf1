"""What is installed, under which names and which version."""

import importlib.metadata
import importlib.resources
import re
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest

import kfac_core

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

# In two halves, so that this file does not hold them either.
REGISTRIES = [
    "".join(halves)
    for halves in (
        ("py", "pi.org"),
        ("python", "hosted.org"),
        ("download.py", "torch.org"),
        ("index", "-url"),
        ("find", "-links"),
        ("conda", ".anaconda.org"),
    )
]


def test_the_wheel_has_three_packages_and_none_named_backends():
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    names = sorted(PurePosixPath(package).name for package in packages)
    assert names == ["kfac_adapters", "kfac_backends", "kfac_core"]


def test_nothing_named_backends_is_installed():
    installed = importlib.metadata.files("kfac_core") or []
    assert "backends" not in {path.parts[0] for path in installed}


@pytest.mark.parametrize("package", ["kfac_core", "kfac_backends", "kfac_adapters"])
def test_types_are_published(package):
    assert importlib.resources.files(package).joinpath("py.typed").is_file()


def test_one_version_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    latest = re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    assert {
        kfac_core.__version__,
        importlib.metadata.version("kfac_core"),
        latest[1],
        cited[1],
    } == {PYPROJECT["project"]["version"]}


def test_licence_is_apache_in_full():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PYPROJECT["project"]["license"] == "Apache-2.0"


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a clone")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_file_holds_the_address_of_a_registry():
    found = [
        (path.relative_to(ROOT), address)
        for path in tracked_files()
        if path.is_file()
        for address in REGISTRIES
        if address.encode() in path.read_bytes()
    ]
    assert found == []

"""What stands where a file is to be: it is replaced, keeps its own, or is refused."""

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from saved_states import equal

import kfac_core as kc
from kfac_core.saving import disk

SPEC = kc.factors.FullyConnectedKroneckerFactor(2)
LIKE = np.zeros(1)
STATE = SPEC.update_cov(SPEC.init(LIKE), np.eye(2), 0.5)

posix = pytest.mark.skipif(os.name != "posix", reason="files are those of POSIX")


def refused(path, number, monkeypatch):
    """Check that nothing is written before a save is refused, and return the error."""

    def never(*_):
        pytest.fail("an array was written")

    before = {*path.parent.parent.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(disk, "digest", never)
        with pytest.raises(OSError, match="save: ") as caught:
            kc.save(path, STATE, SPEC)
    assert caught.value.errno == number
    assert {*path.parent.parent.rglob("*")} == before
    return caught.value


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_a_folder_is_no_file(folder, monkeypatch):
    (folder / "state").mkdir()
    error = refused(folder / "state", errno.EISDIR, monkeypatch)
    assert isinstance(error, IsADirectoryError)
    assert error.filename == str(folder / "state")


def test_a_file_in_no_folder_is_refused_by_the_name_of_the_folder(folder, monkeypatch):
    error = refused(folder / "none" / "state", errno.ENOENT, monkeypatch)
    assert isinstance(error, FileNotFoundError)
    assert error.filename == os.path.realpath(folder / "none")


@posix
def test_a_device_stays_a_device(folder, monkeypatch):
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "pipe")
    for name in ("pipe", "link"):
        refused(folder / name, errno.EINVAL, monkeypatch)
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


@posix
def test_a_circle_of_links_is_no_file(folder, monkeypatch):
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    with pytest.raises((OSError, RuntimeError), match="a"):  # RuntimeError until 3.13
        kc.save(folder / "a", STATE, SPEC)
    assert (folder / "a").is_symlink()
    assert len([*folder.iterdir()]) == 2


@posix
def test_a_link_to_no_file_makes_that_file(folder):
    (folder / "link").symlink_to(folder / "state")
    kc.save(folder / "link", STATE, SPEC)
    assert (folder / "link").is_symlink()
    equal(kc.load(folder / "state", SPEC, like=LIKE), STATE)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_keeps_its_permissions(folder, mode):
    path = folder / "state"
    kc.save(path, STATE, SPEC)
    path.chmod(mode)
    kc.save(path, STATE, SPEC)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_what_is_not_yet_whole_is_as_private_as_the_file(folder, monkeypatch):
    path, seen = folder / "state", []
    kc.save(path, STATE, SPEC)
    path.chmod(0o600)
    digest = disk.digest

    def watched(data):
        (new,) = (p for p in folder.iterdir() if p != path)
        seen.append(stat.S_IMODE(new.stat().st_mode))
        return digest(data)

    monkeypatch.setattr(disk, "digest", watched)
    kc.save(path, STATE, SPEC)
    assert {*seen} == {0o600}


@posix
def test_a_new_file_has_the_permissions_that_the_process_gives(folder):
    before = os.umask(0o027)
    try:
        kc.save(folder / "state", STATE, SPEC)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "\U0001f4be" * 63])
def test_a_name_may_be_as_long_as_the_system_allows(folder, name):
    kc.save(folder / name, STATE, SPEC)
    equal(kc.load(folder / name, SPEC, like=LIKE), STATE)
    assert [*folder.iterdir()] == [folder / name]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_synced_has_the_file(folder, number, monkeypatch):
    path, failing = folder / "state", []

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            failing.append(handle)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk.os, "fsync", fsync)
    if number == errno.EIO:  # of which the one who saves must know
        with pytest.raises(OSError, match=os.strerror(number)):
            kc.save(path, STATE, SPEC)
    else:
        kc.save(path, STATE, SPEC)
    assert len(failing) == (os.name == "posix")
    equal(kc.load(path, SPEC, like=LIKE), STATE)


@pytest.mark.parametrize(
    "path", ["", "folder/", "a\0b", b"state", 3, None], ids=lambda path: repr(path)
)
def test_what_names_no_file_is_refused(path):
    for call in (
        lambda: kc.save(path, STATE, SPEC),
        lambda: kc.load(path, SPEC, like=LIKE),
        lambda: kc.load_arrays(path, like=LIKE),
    ):
        with pytest.raises(
            kc.errors.ArgumentError, match="expected the name of a file"
        ):
            call()


class AsName:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


def test_whatever_gives_the_name_of_a_file_is_taken(folder):
    kc.save(AsName(str(folder / "state")), STATE, SPEC)
    equal(kc.load(Path(folder / "state"), SPEC, like=LIKE), STATE)
    with pytest.raises(kc.errors.ArgumentError, match="path is a AsName"):
        kc.load(AsName(b"state"), SPEC, like=LIKE)


@pytest.mark.parametrize("key", [1, None, ("a",), b"a"])
def test_a_name_of_an_array_is_a_text(folder, key):
    with pytest.raises(kc.errors.ArgumentError, match="arrays has the key"):
        kc.save(folder / "state", STATE, SPEC, arrays={key: LIKE})
    assert not [*folder.iterdir()]

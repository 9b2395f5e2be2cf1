"""What happens to a file, and to the one who writes it, is an error or nothing."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from saved_states import equal, updated

import kfac_core as kc
from kfac_core.saving import disk

SMALL = kc.factors.FullyConnectedKroneckerFactor(2)
LIKE = np.zeros(1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def saved(path):
    state = SMALL.update_cov(SMALL.init(LIKE), np.eye(2), 0.5)
    kc.save(path, state, SMALL)
    return state


def test_every_flipped_bit_is_an_error(path, saved):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.permutation(8 * len(whole))[:1000]
    assert {*range(64)} & {*places.tolist()}
    for place in [*range(64), *places.tolist()]:
        spoiled = bytearray(whole)
        spoiled[place // 8] ^= 1 << place % 8
        path.write_bytes(spoiled)
        with pytest.raises(kc.errors.SavedFileError):
            kc.load(path, SMALL, like=LIKE)
    path.write_bytes(whole)
    equal(kc.load(path, SMALL, like=LIKE), saved)


def test_a_file_that_is_cut_or_longer_is_an_error(path, saved):
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    cuts = {0, 1, 7, 8, 9, start - 1, start, start + 1, len(whole) - 1}
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(kc.errors.SavedFileError, match=str(path)):
            kc.load(path, SMALL, like=LIKE)
    path.write_bytes(whole + b"\0")
    with pytest.raises(kc.errors.SavedFileError, match="bytes"):
        kc.load(path, SMALL, like=LIKE)
    assert saved


@pytest.mark.parametrize("part", ["bytes", "names"])
def test_arrays_of_one_shape_that_change_places_are_an_error(path, part):
    block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
    state = block.update_covs(block.init(LIKE), np.eye(2), 2 * np.eye(2), 0.5)
    kc.save(path, state, block)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    names = [f"{side}_factor.cov.total" for side in ("input", "output")]
    if part == "bytes":
        header = json.loads(whole[8:start])
        places = [slice(*header[name]["data_offsets"]) for name in names]
        arrays = bytearray(whole[start:])
        held = [arrays[place] for place in places]
        arrays[places[0]], arrays[places[1]] = held[::-1]
        spoiled = whole[:start] + arrays
    else:
        first, second = (f'"{name}":{{'.encode() for name in names)
        header = whole[:start].replace(first, b"?").replace(second, first)
        spoiled = header.replace(b"?", second) + whole[start:]
    assert len(spoiled) == len(whole)
    assert spoiled != whole
    path.write_bytes(spoiled)
    with pytest.raises(kc.errors.SavedFileError, match="damaged"):
        kc.load(path, block, like=LIKE)


def test_a_later_version_is_refused(path, saved, monkeypatch):
    monkeypatch.setattr("kfac_core.saving.layout.VERSION", 2)
    kc.save(path, saved, SMALL)
    monkeypatch.undo()
    with pytest.raises(kc.errors.SavedFileError, match="version 2, expected at most 1"):
        kc.load(path, SMALL, like=LIKE)


def test_a_later_version_may_have_another_checksum(path, saved):
    whole = path.read_bytes()
    later = whole.replace(b'"version":"1"', b'"version":"7"')
    path.write_bytes(later.replace(b"header_blake2b", b"header_blake3k"))
    with pytest.raises(kc.errors.SavedFileError, match="version 7, expected at most 1"):
        kc.load(path, SMALL, like=LIKE)
    assert saved


OTHERS = (
    b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"__metadata__":{"format":"pt","version":"9"}}',
    b'{"__metadata__":{"format":"kfac_core","version":"new"}}',
    b'{"__metadata__":{"format":"kfac_core","version":9}}',
    b'{"__metadata__":["format"]}',
    b"[" * 100_000,
    b"\xff\xfe",
    b"3",
)


@pytest.mark.parametrize("header", OTHERS, ids=lambda header: repr(header[:40]))
def test_a_file_of_another_program_is_refused(path, header):
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(kc.errors.SavedFileError, match=r"kfac_core\.save"):
        kc.load(path, SMALL, like=LIKE)


def test_no_file_is_the_error_of_the_system(path):
    with pytest.raises(FileNotFoundError):
        kc.load(path, SMALL, like=LIKE)


@pytest.mark.parametrize("call", ["fsync", "write", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(path, saved, call, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    other = SMALL.update_cov(saved, 2 * np.eye(2), 0.5)
    if call == "fsync":
        monkeypatch.setattr(disk.os, "fsync", full)
    elif call == "replace":
        monkeypatch.setattr(disk.Path, "replace", full)
    else:
        monkeypatch.setattr(disk, "digest", full)
    with pytest.raises(OSError, match="No space"):
        kc.save(path, other, SMALL)
    monkeypatch.undo()
    equal(kc.load(path, SMALL, like=LIKE), saved)
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
def test_a_disk_that_is_full_leaves_the_old_file(path, saved):
    code = (
        "import resource, signal, sys, numpy as np, kfac_core as kc\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "big = kc.factors.FullyConnectedKroneckerFactor(100)\n"
        "kc.save(sys.argv[1], big.init(np.zeros(1)), big)\n"
    )
    done = subprocess.run(
        # Bytecode that Python keeps of what it imports would end at the limit, too.
        [sys.executable, "-B", "-c", code, str(path)],
        capture_output=True,
        check=False,
    )
    assert b"File too large" in done.stderr
    equal(kc.load(path, SMALL, like=LIKE), saved)
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_cannot_be_written_keeps_the_old_file(path, saved):
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            kc.save(path, saved, SMALL)
    finally:
        path.parent.chmod(0o700)
    equal(kc.load(path, SMALL, like=LIKE), saved)


WRITER = """
import sys, numpy as np, kfac_core as kc
from kfac_core import tree
spec = kc.factors.FullyConnectedKroneckerFactor(300)
state = spec.init(np.zeros(1))
states = [tree.map(lambda x: x + np.asarray(k, x.dtype), state) for k in range(2)]
states = [s._replace(made_by=spec.signature) for s in states]
kc.save(sys.argv[1], states[0], spec)
print("ready", flush=True)
while True:
    for each in states:
        kc.save(sys.argv[1], each, spec)
"""


KILLS = 50 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 2


@contextlib.contextmanager
def writers(path, number):
    """Let processes save to a path without end, and kill them."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            for _ in range(number)
        ]
        try:
            for each in running:
                assert each.stdout.readline() == b"ready\n"
            yield
        finally:
            for each in running:
                each.kill()


def check_whole(path):
    """Check that a file is one that a writer saved, and return its number."""
    spec = kc.factors.FullyConnectedKroneckerFactor(300)
    total = kc.load(path, spec, like=LIKE).cov.total
    assert np.all(total == total[0, 0])
    return float(total[0, 0])


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.timeout(60 * KILLS)
def test_a_writer_that_is_killed_leaves_a_whole_file(path):
    rng = np.random.default_rng(0)
    for _ in range(KILLS):
        with writers(path, 1):
            time.sleep(rng.uniform(0, 0.1))
        check_whole(path)


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_path_to_which_two_processes_save_is_always_a_whole_file(path):
    with writers(path, 2):
        found = [check_whole(path) for _ in range(30)]
    assert {*found} <= {0.0, 1.0}
    check_whole(path)


def test_a_state_of_a_file_is_the_state_after_many_updates(path):
    spec, state = updated("dense-bias", steps=3)
    kc.save(path, state, spec)
    equal(kc.load(path, spec, like=LIKE), state)

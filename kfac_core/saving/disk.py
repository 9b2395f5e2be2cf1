"""Arrays in a file: written whole or not at all, and read with their checksums."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kfac_core.errors import SavedFileError
from kfac_core.saving.layout import Entry, digest, header_of, item_size, parsed, placed
from kfac_core.saving.leaves import dtype_name

_LONGEST_HEADER = 100_000_000  # as in safetensors
_SHOWN = 50  # characters of a name in that of the new file, which may have 255 bytes
_NO_SYNC = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP)
"""Errors of a folder that may not be opened, or whose disk knows no such call."""


def write(
    path: Path,
    forms: Mapping[str, tuple[str, tuple[int, ...]]],
    array: Callable[[str], Any],
    texts: Mapping[str, str],
) -> None:
    """Write arrays to a file, one at a time.

    1. A new file in the same folder takes the arrays; its header has room for the
       checksums, which are known at the end.
    2. It is brought to the disk before it gets the name, which is done at once: at any
       moment the name is that of the old file or of the new one.
    3. The folder, too, is brought to the disk.

    Args:
        path: Name of the file; what a symbolic link points to is replaced. A file that
            is there already keeps its permissions.
        forms: Dtype and shape of each array.
        array: Returns an array of NumPy by its name.
        texts: What else the header says, by name.

    Raises:
        OSError: If the file cannot be written; what was there is still there.
    """
    path, mode = _target(path)
    new = path.with_name(f".{path.name[:_SHOWN]}.{secrets.token_hex(8)}.tmp")
    entries, digests = placed(forms), dict[str, str]()
    try:
        with new.open("xb") as file:
            if mode is not None:
                new.chmod(mode)  # before there is anything in it to read
            file.write(header_of(entries, texts, {}))
            for name, entry in entries.items():
                data = _bytes_of(array(name), entry)
                digests[name] = digest(data)
                file.write(data)
                del data  # its memory is free before the next one takes any
            file.seek(0)
            file.write(header_of(entries, texts, digests))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    _sync_folder(path.parent)


class Reader:
    """The arrays of an open file.

    Attributes:
        entries: Where each array lies.
        texts: What else the header says.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Read the header.

        Raises:
            SavedFileError: If it is no file of a state, of a later version, or damaged.
        """
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _LONGEST_HEADER):
            msg = f"{path}: {size} bytes are not a file that kfac_core.save wrote"
            raise SavedFileError(msg)
        whole = start + file.read(length)
        self._file, self._path, self._start = file, path, len(whole)
        self.entries, self.texts, self._digests = parsed(whole, size, path)

    def array(self, name: str) -> Any:
        """Return an array of NumPy; one of bfloat16 as float32, which holds it.

        Raises:
            SavedFileError: If its checksum is another.
        """
        entry = self.entries[name]
        data: Any = np.empty(entry.size, np.uint8)
        self._file.seek(self._start + entry.start)
        view = memoryview(data)
        count = self._file.readinto(view)  # type: ignore[attr-defined]
        if count != entry.size or digest(view) != self._digests.get(name):
            msg = f"{self._path}: the array {name} is damaged, its checksum is another"
            raise SavedFileError(msg)
        if entry.dtype == "bfloat16":
            wide = data.view("<u2").astype("<u4") << 16
            return wide.view("<f4").reshape(entry.shape)
        return data.view(np.dtype(entry.dtype).newbyteorder("<")).reshape(entry.shape)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open a file that `write` wrote, and close it at the end.

    Args:
        path: Name of the file.

    Yields:
        Its arrays.

    Raises:
        OSError: If it cannot be read.
        SavedFileError: If it is no file of a state, of a later version, or damaged.
    """
    with path.open("rb") as file:
        yield Reader(file, path)


def _bytes_of(x: Any, entry: Entry) -> memoryview:
    """Return the bytes of an array in C order, little-endian; mostly a view."""
    if entry.dtype == "bfloat16" and dtype_name(x.dtype) == "float32":
        # The library's own bits, as its copy to NumPy widened them.
        x = (np.ascontiguousarray(x).view(np.uint32) >> 16).astype(np.uint16)
    flat = np.asarray(x, order="C").reshape(-1)
    assert flat.dtype.itemsize == item_size(entry.dtype), "as the header says"
    if entry.dtype == "bfloat16":
        flat = flat.view(np.uint16)
    little: Any = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return memoryview(little.view(np.uint8))


def _target(path: Path) -> tuple[Path, int | None]:
    """Return the file that a save replaces, and its permissions if it is there.

    What no file can replace is refused before anything is written: a save of gigabytes
    would fail at its end, and one to a device would put a file in its place.

    Raises:
        FileNotFoundError: If its folder is not there.
        IsADirectoryError: If it is a folder.
        OSError: If it is a device or a circle of links.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode  # of a circle of links, it is an error
    except FileNotFoundError:
        if not target.parent.is_dir():
            msg, folder = "save: there is no such folder", str(target.parent)
            raise FileNotFoundError(errno.ENOENT, msg, folder) from None
        return target, None
    if stat.S_ISDIR(mode):
        msg = "save: a folder is where the file was to be"
        raise IsADirectoryError(errno.EISDIR, msg, str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "save: what is there is no file", str(path))
    return target, stat.S_IMODE(mode)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can do that.

    Raises:
        OSError: If the disk fails.
    """
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise

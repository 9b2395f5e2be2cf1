"""The layout of a file: that of safetensors, with checksums and a version of our own.

Eight bytes are the length of a header; the header is JSON, which gives dtype, shape and
place of each array by name, and texts as ``__metadata__``; then follow the arrays in C
order, little-endian, without gaps. Any reader of safetensors reads the arrays. Our
texts add a checksum of each array, one of the header itself, and the version.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kfac_core.errors import SavedFileError

VERSION = 1
"""Version of the texts in the header; a reader refuses those that follow its own."""

CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}
"""Name of a dtype -> what the layout calls it."""

NAMES = {code: name for name, code in CODES.items()}

_DIGEST_BYTES = 16
_UNKNOWN = "0" * (2 * _DIGEST_BYTES)
_OWN_DIGEST = re.compile(rb'"header_blake2b":"([0-9a-f]{32})"')


class Entry(NamedTuple):
    """Where an array lies in a file.

    Attributes:
        dtype: Name of its dtype.
        shape: Its shape.
        start: Its first byte, from the end of the header.
        size: Its number of bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def item_size(dtype: str) -> int:
    """Return the number of bytes of an entry of an array."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def placed(forms: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Entry]:
    """Return the entries of arrays, which lie in the order of their names' widths.

    Args:
        forms: Dtype and shape of each array.

    Returns:
        The entries; wide entries come first, so that each array is aligned.
    """
    order = sorted(forms, key=lambda name: -item_size(forms[name][0]))
    found, start = {}, 0
    for name in order:
        dtype, shape = forms[name]
        size = int(np.prod(shape, dtype=np.int64)) * item_size(dtype)
        found[name] = Entry(dtype, shape, start, size)
        start += size
    return found


def header_of(
    entries: Mapping[str, Entry], texts: Mapping[str, str], digests: Mapping[str, str]
) -> bytes:
    """Return the first bytes of a file, its length included.

    The number of bytes does not depend on the digests.

    Args:
        entries: The arrays.
        texts: What else the header says, by name.
        digests: Checksum of each array; of one that is not known yet, none.
    """
    sums = {name: digests.get(name, _UNKNOWN) for name in entries}
    metadata = {
        "format": "kfac_core",
        "version": str(VERSION),
        "header_blake2b": _UNKNOWN,
        "blake2b": _json(sums),
        **texts,
    }
    content: dict[str, Any] = {"__metadata__": metadata}
    for name, entry in entries.items():
        content[name] = {
            "dtype": CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.start + entry.size],
        }
    text = _json(content).encode()
    text += b" " * (-len(text) % 8)
    whole = len(text).to_bytes(8, "little") + text
    own = hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).hexdigest()
    return _OWN_DIGEST.sub(f'"header_blake2b":"{own}"'.encode(), whole, count=1)


def parsed(
    whole: bytes, file_size: int, path: object
) -> tuple[dict[str, Entry], dict[str, str], dict[str, str]]:
    """Return entries, texts and digests of a file.

    Args:
        whole: Its first bytes, its length included.
        file_size: Number of bytes of the file.
        path: Name of the file, for messages.

    Raises:
        SavedFileError: If it is no file of a state, of a later version, or damaged.
    """
    own = _OWN_DIGEST.search(whole)
    if own is None:
        # The checksum of a later version may have another name.
        _check_version(_texts_of(whole), path)
        msg = f"{path}: the header is not one that kfac_core.save wrote"
        raise SavedFileError(msg)
    blank = whole[: own.start(1)] + _UNKNOWN.encode() + whole[own.end(1) :]
    found = hashlib.blake2b(blank, digest_size=_DIGEST_BYTES).hexdigest()
    if found.encode() != own.group(1):
        msg = f"{path}: the header is damaged, its checksum is another"
        raise SavedFileError(msg)
    content = json.loads(whole[8:])
    texts = content.pop("__metadata__")
    _check_version(texts, path)
    entries = {
        name: Entry(NAMES[x["dtype"]], tuple(x["shape"]), first, last - first)
        for name, x in content.items()
        for first, last in (x["data_offsets"],)
    }
    expected = len(whole) + sum(entry.size for entry in entries.values())
    if file_size != expected:
        msg = f"{path}: the file has {file_size} bytes, expected {expected}"
        raise SavedFileError(msg)
    return entries, texts, json.loads(texts["blake2b"])


def _texts_of(whole: bytes) -> dict[str, str]:
    """Return the texts of a header that may be of any program; else none."""
    try:
        texts = json.loads(whole[8:])["__metadata__"]
        own = texts["format"] == "kfac_core" and texts["version"].isdecimal()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return texts if own else {}


def _check_version(texts: Mapping[str, str], path: object) -> None:
    """Check that a file is of no later version.

    Raises:
        SavedFileError: If it is.
    """
    if int(texts.get("version", VERSION)) > VERSION:
        msg = (
            f"{path}: the file has version {texts['version']}, expected at most"
            f" {VERSION}: a later kfac_core wrote it"
        )
        raise SavedFileError(msg)


def digest(data: memoryview) -> str:
    """Return the checksum of an array's bytes."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def _json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))

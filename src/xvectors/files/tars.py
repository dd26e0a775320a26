"""Files inside uncompressed tar files, by paths such as `shard-000000.tar/000000012.flac`."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from functools import lru_cache

SUFFIX = ".tar"
MAX_TARS_KEPT = 10_000
"""Number of tar files whose tables of contents are kept in memory, about 150 bytes for each file in them."""


def split_member(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Split a path into a tar file that exists and the name of a file in it; None if it leads into no tar file."""
    name = os.fspath(path).replace(os.sep, "/")
    end = name.find(f"{SUFFIX}/")
    while end >= 0:
        end += len(SUFFIX)
        if os.path.isfile(name[:end]):
            return name[:end], name[end + 1 :]
        end = name.find(f"{SUFFIX}/", end)
    return None


def members(tar: str) -> Mapping[str, tuple[int, int]]:
    """Return where the files of a tar file begin and how many bytes they have, by their names.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not an uncompressed tar file, or is damaged.
    """
    status = os.stat(tar)
    return _members(os.path.abspath(tar), status.st_size, status.st_mtime_ns)


def read_member(tar: str, name: str) -> bytes:
    """Return the bytes of a file in a tar file.

    Raises KeyError if there is no such file in it, and as `members` does; ValueError also where bytes are missing.
    """
    first, size = members(tar)[name]
    with open(tar, "rb") as file:
        file.seek(first)
        content = file.read(size)
    if len(content) < size:
        raise ValueError(f"{tar} is truncated")
    return content


@lru_cache(maxsize=MAX_TARS_KEPT)
def _members(tar: str, size: int, mtime_ns: int) -> Mapping[str, tuple[int, int]]:
    """Read the table of contents; it is read again if size or time have changed."""
    try:
        with tarfile.open(tar, "r:") as file:
            found = {info.name: (info.offset_data, info.size) for info in file if info.isreg()}
    except tarfile.TarError as error:
        raise ValueError(f"{tar} is not an uncompressed tar file, or is damaged ({error})") from error
    if any(first + length > size for first, length in found.values()):
        raise ValueError(f"{tar} is truncated")
    return found

"""Read untrusted npz files: nothing is unpickled, and compression bombs are refused.

An npz file is a zip file of arrays in the format of numpy.lib.format.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xvectors.files import why_no_file

MAX_RATIO = 100
"""Largest ratio of unpacked to packed size; embeddings from `numpy.savez_compressed` are near 1."""
FREE_BYTES = 64 << 20
"""Unpacked size that is always allowed."""
SUFFIX = ".npy"

_FAULTS = (
    *(OSError, ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile, zlib.error, OverflowError),
    # encrypted or unknown compression; headers that defeat Python's parser
    *(RuntimeError, SyntaxError, tokenize.TokenError, MemoryError),
)


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name: all, or those of `names` that are present.

    Raises ValueError, with the reason, for a file that cannot be read, is damaged, is not npz, holds Python objects, or
    unpacks to more than `MAX_RATIO` times its size.
    """
    if why := why_no_file(path):
        raise ValueError(why)
    try:
        with zipfile.ZipFile(path) as archive:
            size, unpacked = path.stat().st_size, sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_RATIO * size + FREE_BYTES:
                raise ValueError(f"its {size:,} bytes unpack to {unpacked:,}")
            found = {}
            for entry in archive.infolist():
                name = entry.filename.removesuffix(SUFFIX)
                if names is None or name in names:
                    with archive.open(entry) as file:
                        found[name] = _read_array(file, entry.file_size, name)
            return found
    except _FAULTS as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _read_array(file: IO[bytes], size: int, name: str) -> NDArray[Any]:
    """Read one array after checking its header against the number of bytes."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has the format {version}")
    shape, by_columns, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not read")
    length = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or length != size - file.tell():
        raise ValueError(f"{name} has {size - file.tell():,} bytes where its shape {list(shape)} needs {length:,}")
    array = np.frombuffer(bytearray(file.read()), dtype=dtype) if length else np.empty(math.prod(shape), dtype=dtype)
    return array.reshape(shape, order="F" if by_columns else "C")

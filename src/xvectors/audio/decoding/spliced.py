"""A file object made of segments of another file and of given bytes, without copying."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO, TypeAlias

Stretch: TypeAlias = tuple[int, int]
"""First byte and end of a part of the file beneath."""
Piece: TypeAlias = bytes | Stretch


class Spliced(io.RawIOBase):
    """A file object made of pieces of `file`, one after another. The caller closes `file`."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._file = file
        self._pieces = list(pieces)
        self._ends = list(accumulate(_length(piece) for piece in self._pieces))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted, done = memoryview(buffer).cast("B"), 0
        while done < len(wanted):
            chunk = self._chunk(len(wanted) - done)
            if not chunk:
                break
            wanted[done : done + len(chunk)] = chunk
            done += len(chunk)
            self._at += len(chunk)
        return done

    def _chunk(self, most: int) -> bytes:
        """Read from the current position to at most the end of the piece."""
        index = bisect_right(self._ends, self._at)
        if index == len(self._pieces):
            return b""
        piece = self._pieces[index]
        skip = self._at - (self._ends[index] - _length(piece))
        if isinstance(piece, bytes):
            return piece[skip : skip + most]
        self._file.seek(piece[0] + skip)
        return self._file.read(min(most, piece[1] - piece[0] - skip))


def replaced(stretch: Stretch, patches: Sequence[tuple[int, bytes]]) -> list[Piece]:
    """Return `stretch` as pieces, with `patches`, (position, bytes) in ascending order, in place of the original."""
    pieces, at = list[Piece](), stretch[0]
    for position, content in patches:
        pieces += [(at, position), content]
        at = position + len(content)
    return [*pieces, (at, stretch[1])]


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]

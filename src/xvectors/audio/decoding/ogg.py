"""Split Ogg files into their streams, and supply missing end marks.

libsndfile reads only the first of several chained streams, and no Opus stream without an end mark. Pages and their
checksum follow RFC 3533.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from xvectors.audio.decoding.spliced import Piece, replaced
from xvectors.errors import AudioFileError, TruncatedFileError

HEADER_BYTES = 27
FIRST, LAST = 2, 4


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream's bytes as pieces of the file, the samples of its last page, and whether that is marked as the last."""

    pieces: tuple[Piece, ...]
    last_samples: int
    has_end_mark: bool


def streams(file: BinaryIO, size: int, name: str) -> list[Stream]:
    """Return the streams of an Ogg file of `size` bytes, and mark the end of those without an end mark.

    Raises TruncatedFileError if the last page is incomplete, AudioFileError if something is not a page.
    """
    found, at = list[Stream](), 0
    starts, positions, last, was_first = list[int](), [0, 0], 0, False
    while at < size:
        file.seek(at)
        head = file.read(HEADER_BYTES + 255)
        if not head.startswith(b"OggS"):
            if _only_zeros(file, at):
                break  # padding
            raise AudioFileError(f"{name}: damaged: no Ogg page at byte {at}; replace the file")
        num_segments = head[26] if len(head) >= HEADER_BYTES else 255
        end = at + HEADER_BYTES + num_segments + sum(head[HEADER_BYTES : HEADER_BYTES + num_segments])
        if end > size or len(head) < HEADER_BYTES + num_segments:
            raise TruncatedFileError(f"{name}: truncated: its last Ogg page is incomplete; replace the file")
        is_first = bool(head[5] & FIRST)
        if is_first and not was_first:
            if starts:
                found.append(_stream(file, starts[-1], last, at, positions))
            starts.append(at)
            positions = [0, 0]
        position = struct.unpack("<q", head[6:14])[0]  # samples up to here; -1 where no packet ends
        if position >= 0:
            positions = [positions[1], position]
        was_first, last, at = is_first, at, end
    if starts:
        found.append(_stream(file, starts[-1], last, at, positions))
    return found


def _stream(file: BinaryIO, start: int, last: int, end: int, positions: list[int]) -> Stream:
    """Return the stream from `start` to `end`, with its last page at `last`."""
    file.seek(last)
    page = bytearray(file.read(end - last))
    last_samples = max(0, positions[1] - positions[0])
    if page[5] & LAST:
        return Stream(((start, end),), last_samples, True)
    page[5] |= LAST
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _checksum(page))
    return Stream(tuple(replaced((start, end), [(last, bytes(page))])), last_samples, False)


def _only_zeros(file: BinaryIO, at: int) -> bool:
    """Whether only zeros follow."""
    file.seek(at)
    while content := file.read(1 << 20):
        if content.strip(b"\0"):
            return False
    return True


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


def _checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value

"""Find the true length of FLAC files whose header leaves it open, from their last frame.

An encoder that writes to a pipe states a length of zero. The last frame states the number of its first sample and of
its samples. Frame headers and checksums follow RFC 9639.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from xvectors.audio.decoding.spliced import Piece, replaced
from xvectors.errors import TruncatedFileError

STREAMINFO_BYTES = 8 + 34
TOTAL_AT = 8 + 13
"""The byte whose lower half begins the 36 bits of the total number of samples."""
MAX_TAIL_BYTES = 1 << 20
ID3V1_BYTES = 128


@dataclass(frozen=True, slots=True)
class _Last:
    first_sample: int
    num_samples: int

    @property
    def end(self) -> int:
        return self.first_sample + self.num_samples


def streams(file: BinaryIO, start: int, size: int, name: str) -> list[tuple[Piece, ...]]:
    """Return the pieces of each FLAC stream from `start` on, with lengths filled in; joined files have several streams.

    Raises TruncatedFileError where the length is not stated and the last frame is incomplete.
    """
    starts = _starts(file, start, size)
    if not starts:
        return [((0, size),)]  # libsndfile reports what is wrong
    found = [_stream(file, first, end, name) for first, end in pairwise([*starts, size])]
    return [((0, size),)] if found == [((starts[0], size),)] else found


def _stream(file: BinaryIO, start: int, end: int, name: str) -> tuple[Piece, ...]:
    head = _head(file, start)
    stated, last = _stated(head), _last_frame(file, start, end, head)
    if stated and (last is None or last.end <= stated):
        return ((start, end),)
    last = _last_frame(file, start, end, head, whole=True)
    if last is None and not stated:
        raise TruncatedFileError(
            f"{name}: truncated: its last FLAC frame is incomplete, and its header states no length; replace the file"
        )
    if last is None:
        return ((start, end),)
    filled = bytes([head[TOTAL_AT] & 0xF0 | last.end >> 32 & 0xF]) + (last.end & 0xFFFFFFFF).to_bytes(4)
    return tuple(replaced((start, end), [(start + TOTAL_AT, filled)]))


def _head(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.read(STREAMINFO_BYTES)


def _stated(head: bytes) -> int | None:
    """Return the number of samples that a header states, 0 if it states none; None if this is not a header."""
    if len(head) < STREAMINFO_BYTES or head[:4] != b"fLaC" or head[4] & 0x7F or head[5:8] != b"\0\0\x22":
        return None
    return (head[TOTAL_AT] & 0xF) << 32 | int.from_bytes(head[TOTAL_AT + 1 : TOTAL_AT + 5])


def _starts(file: BinaryIO, at: int, size: int) -> list[int]:
    """Return the positions of headers."""
    starts, step = list[int](), 1 << 20
    while at < size:
        file.seek(at)
        content = file.read(step + STREAMINFO_BYTES)
        place = content.find(b"fLaC")
        while 0 <= place < step:
            if _stated(content[place : place + STREAMINFO_BYTES]) is not None:
                starts.append(at + place)
            place = content.find(b"fLaC", place + 1)
        at += step
    return starts


def _last_frame(file: BinaryIO, start: int, end: int, head: bytes, *, whole: bool = False) -> _Last | None:
    """Return the last frame between `start` and `end`; with `whole` only a frame that ends exactly at `end`."""
    file.seek(max(start, end - ID3V1_BYTES))
    if file.read(3) == b"TAG":
        end -= ID3V1_BYTES
    most = int.from_bytes(head[10:12])  # samples of a frame
    channels = (head[20] >> 1 & 7) + 1
    tail_bytes = min(MAX_TAIL_BYTES, 2 * most * channels * 4 + 4096)
    begin = max(start + STREAMINFO_BYTES, end - tail_bytes)
    file.seek(begin)
    tail = file.read(end - begin)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        frame = _frame(tail, at, head)
        if frame is not None and (not whole or _crc16(tail[at:]) == 0):
            return frame
    return None


def _frame(content: bytes, at: int, head: bytes) -> _Last | None:
    """Return the frame at `at`; None if its marks or its checksum are wrong."""
    header = content[at : at + 16]
    if len(header) < 6 or header[1] not in (0xF8, 0xF9) or header[3] & 1:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 15
    if not size_code or rate_code == 15 or header[3] >> 4 > 10:
        return None
    lead = header[4]
    num_more = 0 if lead < 0x80 else 8 - (~lead & 0xFF).bit_length() - 1
    if num_more < 0 or num_more > 6 or (lead >= 0x80 and num_more == 0):
        return None
    number = lead if lead < 0x80 else lead & (0x7F >> (num_more + 1))
    for byte in header[5 : 5 + num_more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    place = 5 + num_more
    if size_code in (6, 7):
        wide = size_code - 5
        num_samples = int.from_bytes(header[place : place + wide]) + 1
        place += wide
    else:
        num_samples = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    place += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if place >= len(header) or _crc8(header[:place]) != header[place]:
        return None
    fixed = int.from_bytes(head[8:10])  # all frames but the last hold as many
    return _Last(number if header[1] & 1 else number * fixed, num_samples)


def _crc8(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 if value & 0x80 else value << 1) & 0xFF
    return value


def _crc16(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
    return value

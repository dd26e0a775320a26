"""Sound containers by their bytes. In: an open file. Out: whether it is whole, and who can decode it.

libsndfile shortens a truncated file without a word; what the container states is compared with what there is here.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from xvectors.errors import TruncatedFileError

# Sizes that recorders write when they stream and cannot know the length yet (0xFFFFFFFF; sox: 0x7FFFF000).
SMALLEST_STREAMING_SIZE = 0x7FFFF000
LARGEST_OGG_PAGE_BYTES = 65_307


def needs_ffmpeg(head: bytes) -> bool:
    """Whether the first bytes are of a container that libsndfile does not know."""
    return (
        head[4:8] == b"ftyp"  # MP4, M4A, MOV, 3GP
        or head.startswith((b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75", b"#!AMR"))  # WebM and Matroska, WMA, AMR
        or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0)  # AAC with ADTS headers
    )


def check_end(file: BinaryIO, head: bytes, size: int, name: str) -> int | None:
    """Raise TruncatedFileError where the container states more bytes than there are.

    Returns the position of a WAV or AIFF size field left at 0 though sound follows, else None.
    """
    if head[:4] in {b"RIFF", b"RIFX", b"RF64"} and head[8:12] == b"WAVE":
        return _check_chunks(file, b"data", ">" if head[:4] == b"RIFX" else "<", size, name)
    if head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"}:
        return _check_chunks(file, b"SSND", ">", size, name)
    if head[:4] == b"OggS":
        tail_start = max(0, size - LARGEST_OGG_PAGE_BYTES)
        file.seek(tail_start)
        tail = file.read(LARGEST_OGG_PAGE_BYTES)
        page = tail[tail.rfind(b"OggS") :]
        num_segments = page[26] if len(page) > 26 else 255
        if len(page) < 27 + num_segments + sum(page[27 : 27 + num_segments]):
            raise TruncatedFileError(f"{name}: truncated: its last Ogg page is incomplete; replace the file")
    return None


def _check_chunks(file: BinaryIO, wanted: bytes, order: str, size: int, name: str) -> int | None:
    position, wide_size = 12, None
    while position + 8 <= size:
        file.seek(position)
        chunk = file.read(8)
        kind, stated = chunk[:4], struct.unpack(order + "I", chunk[4:])[0]
        if kind == b"ds64":
            wide_size = struct.unpack("<QQ", file.read(16))[1]
        elif kind == wanted:
            if stated == 0xFFFFFFFF and wide_size is not None:
                stated = wide_size
            elif stated >= SMALLEST_STREAMING_SIZE:
                return None
            there = size - position - 8
            if stated > there:
                raise TruncatedFileError(
                    f"{name}: truncated: its header states {stated} bytes of sound, {there} are there; replace the file"
                )
            follows = file.read(4)
            unfinished = stated == 0 and there > 0 and not (follows.isascii() and follows.decode().isprintable())
            return position + 4 if unfinished else None
        position += 8 + stated + stated % 2
    return None


def with_size(file: BinaryIO, position: int, size: int, *, big_endian: bool) -> io.BytesIO:
    """A copy of a streamed file in memory, its size field filled in."""
    content = bytearray(file.read())
    struct.pack_into(">I" if big_endian else "<I", content, position, size - position - 4)
    return io.BytesIO(bytes(content))

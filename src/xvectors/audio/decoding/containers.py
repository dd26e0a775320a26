"""Parse sound containers: which streams a file holds, and what is missing from it.

libsndfile shortens truncated files silently, reads only the first of several joined files, and trusts estimated
lengths. Here the length that a container states is compared with the data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from xvectors.audio.decoding import flac, mpeg, ogg
from xvectors.audio.decoding.spliced import Piece

HEAD_BYTES = 64
# Sizes that recorders write when they stream and do not know the length yet (0xFFFFFFFF; sox: 0x7FFFF000).
MIN_STREAMING_SIZE = 0x7FFFF000
FOREIGN = (
    b"\x1a\x45\xdf\xa3",  # WebM and Matroska
    b"\x30\x26\xb2\x75",  # WMA
    *(b"#!AMR", b"FLV\1", b"MAC ", b"wvpk", b"TTA1", b"ADIF"),
)
KNOWN = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"OggS", b"fLaC", b"caff", b".snd", b"ID3", b"riff", b"\xff")
"""First bytes of files that FFmpeg may read if libsndfile cannot."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stream that can be decoded by itself.

    Attributes
    ----------
    pieces : the pieces of the file that make up the stream
    num_samples, tolerance : number of samples that a decoder must find, and how many may be missing; None if the
        stream's own header is to be believed
    last_samples : number of samples in the last page of an Ogg stream
    """

    pieces: tuple[Piece, ...]
    num_samples: int | None = None
    tolerance: int = 0
    last_samples: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the sound lies in a file.

    Attributes
    ----------
    parts : streams, one after another; empty if libsndfile does not know the container
    missing : length of the missing sound, as a share of the sound that is there
    stated, there : the stated and the actual length, for an error
    states_length : whether FFmpeg can know the length without decoding
    notes : what users should know about the file
    """

    parts: tuple[Part, ...]
    missing: float = 0.0
    stated: str = ""
    there: str = ""
    states_length: bool = True
    notes: tuple[str, ...] = ()


def may_be_foreign(head: bytes) -> bool:
    """Whether the first bytes are of a container that FFmpeg may read where libsndfile cannot."""
    return head.startswith(KNOWN)


def inspect(file: BinaryIO, head: bytes, size: int, name: str) -> Layout:
    """Return the layout of a file of `size` bytes with the first bytes `head`.

    Raises AudioFileError, mostly TruncatedFileError, where the container shows that sound is lost.
    """
    whole = Layout((Part(((0, size),)),))
    start = mpeg.id3v2_end(head)
    if start:
        file.seek(start)
        head = file.read(HEAD_BYTES)
    if head[4:8] == b"ftyp" or head.startswith(FOREIGN):  # ftyp: MP4, M4A, MOV, 3GP
        return Layout((), states_length=not head.startswith(b"#!AMR"))
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # AAC with ADTS headers
        return Layout((), states_length=False)
    if head[:4] == b"OggS":
        found = ogg.streams(file, size, name)
        ended = all(stream.has_end_mark for stream in found)
        notes = () if ended else ("the recording has no end mark: its end may be missing",)
        return Layout(tuple(Part(stream.pieces, last_samples=stream.last_samples) for stream in found), notes=notes)
    if head[:4] == b"fLaC":
        return Layout(tuple(Part(pieces) for pieces in flac.streams(file, start, size, name)))
    if start or head[:1] == b"\xff" or head[:3] == b"TAG":
        return _mpeg(file, size, name) or whole
    walk = _WALKS.get(head[:4]) or _WALKS.get(head[:2])
    if walk is None:
        return whole
    return _chunked(list(walk(file, size))) or whole


def _mpeg(file: BinaryIO, size: int, name: str) -> Layout | None:
    found = mpeg.streams(file, size, name)
    if found is None:
        return None
    missing = sum(stream.missing_samples for stream in found)
    there = sum(stream.num_samples for stream in found)
    parts = tuple(Part(stream.pieces, stream.num_samples, mpeg.MAX_PADDING) for stream in found)
    return Layout(parts, missing / max(1, there), f"{there + missing} samples per channel", str(there))


@dataclass(frozen=True, slots=True)
class _Data:
    """The chunk with the samples of one of several joined files, from `start` to `end`."""

    start: int
    end: int
    first_byte: int
    stated: int | None  # None: it was written as a stream
    size_field: tuple[int, bytes] | None = None  # where the size stands, and what is right there
    num_samples: int | None = None  # of encodings in packets


def _chunked(found: list[_Data]) -> Layout | None:
    if not found:
        return None
    parts = list[Part]()
    missing = there = stated = 0
    for data in found:
        pieces: list[Piece] = [(data.start, data.end)]
        if data.size_field is not None:
            at, content = data.size_field
            pieces = [(data.start, at), content, (at + len(content), data.end)]
        parts.append(Part(tuple(pieces), data.num_samples))
        room = data.end - data.first_byte
        wanted = room if data.stated is None else data.stated
        stated += wanted
        there += min(room, wanted)
        missing += max(0, wanted - room)
    return Layout(tuple(parts), missing / max(1, there), f"{stated} bytes of sound", str(there))


def _chunks(file: BinaryIO, at: int, end: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, first byte and stated size of the chunks from `at` to `end`."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        kind, stated = head[:4], struct.unpack(order + "I", head[4:])[0]
        yield kind, at + 8, stated
        at += 8 + stated + stated % 2


def _walk_iff(file: BinaryIO, size: int) -> Iterator[_Data]:
    """Walk WAV, AIFF and 8SVX, which may be several joined files."""
    start = 0
    while start + 12 <= size:
        file.seek(start)
        head = file.read(12)
        order = ">" if head[:4] in (b"RIFX", b"FORM") else "<"
        wanted = _SOUND_CHUNKS.get((head[:4], head[8:]))
        if wanted is None:
            return
        end = _end_of_form(file, start, size, struct.unpack(order + "I", head[4:8])[0])
        data = _find_data(file, start, end, order, wanted)
        if data is None:
            return
        yield data
        start = end


def _end_of_form(file: BinaryIO, start: int, size: int, stated: int) -> int:
    """Return the end of the file, or the start of another file that was joined to it."""
    end = start + 8 + stated + stated % 2
    if end + 12 > size:
        return size
    file.seek(end)
    head = file.read(12)
    return end if (head[:4], head[8:]) in _SOUND_CHUNKS else size


def _find_data(file: BinaryIO, start: int, end: int, order: str, wanted: bytes) -> _Data | None:
    wide = None
    for kind, at, stated in _chunks(file, start + 12, end, order):
        if kind == b"ds64":
            file.seek(at)
            sizes = file.read(16)
            wide = struct.unpack("<QQ", sizes)[1] if len(sizes) == 16 else None
        if kind != wanted:
            continue
        if stated == 0xFFFFFFFF and wide is not None:
            return _Data(start, end, at, wide)
        if stated >= MIN_STREAMING_SIZE and stated > end - at:
            return _Data(start, end, at, None)
        if stated == 0 and end > at and not _only_chunks(file, at, end, order):
            return _Data(start, end, at, None, (at - 4, struct.pack(order + "I", min(end - at, 0xFFFFFFFF))))
        return _Data(start, end, at, stated)
    return None


def _only_chunks(file: BinaryIO, at: int, end: int, order: str) -> bool:
    """Whether everything up to the end consists of chunks."""
    last = at
    for kind, first, stated in _chunks(file, at, end, order):
        if not (kind.isascii() and kind.decode().isprintable()) or first + stated > end:
            return False
        last = first + stated
    return end - last <= 1


def _walk_au(file: BinaryIO, size: int) -> Iterator[_Data]:
    start: int | None = 0
    while start is not None:
        file.seek(start + 4)
        head = file.read(8)
        if len(head) < 8:
            return
        first, stated = struct.unpack(">II", head)
        behind = None if stated == 0xFFFFFFFF else _another(file, start, start + first + stated, b".snd", size)
        yield _Data(start, behind or size, start + first, None if stated == 0xFFFFFFFF else stated)
        start = behind


def _walk_wave64(file: BinaryIO, size: int) -> Iterator[_Data]:
    start, at = 0, 40  # behind the two identifiers and the size
    while at + 24 <= size:
        file.seek(at)
        head = file.read(24)
        stated = struct.unpack("<Q", head[16:])[0]  # with these 24 bytes
        end = at + max(24, stated + -stated % 8)
        if head[:4] == b"data":
            streamed = stated < 24 or stated >= 1 << 62
            behind = None if streamed else _another(file, start, end, b"riff", size)
            yield _Data(start, behind or size, at + 24, None if streamed else stated - 24)
            if behind is None:
                return
            start, end = behind, behind + 40
        at = end


def _walk_caf(file: BinaryIO, size: int) -> Iterator[_Data]:
    start, at, num_samples = 0, 8, None
    sound: tuple[int, int] | None = None  # first byte, stated
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        stated = struct.unpack(">q", head[4:])[0]
        if sound is not None and head[:4] == b"caff":
            yield _Data(start, at, *sound, None, num_samples)
            start, at, num_samples, sound = at, at + 8, None, None
            continue
        if head[:4] == b"pakt":  # packets, then the samples in them
            file.seek(at + 20)
            num_samples = struct.unpack(">q", file.read(8).rjust(8, b"\0"))[0]
        if head[:4] == b"data" and stated == -1:
            yield _Data(start, size, at + 16, None, (at + 4, struct.pack(">q", size - at - 12)), num_samples)
            return
        if head[:4] == b"data":
            sound = at + 16, max(0, stated - 4)
        if stated < 0:
            break
        at += 12 + stated
    if sound is not None:
        yield _Data(start, size, *sound, None, num_samples)


def _another(file: BinaryIO, start: int, at: int, magic: bytes, size: int) -> int | None:
    """Return `at` if another file of the same kind begins there, after the one that begins at `start`."""
    if not start < at < size - HEAD_BYTES:
        return None
    file.seek(at)
    return at if file.read(4) == magic else None


def _walk_voc(file: BinaryIO, size: int) -> Iterator[_Data]:
    """Creative Voice: blocks of a kind and three bytes of size; sound, silence, and more sound."""
    file.seek(20)
    at = int.from_bytes(file.read(2), "little")
    first = 0
    while 22 <= at < size:
        file.seek(at)
        block = file.read(4)
        if not block[0]:
            break
        if block[0] in (1, 2, 9):
            first = first or at + 4
        at += 4 + int.from_bytes(block[1:], "little")
    if first:
        yield _Data(0, size, first, at - first)


def _walk_avr(file: BinaryIO, size: int) -> Iterator[_Data]:
    """Audio Visual Research: a header of 128 bytes."""
    file.seek(12)
    head = file.read(18)
    if len(head) == 18:
        is_stereo, bits, count = struct.unpack(">HH10xI", head)
        yield _Data(0, size, 128, count * (bits // 8) * (2 if is_stereo else 1))


def _walk_psion(file: BinaryIO, size: int) -> Iterator[_Data]:
    """Psion's A-law: a header of 32 bytes."""
    file.seek(18)
    yield _Data(0, size, 32, int.from_bytes(file.read(4)))


def _walk_mpc2000(file: BinaryIO, size: int) -> Iterator[_Data]:
    """Akai MPC 2000: a header of 42 bytes."""
    file.seek(21)
    head = file.read(13)
    if len(head) == 13:
        is_stereo, count = struct.unpack("<B8xI", head)
        yield _Data(0, size, 42, count * 2 * (2 if is_stereo else 1))


def _walk_sphere(file: BinaryIO, size: int) -> Iterator[_Data]:
    """NIST SPHERE: a text header of `name -type value` lines."""
    file.seek(0)
    lines = file.read(16384).split(b"\n")
    fields = {words[0]: words[2] for words in (line.split(None, 2) for line in lines[2:]) if len(words) == 3}
    try:
        first = int(lines[1])
        count = int(fields[b"sample_count"])
        width = int(fields.get(b"sample_n_bytes", b"2")) * int(fields.get(b"channel_count", b"1"))
    except (IndexError, KeyError, ValueError):
        return
    if b"shorten" not in fields.get(b"sample_coding", b""):
        yield _Data(0, size, first, max(0, count * width))


_SOUND_CHUNKS = {
    (b"RIFF", b"WAVE"): b"data",
    (b"RIFX", b"WAVE"): b"data",
    (b"RF64", b"WAVE"): b"data",
    (b"FORM", b"AIFF"): b"SSND",
    (b"FORM", b"AIFC"): b"SSND",
    (b"FORM", b"8SVX"): b"BODY",
    (b"FORM", b"16SV"): b"BODY",
}
_WALKS: dict[bytes, Callable[[BinaryIO, int], Iterator[_Data]]] = {
    b"RIFF": _walk_iff,
    b"RIFX": _walk_iff,
    b"RF64": _walk_iff,
    b"FORM": _walk_iff,
    b".snd": _walk_au,
    b"riff": _walk_wave64,
    b"caff": _walk_caf,
    b"NIST": _walk_sphere,
    b"Crea": _walk_voc,
    b"2BIT": _walk_avr,
    b"ALaw": _walk_psion,
    b"\x01\x04": _walk_mpc2000,
}
UNCHECKED = ("PAF", "PVF", "IRCAM", "MAT4", "MAT5", "XI")
"""libsndfile's names of formats that state no length, or state it where no speech corpus is worth a walk."""

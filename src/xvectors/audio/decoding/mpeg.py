"""Count the frames of MPEG audio (MP3), and split joined streams.

libsndfile trusts the Xing header or, without one, estimates the length from the bit rate of the first frame, and stops
there. Frame headers follow ISO/IEC 11172-3 and 13818-3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from xvectors.audio.decoding.spliced import Piece
from xvectors.errors import AudioFileError

_KBPS = {
    # (MPEG 1, layer): kbit/s of index 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version bits
XING_BYTES_LEAST = 192
"""A frame that holds a Xing header and is not too short for decoders to look for one."""
ID3V1_BYTES, APE_BYTES, ID3V2_BYTES = 128, 32, 10
WINDOW_BYTES = 1 << 20
MAX_PADDING = 2 * 4095 + 1152
"""Samples that decoders leave out as an encoder's delay and padding: 12 bits each in LAME's header."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of a frame. `key` is equal in all frames of a stream."""

    size: int
    num_samples: int
    sample_rate_hz: int
    key: int
    xing_at: int  # where a Xing header stands in a Layer III frame; 0 in other layers


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream to decode: its bytes as pieces of the file, the samples that its frames hold (with the encoder's delay
    and padding), the number of its frames, and what its Xing header says, where it has one."""

    pieces: tuple[Piece, ...]
    num_samples: int
    num_frames: int
    xing: _Xing | None

    @property
    def missing_samples(self) -> int:
        """Number of samples that the Xing header states and the stream lacks."""
        if self.xing is None or self.xing.num_frames is None:
            return 0
        return max(0, self.xing.num_frames - self.num_frames) * self.num_samples // max(1, self.num_frames)


def parse(header: int) -> Frame | None:
    """Return the frame that begins with these 32 bits; None if they are not a header, or one without a bit rate."""
    if header >> 21 != 0x7FF:
        return None
    version, layer_bits = header >> 19 & 3, header >> 17 & 3
    rate_index, bit_rate_index = header >> 10 & 3, header >> 12 & 15
    if version == 1 or not layer_bits or rate_index == 3 or not 0 < bit_rate_index < 15:
        return None
    layer, is_one = 4 - layer_bits, version == 3
    kbps, rate_hz = _KBPS[is_one, layer][bit_rate_index - 1], _RATES_HZ[version][rate_index]
    padding, mono = header >> 9 & 1, header >> 6 & 3 == 3
    if layer == 1:
        size, num_samples = (12_000 * kbps // rate_hz + padding) * 4, 384
    else:
        num_samples = 576 if layer == 3 and not is_one else 1152
        size = num_samples // 8 * 1000 * kbps // rate_hz + padding
    side_bytes = (17 if mono else 32) if is_one else (9 if mono else 17)
    # protection is no part of the key, nor is how stereo is coded
    key = header & 0xFFFE0C00 | mono
    return Frame(size, num_samples, rate_hz, key, 4 + side_bytes if layer == 3 else 0)


_PARSED: dict[int, Frame | None] = {}


def _parsed(header: int) -> Frame | None:
    if header not in _PARSED:
        if len(_PARSED) > 4096:
            _PARSED.clear()
        _PARSED[header] = parse(header)
    return _PARSED[header]


def streams(file: BinaryIO, size: int, name: str) -> list[Stream] | None:
    """Return the MPEG streams of a file of `size` bytes; None for other files, and for the uncounted free format.

    A Xing header, a tag, or another rate or number of channels begins a new stream: files that were joined. Raises
    AudioFileError where frames are missing between two that are there.
    """
    window = _Window(file, size)
    at = _first_frame(window, 0)
    found, end = list[Stream](), 0
    while at is not None:
        if found and (lost := at - _skip_tags(window, end)):
            raise AudioFileError(
                f"{name}: damaged: {lost} bytes from byte {end} on are no MPEG frame, and more frames follow; "
                "replace the file"
            )
        stream, end = _stream(window, at)
        if stream.num_frames:
            found.append(stream)
        at = _first_frame(window, end)
    return found or None


def _stream(window: _Window, start: int) -> tuple[Stream, int]:
    """Return the stream that starts at `start`, and its end."""
    word = window.word(start)
    first = _parsed(word)
    assert first is not None
    tag = _xing(window, start, first)
    body = start if tag is None else start + first.size
    if tag and tag.num_frames and tag.num_bytes and _is_last(window, start + tag.num_bytes):
        return Stream(((start, start + tag.num_bytes),), tag.num_frames * first.num_samples, tag.num_frames, tag), (
            start + tag.num_bytes
        )
    at, num_frames = body, 0
    while (frame := _parsed(window.word(at))) is not None and frame.key == first.key:
        if at + frame.size > window.size or (num_frames and _xing(window, at, frame) is not None):
            break
        num_frames += 1
        at += frame.size
    if not first.xing_at or (tag is not None and tag.num_frames == num_frames):
        pieces: tuple[Piece, ...] = ((start, at),)
    else:
        # A wrong or missing Xing header is replaced. What a wrong one says of the padding is wrong too, and goes.
        pieces = _xing_frame(word, num_frames, at - body), (body, at)
    return Stream(pieces, num_frames * first.num_samples, num_frames, tag), at


@dataclass(frozen=True, slots=True)
class _Xing:
    num_frames: int | None
    num_bytes: int | None


def _xing(window: _Window, at: int, frame: Frame) -> _Xing | None:
    if not frame.xing_at or window.read(at + frame.xing_at, 4) not in (b"Xing", b"Info"):
        return None
    content = window.read(at + frame.xing_at + 4, 12)
    if len(content) < 12:
        return None
    flags, *values = struct.unpack(">3I", content)
    num_frames = values.pop(0) if flags & 1 else None
    return _Xing(num_frames, values.pop(0) if flags & 2 else None)


def _xing_frame(word: int, num_frames: int, num_bytes: int) -> bytes:
    """Return a frame like that of header `word`, which states how many frames and bytes follow."""
    for bit_rate_index in range(1, 15):
        own = word & 0xFFFF0DFF & ~0xF000 | 0x10000 | bit_rate_index << 12  # no CRC, no padding
        frame = parse(own)
        if frame is not None and frame.size >= XING_BYTES_LEAST:
            head = struct.pack(">I", own).ljust(frame.xing_at, b"\0")
            return (head + b"Xing" + struct.pack(">3I", 3, num_frames, num_bytes + frame.size)).ljust(frame.size, b"\0")
    raise AssertionError("every rate has a bit rate with frames long enough")


def id3v2_end(content: bytes, at: int = 0) -> int:
    """Return the end of an ID3v2 tag at `at`, from its first ten bytes; `at` if there is no tag."""
    if content[:3] != b"ID3" or len(content) < ID3V2_BYTES or any(byte & 0x80 for byte in content[6:10]):
        return at
    size = content[6] << 21 | content[7] << 14 | content[8] << 7 | content[9]
    return at + ID3V2_BYTES + size + (ID3V2_BYTES if content[5] & 0x10 else 0)


def _skip_tags(window: _Window, at: int) -> int:
    """Return the position after all tags and zeros at `at`."""
    while True:
        head = window.read(at, APE_BYTES)
        if head.startswith(b"ID3"):
            end = id3v2_end(head, at)
        elif head.startswith(b"TAG"):
            end = at + ID3V1_BYTES
        elif head.startswith(b"APETAGEX") and len(head) == APE_BYTES:
            size, flags = struct.unpack("<I", head[12:16])[0], struct.unpack("<I", head[20:24])[0]
            is_header = flags & 0x2000_0000
            end = at + APE_BYTES + (size if is_header else 0)
        else:
            end = at + len(head) - len(head.lstrip(b"\0"))
        if end == at:
            return at
        at = end


def _is_last(window: _Window, at: int) -> bool:
    """Whether nothing but tags follows."""
    return at <= window.size and _skip_tags(window, at) >= window.size


def _first_frame(window: _Window, at: int) -> int | None:
    """Return the first frame from `at` on that another of its kind follows, or the end; None if there is none."""
    at = _skip_tags(window, at)
    while (at := window.find(0xFF, at)) >= 0:
        frame = _parsed(window.word(at))
        if frame is not None:
            behind = at + frame.size
            following = _parsed(window.word(behind))
            if (following is not None and following.key == frame.key) or behind == window.size:
                return at
        at += 1
    return None


class _Window:
    """The bytes of a file by position, read in blocks."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file, self._start, self._bytes = file, 0, b""

    def read(self, at: int, count: int) -> bytes:
        """Read bytes; fewer at the end of the file."""
        if not self._start <= at <= self._start + len(self._bytes) - count:
            self._file.seek(at)
            self._start, self._bytes = at, self._file.read(WINDOW_BYTES)
        return self._bytes[at - self._start : at - self._start + count]

    def word(self, at: int) -> int:
        """Return four bytes as a number; 0 beyond the end of the file."""
        return int.from_bytes(word) if len(word := self.read(at, 4)) == 4 else 0

    def find(self, byte: int, at: int) -> int:
        """Return the position of `byte` from `at` on; -1 if it does not occur."""
        while at < self.size:
            self.read(at, 1)
            if (found := self._bytes.find(byte, at - self._start)) >= 0:
                return self._start + found
            at = self._start + max(1, len(self._bytes))
        return -1

"""Small whole recordings of every kind that is read, and damage that their checksums do not give away.

In: nothing. Out: bytes by a name, and mutated bytes.
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mutations import drop_block, flip_bits, repeat_block, set_bytes, splice, swap_blocks, truncate

from support.sounds import (
    by_ffmpeg,
    encoded,
    noise,
    ogg_checksum,
    ogg_pages,
    without_end_mark,
    without_length,
    without_xing,
)

SECONDS = 0.5
NUMBERS = (0, 1, 2, 7, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
HEAD_BYTES = 128
"""Where headers' numbers stand in such files."""

BY_LIBSNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "wav-24": ("WAV", "PCM_24"),
    "wav-float": ("WAV", "FLOAT"),
    "wav-double": ("WAV", "DOUBLE"),
    "wav-ulaw": ("WAV", "ULAW"),
    "wav-gsm": ("WAV", "GSM610"),
    "wav-ima": ("WAV", "IMA_ADPCM"),
    "wav-ms": ("WAV", "MS_ADPCM"),
    "wav-g721": ("WAV", "G721_32"),
    "wav-nms": ("WAV", "NMS_ADPCM_16"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "aiff-ima": ("AIFF", "IMA_ADPCM"),
    "au": ("AU", "PCM_16"),
    "au-g723": ("AU", "G723_24"),
    "caf": ("CAF", "PCM_16"),
    "caf-alac": ("CAF", "ALAC_16"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "nist": ("NIST", "PCM_16"),
    "svx": ("SVX", "PCM_16"),
    "voc": ("VOC", "PCM_16"),
    "paf": ("PAF", "PCM_24"),
    "xi": ("XI", "DPCM_16"),
    "mat5": ("MAT5", "PCM_16"),
    "mat4": ("MAT4", "PCM_16"),
    "avr": ("AVR", "PCM_16"),
    "wve": ("WVE", "ALAW"),
    "mpc2k": ("MPC2K", "PCM_16"),
    "htk": ("HTK", "PCM_16"),
    "pvf": ("PVF", "PCM_16"),
    "ircam": ("IRCAM", "PCM_16"),
}
BY_FFMPEG = {
    "m4a": ("aac", "ipod"),
    "webm": ("libopus", "webm"),
    "wma": ("wmav2", "asf"),
    "aac": ("aac", "adts"),
    "oga-flac": ("flac", "ogg"),
}
RATES_HZ = {"wve": 8000}


def sound_files() -> dict[str, bytes]:
    """About half a second of each; some in stereo, some of two joined."""
    stereo = np.stack([noise(SECONDS), noise(SECONDS, seed=1)], 1)
    found = dict[str, bytes]()
    for name, kind in BY_LIBSNDFILE.items():
        rate = RATES_HZ.get(name, 16_000)
        found[name] = encoded(noise(SECONDS, rate), *kind, rate)
    for name in ("wav", "flac", "vorbis", "opus", "mp3", "caf", "aiff"):
        found[name + "-stereo"] = encoded(stereo, *BY_LIBSNDFILE[name])
        found[name + "-joined"] = found[name] * 2
    found["mp3-without-xing"] = without_xing(found["mp3"])
    found["flac-without-length"] = without_length(found["flac"])
    found["opus-without-end"] = without_end_mark(found["opus"])
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, container) in BY_FFMPEG.items():
            rate = 48_000 if codec == "libopus" else 16_000
            path = by_ffmpeg(Path(folder, name), noise(SECONDS, rate), codec, rate, container)
            found[name] = path.read_bytes()
    return {name: _repeatable(content) for name, content in found.items()}


def _repeatable(content: bytes) -> bytes:
    """Without the numbers that encoders draw and the times that they write, but for WebM and MAT5."""
    if (at := content.find(b"PEAK", 0, 128)) > 0:  # its size, its version, and the time
        return content[: at + 12] + bytes(4) + content[at + 16 :]
    if content[:4] != b"OggS":
        return content
    return _with_checksums(b"".join(page[:14] + bytes(4) + page[18:] for page in ogg_pages(content)))


def set_number(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    """A header's number becomes another, or a little more or less."""
    width, order = rng.choice((2, 4, 8)), rng.choice("<>")
    at = rng.randrange(min(HEAD_BYTES, len(data)))
    if at + width > len(data):
        return data
    kind = order + {2: "H", 4: "I", 8: "Q"}[width]
    before = struct.unpack(kind, data[at : at + width])[0]
    after = rng.choice(
        (before + rng.randrange(-3, 4), before * 2, before // 2, rng.choice(NUMBERS), rng.getrandbits(64))
    )
    data[at : at + width] = struct.pack(kind, after % (1 << 8 * width))
    return data


def exchange_chunks(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    """The head of another file before the rest of this one: another format's, another length's."""
    other = rng.choice(donors)
    size = rng.choice((4, 12, 36, 44, 64, 128))
    return bytearray(other[:size]) + data[size:]


MUTATIONS = (
    *(set_number, set_number, set_number, set_number, flip_bits, flip_bits, set_bytes, set_bytes, truncate),
    *(drop_block, repeat_block, swap_blocks, splice, exchange_chunks),
)


def damaged(data: bytes, rng: random.Random, donors: Sequence[bytes]) -> bytes:
    """`data` with one to four mutations; of most Ogg files the pages' checksums are right again."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        changed = rng.choice(MUTATIONS)(changed, rng, donors)
    return _with_checksums(bytes(changed)) if changed[:4] == b"OggS" and rng.random() < 0.8 else bytes(changed)


def _with_checksums(content: bytes) -> bytes:
    pages = []
    try:
        for page in ogg_pages(content):
            right = bytearray(page)
            right[22:26] = bytes(4)
            right[22:26] = struct.pack("<I", ogg_checksum(bytes(right)))
            pages.append(bytes(right))
    except (IndexError, struct.error):  # what is left is no page
        return content
    return b"".join(pages)

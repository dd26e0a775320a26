"""Sound files as careless programs leave them, made from those that libsndfile and FFmpeg write."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that encoders of variable bit rate vary it: float32 [samples]."""
    time = np.arange(round(seconds * rate)) / rate
    white = np.random.default_rng(seed).standard_normal(len(time))
    return (0.2 * (0.02 + np.square(np.sin(0.5 * time))) * white).astype(np.float32)


def encoded(samples: np.ndarray, kind: str, subtype: str, rate: int = RATE, **options: object) -> bytes:
    file = io.BytesIO()
    num_channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, num_channels, subtype, format=kind, **options) as out:
        for start in range(0, len(samples), 10 * rate):  # libsndfile's Vorbis encoder crashes on minutes at once
            out.write(samples[start : start + 10 * rate])
    return file.getvalue()


def mp3(samples: np.ndarray, rate: int = RATE) -> bytes:
    """Of variable bit rate, with LAME's Xing header."""
    return encoded(samples, "MP3", "MPEG_LAYER_III", rate, bitrate_mode="VARIABLE", compression_level=0.5)


def without_xing(content: bytes) -> bytes:
    """An MP3 of a mono file without its first frame, which holds the Xing header and no sound."""
    at = max(content.find(b"Xing", 0, 64), content.find(b"Info", 0, 64))
    assert at > 0
    sync = content[:2]
    return content[content.index(sync, at) :]


def ogg_pages(content: bytes) -> list[bytes]:
    pages, at = [], 0
    while at < len(content):
        num_segments = content[at + 26]
        end = at + 27 + num_segments + sum(content[at + 27 : at + 27 + num_segments])
        pages.append(content[at:end])
        at = end
    return pages


def ogg_checksum(page: bytes) -> int:
    """Bit by bit, as RFC 3533 defines it."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


def without_end_mark(content: bytes) -> bytes:
    """An Ogg file whose last page is not marked as the last."""
    *pages, last = ogg_pages(content)
    assert last[5] & 4
    page = bytearray(last)
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_checksum(bytes(page)))
    return b"".join(pages) + bytes(page)


def without_length(flac: bytes) -> bytes:
    """A FLAC file whose header states no number of samples."""
    content = bytearray(flac)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def by_ffmpeg(path: Path, samples: np.ndarray, codec: str, rate: int = RATE, container: str | None = None) -> Path:
    """Write float32 [samples] or [samples, 2] through PyAV, which the suite installs."""
    import av

    frames = np.ascontiguousarray(samples.reshape(len(samples), -1).T, dtype=np.float32)
    layout = "mono" if len(frames) == 1 else "stereo"
    with av.open(path, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 32_000
        stream.codec_context.open()
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, frames.shape[1], size):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(frames[:, start : start + size]), "fltp", layout)
            frame.sample_rate, frame.pts = rate, start
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path

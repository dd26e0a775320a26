"""Write audio files, and encode and decode in memory."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from xvectors.audio.sound import Samples
from xvectors.errors import AudioError
from xvectors.files import atomic_write

BLOCK_FRAMES = 1 << 16


def write(
    path: str | os.PathLike[str], samples: NDArray[np.floating], sample_rate_hz: int, subtype: str = "PCM_16"
) -> None:
    """Write [samples] or [samples, channels] atomically, in the format that the suffix of `path` names.

    Integer encodings clip samples outside [-1, 1). Raises AudioError for an encoding that the format lacks and for
    NaN or infinite samples in an integer encoding, StorageError if the file cannot be written.
    """
    path = Path(path)
    kind = {"OGA": "OGG", "OPUS": "OGG", "AIF": "AIFF"}.get(path.suffix[1:].upper(), path.suffix[1:].upper())
    if not soundfile.check_format(kind, subtype):
        known = soundfile.available_subtypes(kind) if kind in soundfile.available_formats() else {}
        offer = f"{kind} takes {', '.join(known)}" if known else "use a suffix such as .wav or .flac"
        raise AudioError(f"{path}: cannot be written as {subtype} {kind}; {offer}")
    if subtype not in {"FLOAT", "DOUBLE"} and not np.isfinite(samples).all():
        raise AudioError(f"{path}: NaN or infinite samples cannot be written as {subtype}; repair them or use FLOAT")
    # Encode in memory first: libsndfile reports success on a full disk.
    encoded = io.BytesIO()
    _encode(encoded, samples, sample_rate_hz, kind, subtype)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def encode_mp3(samples: Samples, sample_rate_hz: int) -> bytes:
    """Return float32 [samples] as MP3 of a constant bit rate, in which players find every position.

    The rate must be one of MP3's, such as 16,000 Hz. Samples that are not finite become 0. Raises AudioError where
    libsndfile cannot encode it.
    """
    encoded = io.BytesIO()
    try:
        _encode(encoded, np.nan_to_num(samples), sample_rate_hz, "MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT")
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"cannot encode {sample_rate_hz} Hz as MP3 ({error}); resample to 16000 Hz first") from error
    return encoded.getvalue()


def encode_flac(samples: NDArray[np.floating], sample_rate_hz: int, subtype: str = "PCM_16") -> bytes:
    """Return [samples] or [samples, channels] as FLAC, clipped to [-1, 1).

    Raises AudioError for NaN or infinite samples, and for a rate or a number of channels that FLAC lacks.
    """
    if not np.isfinite(samples).all():
        raise AudioError(f"NaN or infinite samples cannot be written as {subtype}; repair them first")
    encoded = io.BytesIO()
    try:
        _encode(encoded, samples, sample_rate_hz, "FLAC", subtype)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"cannot encode {sample_rate_hz} Hz as FLAC ({error}); convert the recording first") from error
    return encoded.getvalue()


def encode_decode(
    samples: Samples, sample_rate_hz: int, kind: str, subtype: str, *, compression_level: float | None = None
) -> Samples:
    """Encode float32 [samples] and decode them again in memory, to the same number of samples.

    Parameters
    ----------
    kind, subtype
        Format and encoding as libsndfile names them, such as ("WAV", "GSM610") or ("OGG", "OPUS").
    compression_level
        From 0 (best quality) to 1 (fewest bits), where the encoding has a choice. None: the default of libsndfile.

    Raises
    ------
    AudioError
        For an encoding that this libsndfile lacks, or that does not support the rate or level, and for NaN or
        infinite samples.

    Notes
    -----
    Integer encodings clip samples outside [-1, 1).
    """
    if not np.isfinite(samples).all():
        raise AudioError(f"NaN or infinite samples cannot be encoded as {subtype}; repair them first")
    encoded = io.BytesIO()
    try:
        _encode(encoded, samples, sample_rate_hz, kind, subtype, compression_level)
        encoded.seek(0)
        decoded, _ = soundfile.read(encoded, dtype="float32")
    except (soundfile.LibsndfileError, ValueError) as error:
        level = "" if compression_level is None else f" with compression level {compression_level:g}"
        raise AudioError(
            f"cannot encode {sample_rate_hz} Hz as {subtype} {kind}{level} ({error}); "
            "choose another encoding, or another rate to resample to first"
        ) from error
    result = np.zeros(len(samples), dtype=np.float32)
    count = min(len(samples), len(decoded))
    result[:count] = decoded[:count]
    return result


def _encode(
    file: BinaryIO,
    samples: NDArray[np.floating],
    sample_rate_hz: int,
    kind: str,
    subtype: str,
    compression_level: float | None = None,
    bitrate_mode: str | None = None,
) -> None:
    """Encode block by block: libsndfile's Vorbis encoder overflows the stack when given minutes at once."""
    num_channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(
        file,
        "w",
        sample_rate_hz,
        num_channels,
        subtype,
        format=kind,
        compression_level=compression_level,
        bitrate_mode=bitrate_mode,
    ) as out:
        for start in range(0, len(samples), BLOCK_FRAMES):
            out.write(samples[start : start + BLOCK_FRAMES])

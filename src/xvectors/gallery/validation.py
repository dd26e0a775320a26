"""Check what is about to be enrolled or imported: embeddings, names, notes of consent and expiry dates."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio.condition import CONDITION_NAMES, unknown_conditions
from xvectors.backends.dot_products import Rows
from xvectors.errors import ConfigError, GalleryError, ShapeError
from xvectors.text import is_printable, printable

MAX_AUDIO_BYTES = 500_000_000
"""SQLite holds values of up to 10^9 bytes."""
EMBEDDING_LENGTHS = (1e-15, 1e15)
"""Between these, the length of an embedding can be squared in float32 without overflow or underflow."""
MAX_NAME_CHARACTERS = 200
MAX_NOTE_CHARACTERS = 10_000


def refuse_large_audio(recordings: Iterable[bytes | None]) -> None:
    """Raise GalleryError for a recording of more than MAX_AUDIO_BYTES."""
    for audio in recordings:
        if audio is not None and len(audio) > MAX_AUDIO_BYTES:
            raise GalleryError(
                f"a recording of {len(audio) / 1e6:.0f} MB is too large to keep; enroll a part of it, or do not keep it"
            )


def check_embeddings(embeddings: ArrayLike, duration_s: ArrayLike) -> tuple[Rows, NDArray[np.float64]]:
    """Return embeddings as float32 [n, D], n at least 1, and durations as float64 [n].

    Raises
    ------
    ShapeError
        They have another shape or type, values that no network gives, or durations that are not above 0.
    """
    rows, seconds = np.asarray(embeddings), np.asarray(duration_s, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "iuf":
        raise ShapeError(
            f"embeddings have the type {rows.dtype} and the shape {list(rows.shape)}: "
            "give real numbers, [recordings, dimensions]"
        )
    rows = rows.astype(np.float32)
    check_embedding_values(rows)
    if seconds.shape != (len(rows),) or not (np.isfinite(seconds) & (seconds > 0)).all():
        raise ShapeError(f"durations are {seconds.tolist()} for {len(rows)} embeddings: give seconds above 0 for each")
    return rows, seconds


def check_conditions(condition: ArrayLike | None, count: int) -> NDArray[np.float32]:
    """Return conditions as float32 [count, 6], NaN where they are None.

    Raises ShapeError for another shape and for infinite measures.
    """
    if condition is None:
        return unknown_conditions(count)
    rows = np.asarray(condition, dtype=np.float32)
    if rows.shape != (count, len(CONDITION_NAMES)) or np.isinf(rows).any():
        raise ShapeError(
            f"conditions have the shape {list(rows.shape)}, or infinite values: give {len(CONDITION_NAMES)} measures "
            f"of each of {count} recordings, NaN where one is unknown"
        )
    return rows


def condition_of_blob(blob: object) -> NDArray[np.float32] | None:
    """Return the condition [6] that a gallery file holds; None for NULL. Raises ShapeError if it is damaged."""
    if blob is None:
        return None
    if isinstance(blob, bytes) and len(blob) == 4 * len(CONDITION_NAMES):
        condition = np.frombuffer(blob, dtype="<f4").astype(np.float32)
        if not np.isinf(condition).any():
            return condition
    raise ShapeError(f"its condition is not {len(CONDITION_NAMES)} float32 numbers that are finite or NaN")


def check_embedding_values(rows: Rows) -> None:
    """Raise ShapeError where a row of [n, D] is not finite, all zeros, or of a length that no network gives."""
    if not np.isfinite(rows).all() or not rows.any(axis=1).all():
        raise ShapeError("an embedding is all zeros or has values that are not finite; check its recording")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if lengths.min() < EMBEDDING_LENGTHS[0] or lengths.max() > EMBEDDING_LENGTHS[1]:
        raise ShapeError(f"an embedding has the length {lengths.max():.0e}, which no network gives; embed it again")


def check_duration(duration_s: object) -> float:
    """Return seconds as a float. Raises ShapeError where they are not a number above 0."""
    if isinstance(duration_s, float | int) and np.isfinite(duration_s) and duration_s > 0:
        return float(duration_s)
    raise ShapeError(f"its duration is {duration_s!r:.40}, but must be seconds above 0")


def speaker_name(text: str, *, known: bool = False) -> str:
    """Return a speaker's name without surrounding spaces, in Unicode's composed form (NFC).

    Parameters
    ----------
    known
        Whether the name is looked up. Then it may be anything but empty, so that every enrolled name can be found and
        forgotten, whichever version or program enrolled it.

    Raises
    ------
    ConfigError
        The name is empty, too long, or has characters that a terminal does not show, such as control characters and
        those that change the direction of text.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise ConfigError("a speaker's name must not be empty")
    if known:
        return name
    if len(name) > MAX_NAME_CHARACTERS:
        raise ConfigError(f"the speaker's name has {len(name)} characters; give at most {MAX_NAME_CHARACTERS}")
    if not all(map(is_printable, name)):
        raise ConfigError(
            f"the speaker's name {printable(name)} has control characters or others that cannot be seen; remove them"
        )
    return name


def is_storable(name: str) -> bool:
    """Return whether a database can hold this text: no zero characters, no halves of surrogate pairs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def consent_note(text: str) -> str:
    """Return the note unchanged. Raises ConfigError where it is too long or has characters that cannot be seen."""
    if len(text) > MAX_NOTE_CHARACTERS:
        raise ConfigError(f"the note of consent has {len(text)} characters; give at most {MAX_NOTE_CHARACTERS}")
    if not all(map(is_printable, text)):
        raise ConfigError(
            f"the note of consent {printable(text)[:60]} has control characters or others that cannot be seen; "
            "write it on one line, without them"
        )
    return text


def expiry(text: str, now: datetime) -> datetime:
    """Return the time from which a voiceprint no longer matches.

    Parameters
    ----------
    text
        A date, meaning its first moment in UTC, or a time, in ISO 8601.

    Raises
    ------
    ConfigError
        The text is neither, or the time has passed.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"the expiry date {text!r} is not a date; write it as 2030-01-31") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if time <= now:
        raise ConfigError(f"the expiry date {text} has passed, so the voiceprint would never match; give a later one")
    return time

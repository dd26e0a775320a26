"""What rows of a store's tables mean, whichever database holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import joined_conditions
from xvectors.errors import GalleryError, ShapeError, UnknownSpeakerError
from xvectors.gallery.store import Voiceprints
from xvectors.gallery.validation import condition_of_blob
from xvectors.text import nearest

SOME_NAMES = "SELECT name FROM speakers ORDER BY name LIMIT 1000"
"""SQL: the names among which `unknown_speaker` looks for a similar one. Among millions it would take minutes."""


def voiceprints_of(rows: Sequence[tuple[int, bytes, float, Any]], gallery: object) -> Voiceprints:
    """Return rows of speaker, embedding, seconds and condition; raise GalleryError, naming `gallery`, for damaged ones.

    Embeddings and conditions are bytes of little-endian float32 numbers.
    """
    sizes = {len(embedding) for _, embedding, *_ in rows}
    if len(sizes) > 1 or any(size % 4 for size in sizes):
        raise GalleryError(
            f"{gallery}: the gallery is damaged: embeddings of one system have unequal sizes; restore a copy"
        )
    joined = b"".join([embedding for _, embedding, *_ in rows])
    return Voiceprints(
        speaker=np.array([speaker for speaker, *_ in rows], dtype=np.int64),
        embeddings=np.frombuffer(joined, dtype="<f4").reshape(len(rows), -1) if rows else np.empty((0, 0), "f4"),
        duration_s=np.array([duration_s for _, _, duration_s, _ in rows], dtype=np.float64),
        condition=joined_conditions([condition_of(blob, gallery) for *_, blob in rows]),
    )


def condition_of(blob: object, gallery: object) -> NDArray[np.float32] | None:
    """Return a stored condition [6], or None for none; raise GalleryError, naming `gallery`, for a damaged one."""
    try:
        return condition_of_blob(blob)
    except ShapeError as error:
        raise GalleryError(
            f"{gallery}: the gallery is damaged: {error}; restore a copy, or a file that "
            "`xvectors gallery export` wrote"
        ) from error


def consent_by_name(rows: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the different notes on consent of each speaker, in the order of the rows of name and note."""
    notes: dict[str, dict[str, None]] = {}
    for name, note in rows:
        notes.setdefault(name, {})[note] = None
    return {name: tuple(different) for name, different in notes.items()}


def unknown_speaker(name: str, known: Iterable[tuple[str]], gallery: object) -> UnknownSpeakerError:
    """Return the error for a name that is not among the rows of `known` names, with the nearest of these."""
    hint = nearest(name, [each for (each,) in known], otherwise="`xvectors speakers` lists all names")
    return UnknownSpeakerError(f"no speaker {name} is enrolled in {gallery}{hint}")

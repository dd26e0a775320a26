"""The embeddings of a corpus, and the npz file that `xvectors.embeddings.load_embeddings` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import Manifest
from xvectors.files import atomic_write
from xvectors.text import short_repr


@short_repr()
@dataclass(frozen=True)
class Embedded:
    """The embeddings of the recordings that could be embedded.

    Attributes
    ----------
    embeddings
        float32 [n, dim].
    rows
        int64 [n], ascending: which rows of the manifest were embedded.
    failures
        The other rows, each with the reason.
    duration_s
        float64 [n], seconds that were read, before trimming.
    speech_s
        float64 [n], seconds of speech among them; 0 where the VAD found none and everything was embedded.
    condition
        float32 [n, 6], the measures `audio.condition.CONDITION_NAMES` of what was embedded; NaN where one cannot be
        made. For a recording longer than `MAX_WHOLE_S`, the mean over its pieces, weighted by their duration.
    """

    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]
    duration_s: NDArray[np.float64]
    speech_s: NDArray[np.float64]
    condition: NDArray[np.float32]


def save_embeddings(path: Path, manifest: Manifest, embedded: Embedded) -> None:
    """Write embeddings float32 [n, dim] and columns to an npz file.

    The columns are id, path, speaker, gender, age, duration_s and speech_s, [n] each, and condition float32 [n, 6].
    The duration is the manifest's if it states one, else that of the audio read.
    """
    rows = embedded.rows.tolist()
    with atomic_write(path, private=True) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            embeddings=embedded.embeddings,
            id=np.array([manifest.id[row] for row in rows], dtype=np.str_),
            path=np.array([str(manifest.full_path(row)) for row in rows], dtype=np.str_),
            speaker=np.array([manifest.speakers[manifest.speaker_index[row]] for row in rows], dtype=np.str_),
            gender=manifest.gender[rows],
            age=manifest.age[rows],
            duration_s=durations(manifest, embedded),
            speech_s=embedded.speech_s,
            condition=embedded.condition,
        )


def durations(manifest: Manifest, embedded: Embedded) -> NDArray[np.float64]:
    """Return the duration of each embedded row in seconds [n]: the manifest's, else that of the audio read."""
    stated = manifest.duration_s[embedded.rows]
    return np.where(np.isnan(stated), embedded.duration_s, stated)


def known_durations(manifest: Manifest) -> NDArray[np.float64]:
    """Return the duration of each row in seconds [n]: the manifest's, else from the row's start to the file's end.

    Raises AudioFileError if a file cannot be opened.
    """
    from xvectors import audio

    durations = manifest.duration_s.copy()
    for row in np.flatnonzero(np.isnan(durations)).tolist():
        durations[row] = audio.probe(manifest.full_path(row)).duration_s - manifest.start_s[row]
    return durations

"""What embedding a corpus gives. In: a manifest and embeddings of its rows. Out: one npz with both, which
`embeddings.load_embeddings` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import Manifest
from xvectors.files import atomic_write
from xvectors.text import brief


@brief()
@dataclass(frozen=True)
class Embedded:
    """Embeddings of the recordings that could be embedded.

    `embeddings` float32 [n, dim], `rows` int64 [n] (which recordings, ascending); `failures`: (recording, reason);
    `duration_s` float64 [n]: how much of each was read, before anything was trimmed; `speech_s` float64 [n]: how much
    of that is speech, 0 where the detector found none and all was embedded.
    """

    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]
    duration_s: NDArray[np.float64]
    speech_s: NDArray[np.float64]


def save_embeddings(path: Path, manifest: Manifest, embedded: Embedded) -> None:
    """Write one npz: embeddings float32 [n, dim] and, row by row, id, path, speaker, gender, age, duration_s and
    speech_s.

    The duration is the manifest's, and what was read where that does not know it.
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
        )


def durations(manifest: Manifest, embedded: Embedded) -> NDArray[np.float64]:
    """[n] the seconds of each embedded row: as the manifest states them, else what was read."""
    stated = manifest.duration_s[embedded.rows]
    return np.where(np.isnan(stated), embedded.duration_s, stated)


def known_durations(manifest: Manifest) -> NDArray[np.float64]:
    """[n] the seconds of each row: as the manifest states them, else to the end of the file.

    Raises AudioFileError for a file that cannot be opened.
    """
    from xvectors import audio

    durations = manifest.duration_s.copy()
    for row in np.flatnonzero(np.isnan(durations)).tolist():
        durations[row] = audio.probe(manifest.full_path(row)).duration_s - manifest.start_s[row]
    return durations

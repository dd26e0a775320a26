"""Enrollment of models from several recordings, as in the NIST SRE. In: a text file. Out: models and their rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ManifestError
from xvectors.scoring.naming import RecordingRows, listed
from xvectors.scoring.text import text_lines


@dataclass(frozen=True, kw_only=True)
class Enrollment:
    """Models, sorted by name, and the recordings that each is enrolled from."""

    models: tuple[str, ...]
    utterances: tuple[tuple[str, ...], ...]
    source: str
    num_repeated: int = 0
    """Recordings that a model named again, and that count once."""

    def resolve(self, recordings: RecordingRows) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(rows [k] of the embedding matrix, the model number [k] that each row belongs to), in the models' order.

        Raises
        ------
        ManifestError
            Recordings that are not among the embeddings, the first of them named.
        """
        names = [name for utterances in self.utterances for name in utterances]
        rows = recordings.rows(names)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise ManifestError(
                f"{self.source}: {len(unknown)} of {len(names)} enrollment recordings are not among the "
                f"{len(recordings)} embedded ones: {listed([names[at] for at in unknown])}; embed them, or correct "
                "the names"
            )
        numbers = np.repeat(np.arange(len(self.models), dtype=np.int32), [len(each) for each in self.utterances])
        return rows, numbers


def read_enrollment(path: str | os.PathLike[str]) -> Enrollment:
    """Read lines `model utterance`, or `model utterance utterance ...`; a model may go on in further lines.

    Raises
    ------
    ManifestError
        A file that cannot be read, is empty, or has a line that names no recording.
    """
    models: dict[str, dict[str, None]] = {}
    repeated = 0
    for number, line in enumerate(text_lines(Path(path)), start=1):
        model, *utterances = line.split() or [""]
        if not model:
            continue
        if not utterances:
            raise ManifestError(f"{path}: line {number}: model {model} names no recording; write: model utterance ...")
        known = models.setdefault(model, {})
        before = len(known)
        known.update(dict.fromkeys(utterances))
        repeated += before + len(utterances) - len(known)
    if not models:
        raise ManifestError(f"{path}: is empty; an enrollment file has lines: model utterance ...")
    names = sorted(models)
    return Enrollment(
        models=tuple(names),
        utterances=tuple(tuple(models[name]) for name in names),
        source=str(path),
        num_repeated=repeated,
    )

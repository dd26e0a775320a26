"""What the names in trial and enrollment files stand for. In: names. Out: rows of the embedding matrix.
A name fits exactly, or without the suffix of a sound file on either side: `a/1.wav`, `a/1.flac` and `a/1` are one,
and so are the Unicode forms of a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.walk import AUDIO_SUFFIXES
from xvectors.errors import ManifestError
from xvectors.text import brief, composed


@brief("_exact")
class RecordingRows:
    """The rows that recordings have, by name. ManifestError for a name given twice.

    >>> RecordingRows(["ann/1.wav", "ann/2.wav"]).rows(["ann/2", "bob/1"]).tolist()
    [1, -1]
    """

    def __init__(self, recordings: Iterable[str]) -> None:
        self._exact: dict[str, int] = {}
        self._stems: dict[str, int] = {}
        for row, name in enumerate(map(composed, recordings)):
            if self._exact.setdefault(name, row) != row:
                raise ManifestError(f"recordings {self._exact[name]} and {row} are both named {name}: rename one")
            stem = without_suffix(name)
            # Two recordings of one stem: only their full names tell them apart.
            self._stems[stem] = -1 if stem in self._stems else row

    def __len__(self) -> int:
        return len(self._exact)

    def rows(self, names: Sequence[str]) -> NDArray[np.int32]:
        """[n] the row of each name, -1 where there is none, or where several fit but for the suffix."""
        rows = (self._row(name) for name in names)
        return np.fromiter(rows, dtype=np.int32, count=len(names))

    def _row(self, name: str) -> int:
        name = composed(name)
        row = self._exact.get(name)
        return self._stems.get(without_suffix(name), -1) if row is None else row


def without_suffix(name: str) -> str:
    """A name without the suffix of a sound file, if it has one; other dots belong to it."""
    return name[: name.rindex(".")] if name.lower().endswith(AUDIO_SUFFIXES) else name

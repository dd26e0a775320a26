"""Resolve the names in trial and enrollment files to rows of the embedding matrix.

Names match exactly, or without the suffix of a sound file: `a/1.wav`, `a/1.flac` and `a/1` are one recording. Unicode
forms of a name are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.walk import AUDIO_SUFFIXES
from xvectors.errors import ManifestError
from xvectors.text import composed, short_repr


@short_repr("_exact")
class RecordingRows:
    """Rows of recordings by name. Raises ManifestError for duplicate names.

    Examples
    --------
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
            # two recordings with one stem are distinguished by their full names
            self._stems[stem] = -1 if stem in self._stems else row

    def __len__(self) -> int:
        return len(self._exact)

    def rows(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Return [n]: the row of each name, or -1 if it is unknown or ambiguous without its suffix."""
        rows = (self._row(name) for name in names)
        return np.fromiter(rows, dtype=np.int32, count=len(names))

    def _row(self, name: str) -> int:
        name = composed(name)
        row = self._exact.get(name)
        return self._stems.get(without_suffix(name), -1) if row is None else row


def without_suffix(name: str) -> str:
    """Remove the suffix of a sound file from a name."""
    return name[: name.rindex(".")] if name.lower().endswith(AUDIO_SUFFIXES) else name

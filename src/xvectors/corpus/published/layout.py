"""What a published corpus is made of: its archives, its subsets, and how its files become rows of a manifest."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from xvectors.corpus.walk import walk_recordings

Row = tuple[str, ...]
"""Cells in the order of `HEADER`."""
HEADER = ("path", "id", "speaker", "gender", "age", "session", "duration_s", "split", "subset")
"""Columns of every corpus; a corpus may have more behind them."""
LOSSLESS = (".wav", ".flac")
NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive as it is published.

    Attributes
    ----------
    name : file name of the whole
    parts : file names of the parts that it is published in, in order; empty for a single file
    md5 : MD5 in hex by file name, of the whole or of the parts, where they are published
    folder : folder below `recordings` that it is unpacked to; empty for `recordings` itself
    """

    name: str
    parts: tuple[str, ...] = ()
    md5: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Published figures of a part of a corpus; None for a figure that is not known for sure.

    `at_least` is for figures that are published as "more than".
    """

    name: str
    num_speakers: int | None = None
    num_recordings: int | None = None
    at_least: bool = False


@dataclass(frozen=True)
class Tree:
    """A folder with unpacked recordings. `prefix` stands before its paths in the manifest."""

    folder: Path
    prefix: str

    def recordings(self) -> Iterator[str]:
        """Yield the recordings, as paths relative to the folder with forward slashes."""
        return walk_recordings(self.folder)


@dataclass(frozen=True)
class Found:
    """What lies on the disk: trees of recordings, and the folders in which lists and tables are looked for.

    `left_out` counts recordings that get no row, by reason.
    """

    trees: tuple[Tree, ...]
    places: tuple[Path, ...]
    left_out: Counter[str] = field(default_factory=Counter)

    def companions(self, name: str) -> list[Path]:
        """Return the files called `name` (which may have folders) in the places, or up to two folders below them."""
        found: dict[Path, None] = {}
        for place in self.places:
            for pattern in (name, f"*/{name}", f"*/*/{name}"):
                for path in sorted(place.glob(pattern)):
                    if path.is_file():
                        found.setdefault(path.absolute())
        return list(found)

    def companion(self, name: str) -> Path | None:
        """Return the first of the `companions`, or None."""
        return next(iter(self.companions(name)), None)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A published corpus.

    Attributes
    ----------
    name, title : name on the command line, and as people write it
    archives : the archives that are known by name
    pattern : names of further archives that belong to the corpus
    only_metadata : names of archives without recordings
    subsets : published figures
    figures_from : where the figures are published
    hashes_from : where the hashes are published; empty if none are known
    extra : names of the columns behind those of `HEADER`
    rows : yields the rows
    expected : the expected folders, for the error about a tree without them
    """

    name: str
    title: str
    archives: tuple[Archive, ...] = ()
    pattern: re.Pattern[str] = NOTHING
    only_metadata: re.Pattern[str] = NOTHING
    subsets: tuple[Subset, ...] = ()
    figures_from: str
    hashes_from: str = ""
    extra: tuple[str, ...] = ()
    rows: Callable[[Found], Iterator[Row]]
    expected: str


def stem(path: str) -> str:
    """Return the file name without folders and suffix."""
    return os.path.splitext(path.rpartition("/")[2])[0]


def one_file_each(paths: Iterable[str], left_out: Counter[str]) -> Iterator[str]:
    """Yield one of the files that differ only in their suffix, such as a WAV beside the m4a, and count the others."""
    for _, group in groupby(paths, key=lambda path: os.path.splitext(path)[0]):
        same = list(group)
        if len(same) > 1:
            same.sort(key=lambda path: not path.lower().endswith(LOSSLESS))
            left_out["a second file of an utterance, in another format"] += len(same) - 1
        yield same[0]

"""Prepare a published corpus: check and unpack its archives, and describe its recordings in a manifest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from xvectors.corpus.builder import ManifestBuilder
from xvectors.corpus.columns import find_columns
from xvectors.corpus.manifest import Manifest
from xvectors.corpus.packed import PackedStrings
from xvectors.corpus.published.archives import LocalArchive, check_hashes, find_archives
from xvectors.corpus.published.cnceleb import LAYOUT as CN_CELEB
from xvectors.corpus.published.common_voice import LAYOUT as COMMON_VOICE
from xvectors.corpus.published.layout import HEADER, Found, Layout, Subset, Tree
from xvectors.corpus.published.librispeech import LAYOUT as LIBRISPEECH
from xvectors.corpus.published.record import Record
from xvectors.corpus.published.unpacking import check_space, size_to_unpack, unpack
from xvectors.corpus.published.voxblink2 import LAYOUT as VOXBLINK2
from xvectors.corpus.published.voxceleb import LAYOUT as VOXCELEB
from xvectors.corpus.walk import walk_recordings
from xvectors.errors import AudioError, ConfigError, ManifestError, MissingExtraError
from xvectors.files import exclusive
from xvectors.progress import Progress, progress_bar
from xvectors.text import count, first_few, nearest, short_repr

logger = logging.getLogger(__name__)

LAYOUTS = {each.name: each for each in (VOXCELEB, CN_CELEB, LIBRISPEECH, VOXBLINK2, COMMON_VOICE)}
MANIFEST, RECORDINGS, LOCK = "manifest.csv", "recordings", ".lock"
ROWS_AT_A_TIME = 16_384
MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SubsetCount:
    """How much of a subset is there, beside the published figures."""

    name: str
    num_speakers: int
    num_recordings: int
    published: Subset | None

    @property
    def is_complete(self) -> bool | None:
        """Whether the figures are the published ones; None if none are known."""
        compared = list(self._compared())
        return (
            all(there >= known if self._at_least else there == known for there, known in compared) if compared else None
        )

    def line(self) -> str:
        """Return the figures as a line of text."""
        figures = f"{count(self.num_speakers, 'speaker')}, {count(self.num_recordings, 'recording')}"
        if self.is_complete is None:
            return f"{self.name}: {figures}; not checked, no figures are published"
        if self.is_complete:
            return f"{self.name}: {figures}, as published"
        return f"{self.name}: {figures}; published are {self._published_figures()}"

    @property
    def _at_least(self) -> bool:
        return self.published is not None and self.published.at_least

    def _compared(self) -> Iterator[tuple[int, int]]:
        if self.published is not None:
            if self.published.num_speakers is not None:
                yield self.num_speakers, self.published.num_speakers
            if self.published.num_recordings is not None:
                yield self.num_recordings, self.published.num_recordings

    def _published_figures(self) -> str:
        assert self.published is not None
        known = ((self.published.num_speakers, "speaker"), (self.published.num_recordings, "recording"))
        more = "more than " if self.published.at_least else ""
        return " and ".join(more + count(number, thing) for number, thing in known if number is not None)


@short_repr("corpus", "out")
@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A prepared corpus.

    Attributes
    ----------
    corpus : its name
    out : the folder that it was prepared in
    manifest : its recordings, as in `out/manifest.csv`
    hashed, unhashed : names of the archives whose MD5 is the published one, and of those whose MD5 was not checked
    counts : figures of its subsets
    left_out : numbers of recordings without a row, by reason
    places : folders where lists and tables of the corpus were looked for
    """

    corpus: str
    out: Path
    manifest: Manifest
    hashed: tuple[str, ...]
    unhashed: tuple[str, ...]
    counts: tuple[SubsetCount, ...]
    left_out: dict[str, int]
    places: tuple[Path, ...]


def prepare(
    corpus: str,
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    in_place: bool = False,
    hashes: bool = True,
    durations: bool = False,
    progress: bool = False,
) -> Prepared:
    """Prepare a published corpus in the folder `out`: `manifest.csv`, and its unpacked archives in `recordings`.

    An archive that is unpacked already is not unpacked again, and an interrupted run continues. Unpacked recordings in
    the sources are used where they are. A table of each subset stands beside the manifest, if there are several.

    Parameters
    ----------
    corpus
        A key of `LAYOUTS`.
    sources
        Archives, folders with archives, or folders with unpacked recordings.
    in_place
        Use the unpacked recordings of the sources, and leave archives beside them alone.
    hashes
        Compare the MD5 of archives with the published one, where one is known.
    durations
        Read the duration of each recording from its header.

    Raises
    ------
    ConfigError
        An unknown corpus; a folder with archives and unpacked recordings, without `in_place`; an `out` that holds
        something else.
    ManifestError
        A source that is missing, damaged, incomplete or unsafe, or whose layout is not that of the corpus.
    StorageError
        A full disk. BusyError if another process writes to `out`. What is unpacked stays.
    """
    if corpus not in LAYOUTS:
        raise ConfigError(f"corpus {corpus!r} is not known{nearest(corpus, LAYOUTS)}")
    layout, out = LAYOUTS[corpus], Path(out)
    with exclusive(out / LOCK, of=str(out)):
        record = Record(out, corpus)
        archives, trees = _sort_out(layout, [Path(source) for source in sources], out, in_place)
        _unpack_all(archives, record, out / RECORDINGS, hashes, progress)
        if record.unpacked():
            trees.insert(0, Tree(out / RECORDINGS, f"{RECORDINGS}/"))
        if not trees:
            names = [archive.name for archive in layout.archives] or ["archives as they are published"]
            raise ManifestError(
                f"{first_few(map(str, sources))}: has neither archives of {layout.title} ({first_few(names)}) nor "
                f"unpacked recordings ({layout.expected}); check the path"
            )
        folders = [Path(source) if Path(source).is_dir() else Path(source).absolute().parent for source in sources]
        found = Found(tuple(trees), tuple(dict.fromkeys([*folders, out / RECORDINGS])))
        manifest = _manifest(layout, found, out)
        if durations:
            manifest = _with_durations(manifest, progress)
        counts = _counts(layout, manifest)
        record.save()
        _write(manifest, counts, out)
    hashed, unhashed = record.hashed()
    return Prepared(
        corpus=corpus,
        out=out,
        manifest=manifest,
        hashed=hashed,
        unhashed=unhashed,
        counts=counts,
        left_out=dict(found.left_out),
        places=found.places,
    )


def _sort_out(
    layout: Layout, sources: Sequence[Path], out: Path, in_place: bool
) -> tuple[list[LocalArchive], list[Tree]]:
    """Return the archives of the sources, and the trees to be used where they are."""
    archives: dict[Path, LocalArchive] = {}
    trees = []
    for source in sources:
        if not source.exists():
            raise ManifestError(f"{source}: no such file or folder; check the path")
        if in_place and source.is_file():
            raise ConfigError(f"{source}: is an archive; --in-place is for folders with unpacked recordings")
        here = [] if in_place else find_archives(layout, source, out.absolute())
        unpacked = _first_recording(source, out) if source.is_dir() else None
        audio = [archive.name for archive in here if not layout.only_metadata.fullmatch(archive.name)]
        if audio and unpacked:
            raise ConfigError(
                f"{source}: holds archives ({first_few(audio)}) and unpacked recordings ({unpacked}); say --in-place "
                "to use the recordings where they are, or name the archives instead of the folder"
            )
        if unpacked:
            trees.append(Tree(source, f"{source.absolute().as_posix()}/"))
        archives.update((archive.files[0].resolve(), archive) for archive in here)
    return list(archives.values()), trees


def _first_recording(source: Path, out: Path) -> str | None:
    """Return an unpacked recording in `source` that is not in `out`."""
    inside = (
        f"{out.absolute().relative_to(source.absolute()).as_posix()}/"
        if (out.absolute().is_relative_to(source.absolute()))
        else None
    )
    own = f"{RECORDINGS}/" if inside == "./" else inside
    return next((path for path in walk_recordings(source) if own is None or not path.startswith(own)), None)


def _unpack_all(archives: list[LocalArchive], record: Record, target: Path, hashes: bool, progress: bool) -> None:
    todo = [archive for archive in archives if not record.is_unpacked(archive)]
    record.check_unfinished(todo)
    if not todo:
        return
    if hashes:
        unread = [archive for archive in todo if not record.is_hashed(archive)]
        size = sum(file.stat().st_size for archive in unread for file, _ in archive.hashes())
        with progress_bar("Checking MD5 (MB)", size // MB, enabled=progress) as bar:
            for archive, is_published in check_hashes(unread, Megabytes(bar)):
                record.keep_hash(archive, is_published)
    check_space(target.parent, sum(size_to_unpack(archive, target / archive.published.folder) for archive in todo))
    with progress_bar("Unpacking (MB)", sum(each.num_bytes for each in todo) // MB, enabled=progress) as bar:
        advance = Megabytes(bar)
        for archive in todo:
            bar.note(archive.name)
            record.begin(archive)
            folder = target / archive.published.folder
            folder.mkdir(parents=True, exist_ok=True)
            record.finish(archive, unpack(archive, folder, advance))


class Megabytes:
    """Advances a progress bar by whole megabytes, given bytes."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._bytes = bar, 0

    def __call__(self, num_bytes: int) -> None:
        before, self._bytes = self._bytes // MB, self._bytes + num_bytes
        if self._bytes // MB > before:
            self._bar.advance(self._bytes // MB - before)


def _manifest(layout: Layout, found: Found, out: Path) -> Manifest:
    header = [*HEADER, *layout.extra]
    paths: list[PackedStrings] = []
    builder = ManifestBuilder(header, find_columns(header, layout.title), lambda row: _path(paths, row))
    rows, num_rows = layout.rows(found), 0
    while block := list(islice(rows, ROWS_AT_A_TIME)):
        columns = list(zip(*block, strict=True))
        paths.append(PackedStrings.from_strings(columns[0]))
        builder.add(columns)
        num_rows += len(block)
    for reason, number in found.left_out.items():
        logger.warning("%s: %s left out: %s", layout.title, count(number, "recording"), reason)
    if not num_rows:
        where = first_few([str(tree.folder) for tree in found.trees])
        raise ManifestError(
            f"{where}: has no recordings in the layout of {layout.title}; expected are {layout.expected}"
        )
    return Manifest(**builder.build(layout.title, out, out / MANIFEST))


def _path(blocks: Sequence[PackedStrings], row: int) -> str:
    return blocks[row // ROWS_AT_A_TIME][row % ROWS_AT_A_TIME]


def _with_durations(manifest: Manifest, progress: bool) -> Manifest:
    from xvectors import audio

    def duration_s(row: int) -> float:
        try:
            return audio.probe(manifest.full_path(row)).duration_s
        except (AudioError, MissingExtraError) as error:
            logger.debug("%s", error)
            return float("nan")

    durations_s = manifest.duration_s.copy()
    unknown = np.flatnonzero(np.isnan(durations_s)).tolist()
    with ThreadPoolExecutor() as pool, progress_bar("Reading durations", len(unknown), enabled=progress) as bar:
        for first in range(0, len(unknown), 256):
            some = unknown[first : first + 256]
            durations_s[some] = list(pool.map(duration_s, some))
            bar.advance(len(some))
    failed = int(np.isnan(durations_s).sum())
    if failed:
        example = manifest.full_path(int(np.flatnonzero(np.isnan(durations_s))[0]))
        logger.warning("the durations of %s cannot be read, such as %s", count(failed, "recording"), example)
    return manifest.with_columns(duration_s=durations_s)


def _counts(layout: Layout, manifest: Manifest) -> tuple[SubsetCount, ...]:
    known = {subset.name: subset for subset in layout.subsets}
    recordings: Counter[str] = Counter()
    speakers: dict[str, set[int]] = {}
    for subset, speaker in zip(manifest.extra["subset"], manifest.speaker_index.tolist(), strict=True):
        recordings[subset] += 1
        speakers.setdefault(subset, set()).add(speaker)
    return tuple(
        SubsetCount(
            name=name,
            num_speakers=len(speakers[name]),
            num_recordings=number,
            published=known.get(name),
        )
        for name, number in sorted(recordings.items())
    )


def _write(manifest: Manifest, counts: Sequence[SubsetCount], out: Path) -> None:
    manifest.write_csv(out / MANIFEST)
    if len(counts) > 1:
        subsets = np.array(list(manifest.extra["subset"]))
        for subset in counts:
            manifest.take(subsets == subset.name).write_csv(out / f"{subset.name}.csv")

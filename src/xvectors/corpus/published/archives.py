"""Find the archives of a published corpus, join the parts of a split one without copying, and check their MD5."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from xvectors.corpus.published.layout import Archive, Layout
from xvectors.errors import ManifestError
from xvectors.text import count, first_few

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
MAX_DEPTH = 2
"""Archives are looked for in a folder and this many levels below it."""
_ARCHIVE = r"\.(?:zip|tar|tgz|tar\.(?:gz|bz2|xz))"
_WHOLE = re.compile(rf".+{_ARCHIVE}", re.IGNORECASE)
_PART = re.compile(
    rf"(?P<whole>.+{_ARCHIVE})[._-]?(?:part)?(?P<part>[a-z]{{2}}|\d{{3}})|(?P<stem>.+)_part(?P<at>[a-z]{{2}})"
)


@dataclass(frozen=True)
class LocalArchive:
    """An archive on this disk: its files (several for a split one), and what is published about it."""

    published: Archive
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        return self.published.name

    @property
    def num_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def open(self) -> io.BufferedReader:
        """Open the bytes of all parts as one file."""
        return io.BufferedReader(JoinedFiles(self.files), CHUNK_BYTES)

    def hashes(self) -> list[tuple[Path, str]]:
        """Return the files whose MD5 is published, with that MD5."""
        return [(file, self.published.md5[file.name]) for file in self.files if file.name in self.published.md5]


class JoinedFiles(io.RawIOBase):
    """Files one after the other, read as one. Raises OSError if one cannot be opened."""

    def __init__(self, paths: Iterable[Path]) -> None:
        super().__init__()
        with ExitStack() as opened:
            self._files = [opened.enter_context(open(path, "rb", buffering=0)) for path in paths]
            self._ends = list(accumulate(os.fstat(file.fileno()).st_size for file in self._files))
            self._close = opened.pop_all()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._ends[-1]}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        number = bisect_right(self._ends, self._at)
        if number == len(self._files):
            return 0
        file = self._files[number]
        file.seek(self._at - (self._ends[number - 1] if number else 0))
        read = file.readinto(buffer) or 0
        self._at += read
        return read

    def close(self) -> None:
        self._close.close()
        super().close()


def find_archives(layout: Layout, source: Path, skip: Path) -> list[LocalArchive]:
    """Return the archives of a corpus at `source`: a file, or a folder with files up to two levels below it.

    A file may have any name. In a folder only names that belong to the corpus count; others cause a warning. The
    folder `skip` is not searched.

    Raises ManifestError if parts of a split archive are missing.
    """
    if source.is_file():
        return [_named(layout, source)]
    single: list[LocalArchive] = []
    parts: dict[str, list[Path]] = {}
    others: list[str] = []
    for path in _files(source, skip):
        if part := _part(path.name):
            parts.setdefault(part["whole"] or part["stem"], []).append(path)
        elif _WHOLE.fullmatch(path.name):
            known = _known(layout, path.name)
            if known is not None:
                single.append(LocalArchive(known, (path,)))
            else:
                others.append(path.name)
    for whole, files in parts.items():
        known = _known(layout, whole) or _known(layout, f"{whole}.zip")
        if known is None:
            others.append(files[0].name)
        elif not any(known.name == archive.name for archive in single):  # joined by hand, and the parts kept
            single.append(LocalArchive(known, _complete(known, files)))
    if others:
        logger.warning(
            "%s: %s skipped, not named like those of %s: %s; to unpack one, name it instead of the folder",
            *(source, count(len(others), "archive"), layout.title, first_few(sorted(others))),
        )
    single.sort(key=lambda archive: archive.name)
    twice = [one.name for one, next_one in pairwise(single) if one.name == next_one.name]
    if twice:
        raise ManifestError(f"{source}: holds {twice[0]} in two folders; remove one, or name the folder of the other")
    return single


def check_hashes(
    archives: Iterable[LocalArchive], advance: Callable[[int], None]
) -> Iterator[tuple[LocalArchive, bool]]:
    """Yield each archive once it is read, and whether its MD5 is published. `advance` is given the bytes read.

    Raises
    ------
    ManifestError
        An MD5 is not the published one.
    """
    for archive in archives:
        published = archive.hashes()
        for file, expected in published:
            md5 = hashlib.md5(usedforsecurity=False)
            with open(file, "rb") as opened:
                while chunk := opened.read(CHUNK_BYTES):
                    md5.update(chunk)
                    advance(len(chunk))
            if md5.hexdigest() != expected:
                raise ManifestError(
                    f"{file}: its MD5 is {md5.hexdigest()}, the published one {expected}; download it "
                    "again, or say --no-hashes if it is meant to be another release"
                )
        yield archive, bool(published)


def _named(layout: Layout, file: Path) -> LocalArchive:
    """Return the archive that the user named, whatever its name. Of a split one, any part stands for all."""
    part = _part(file.name)
    if part is None:
        known = _known(layout, file.name)
        stem = re.sub(rf"{_ARCHIVE}$", "", file.name, flags=re.IGNORECASE)
        return LocalArchive(known or Archive(name=file.name, folder=stem), (file,))
    whole = part["whole"] or part["stem"]
    files = []
    for path in sorted(file.absolute().parent.iterdir()):
        other = _part(path.name)
        if other and (other["whole"] or other["stem"]) == whole:
            files.append(path)
    known = _known(layout, whole) or _known(layout, f"{whole}.zip") or Archive(name=whole, folder=whole.split(".")[0])
    return LocalArchive(known, _complete(known, files))


def _part(name: str) -> re.Match[str] | None:
    return None if _WHOLE.fullmatch(name) else _PART.fullmatch(name)


def _known(layout: Layout, name: str) -> Archive | None:
    for archive in layout.archives:
        if archive.name == name:
            return archive
    return Archive(name=name) if layout.pattern.fullmatch(name) else None


def _complete(archive: Archive, files: list[Path]) -> tuple[Path, ...]:
    """Return the parts in order. Raises ManifestError if some are missing."""
    files = sorted(files, key=lambda file: file.name)
    names = [file.name for file in files]
    expected = list(archive.parts)
    if not set(names) <= set(expected):  # not published in parts, or parts of other names
        expected = list(_without_gaps(names))
    missing = [name for name in expected if name not in names]
    if missing:
        parts = "part" if len(missing) == 1 else "parts"
        raise ManifestError(
            f"{files[0].parent}: {parts} {first_few(missing)} of {archive.name} missing (there are "
            f"{first_few(names)}); download {'it' if len(missing) == 1 else 'them'} into the same folder"
        )
    return tuple(files)


def _without_gaps(names: list[str]) -> Iterator[str]:
    """Yield the names from the first part (aa or 001) to the last that is there."""
    last = names[-1]
    if last[-1].isdigit():
        first = 0 if any(name.endswith("000") for name in names) else 1
        for number in range(first, int(last[-3:]) + 1):
            yield f"{last[:-3]}{number:03d}"
        return
    a = ord("a")
    for number in range((ord(last[-2]) - a) * 26 + ord(last[-1]) - a + 1):
        yield f"{last[:-2]}{chr(a + number // 26)}{chr(a + number % 26)}"


def _files(folder: Path, skip: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            yield Path(entry.path)
        elif depth and entry.is_dir() and Path(entry.path).absolute() != skip:
            yield from _files(Path(entry.path), skip, depth - 1)

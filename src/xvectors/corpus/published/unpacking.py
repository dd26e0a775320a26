"""Unpack zip and tar archives safely, and so that an interrupted run continues.

Only files and folders are made, and only below the target: archives with links, devices or paths that lead elsewhere
are refused. Files appear complete (temporary file, rename); those that are there with the right size are not written
again.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tarfile import HeaderError, ReadError
from typing import IO, Any, Self

from xvectors.corpus.published.archives import CHUNK_BYTES, LocalArchive
from xvectors.errors import ManifestError, StorageError
from xvectors.text import count

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,
)
_JUNK = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\._[^/]*|\.DS_Store)")
_DRIVE = re.compile(r"[A-Za-z]:")
TEMPORARY = ".unpacking-"
FULL = (errno.ENOSPC, errno.EDQUOT)
COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Member:
    """A file in an archive, by its path below the target. `open` may be called until the next member is asked for."""

    path: str
    num_bytes: int
    open: Callable[[], IO[bytes]]


def size_to_unpack(archive: LocalArchive, target: Path) -> int:
    """Return how many bytes of files are yet to be written, at least: compressed tar files do not say.

    Raises ManifestError for an archive that is damaged or unsafe, as far as its table of contents shows.
    """
    with _explained(archive), archive.open() as file:
        if not _is_zip(file):
            return 0 if target.is_dir() and any(target.iterdir()) else archive.num_bytes
        with zipfile.ZipFile(file) as zipped:
            members = [_zip_member(zipped, info) for info in zipped.infolist() if not info.is_dir()]
        return sum(
            member.num_bytes for member in members if member is not None and not _is_there(target / member.path, member)
        )


def check_space(folder: Path, num_bytes: int) -> None:
    """Raise StorageError if the disk of `folder` has less than this free."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise StorageError(
            f"{folder}: unpacking needs at least {num_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; free some "
            "space or choose another folder. Nothing was unpacked"
        )


def unpack(archive: LocalArchive, target: Path, advance: Callable[[int], None]) -> int:
    """Unpack an archive to the folder `target`, and return its number of files.

    `advance` is given the number of bytes of the archive that are done.

    Raises
    ------
    ManifestError
        The archive is damaged, incomplete, encrypted or unsafe. Files unpacked before stay.
    StorageError
        A file cannot be written, such as on a full disk. Files unpacked before stay.
    """
    num_files = 0
    for leftover in target.glob(f"{TEMPORARY}*"):  # of a killed run; this one has the lock of the folder
        leftover.unlink(missing_ok=True)
    temporary = target / f"{TEMPORARY}{os.getpid()}"
    made: set[Path] = set()
    try:
        with _explained(archive):
            for member in _members(archive, advance):
                path = target / member.path
                if not _is_there(path, member):
                    with _writing(archive, path, num_files):
                        if path.parent not in made:
                            path.parent.mkdir(parents=True, exist_ok=True)
                            made.add(path.parent)
                        _write(member, temporary)
                        temporary.replace(path)
                num_files += 1
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return num_files


def _members(archive: LocalArchive, advance: Callable[[int], None]) -> Iterator[Member]:
    with archive.open() as file:
        reported = 0

        def report(at: int) -> None:
            nonlocal reported
            advance(at - reported)
            reported = at

        if _is_zip(file):
            with zipfile.ZipFile(file) as zipped:
                at = 0
                for info in zipped.infolist():
                    member = None if info.is_dir() else _zip_member(zipped, info)
                    if member is not None:
                        yield member
                    at += info.compress_size
                    report(at)
        else:
            for member in _tar_members(file):
                yield member
                report(file.tell())
        report(archive.num_bytes)


def _zip_member(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise ManifestError(f"{info.filename} is a link or device")
    if info.flag_bits & 1:
        raise ManifestError(f"{info.filename} is encrypted, and cannot be unpacked; unpack it with its password")
    path = _safe(info.orig_filename)
    return None if path is None else Member(path, info.file_size, lambda: zipped.open(info))


class _TarInfo(tarfile.TarInfo):
    """Makes every broken header an error; tarfile takes one behind the first for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the mark of the end
                raise
            raise ReadError(f"{error} at byte {tarfile.offset}") from error


def _tar_members(file: io.BufferedReader) -> Iterator[Member]:
    magic = file.peek(8)[:8]
    opener = next((opener for mark, opener in COMPRESSED.items() if magic.startswith(mark)), None)
    stream = file if opener is None else opener(file)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarInfo) as tar:
        for info in tar:
            if info.isdir():
                continue
            if not info.isreg():
                raise ManifestError(f"{info.name} is a link or device")
            path = _safe(info.name)
            if path is not None:
                yield Member(path, info.size, lambda info=info: _extracted(tar, info))  # type: ignore[misc]
    while stream.read(CHUNK_BYTES):  # to the end, where the checksum stands
        pass


def _extracted(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = tar.extractfile(info)
    assert opened is not None  # which is for what is no file
    return opened


def _is_zip(file: io.BufferedReader) -> bool:
    return file.peek(4)[:4] in ZIP


def _safe(name: str) -> str | None:
    """Return the path of a file in an archive, or None for what file managers add. Raises ManifestError if unsafe."""
    if _JUNK.fullmatch(name):
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or _DRIVE.match(name) or not parts:
        raise ManifestError(f"{name!r} leads out of the folder it would be unpacked to")
    return "/".join(parts)


def _is_there(path: Path, member: Member) -> bool:
    try:
        return path.stat(follow_symlinks=False).st_size == member.num_bytes
    except (FileNotFoundError, NotADirectoryError):
        return False


def _write(member: Member, temporary: Path) -> None:
    written = 0
    with member.open() as source, open(temporary, "wb") as out:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > member.num_bytes:
                break
            out.write(chunk)
    if written != member.num_bytes:
        raise EOFError(f"{member.path} has not the size that the archive states")


@contextmanager
def _writing(archive: LocalArchive, path: Path, num_files: int) -> Iterator[None]:
    """Explain a file that cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # the archive's data are damaged
            raise
        what = "the disk is full" if error.errno in FULL else f"cannot be written: {error.strerror or error}"
        raise StorageError(
            f"{path}: {what}, while unpacking {archive.name}; {count(num_files, 'file')} of it are unpacked and stay. "
            "Free space or correct the cause, and run the same command again: it continues there"
        ) from error


@contextmanager
def _explained(archive: LocalArchive) -> Iterator[None]:
    """Name the archive in all errors about it."""
    file = archive.files[0]
    try:
        yield
    except ManifestError as error:
        raise ManifestError(f"{file}: is not unpacked: {error}") from None
    except _DAMAGE as error:
        raise ManifestError(
            f"{file}: is damaged or incomplete, or not an archive ({error}); download "
            f"{'its parts' if len(archive.files) > 1 else 'it'} again. What is unpacked stays"
        ) from error
    except StorageError:
        raise
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read ({error.strerror or error}); check the file") from error

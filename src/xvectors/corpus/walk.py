"""Find recordings in folders by their suffixes, without opening them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping

from xvectors.errors import ManifestError

AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".sph", ".caf", ".w64", ".rf64", ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".mkv"),
    *(".mov", ".3gp", ".amr"),
)
COMPANIONS = frozenset(
    (
        *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".textgrid", ".lab", ".phn", ".wrd", ".trs", ".trn"),
        *(".eaf", ".xml", ".yaml", ".yml", ".toml", ".html", ".htm", ".pdf", ".doc", ".docx", ".rtf", ".jpg", ".jpeg"),
        *(".png", ".gif", ".svg", ".log", ".srt", ".vtt", ".ctm", ".rttm", ".uem", ".stm", ".cha", ".ini", ".py"),
        *(".sh", ".m3u"),
    )
)
"""Suffixes of files that commonly accompany recordings."""
HIDDEN, NO_SUFFIX = "hidden", "without suffix"


def is_recording(name: str) -> bool:
    """Whether a file with this name counts as a recording: by its suffix, except hidden files."""
    return not name.startswith(".") and name.lower().endswith(AUDIO_SUFFIXES)


def walk_recordings(folder: str | os.PathLike[str], passed_over: Counter[str] | None = None) -> Iterator[str]:
    """Yield every recording below `folder`, as a path relative to it with forward slashes.

    Paths are sorted by name within each folder, so the order is the same on every file system. Hidden files and
    folders are skipped. Links are followed, except back to a parent folder. `passed_over` counts other files by suffix,
    without tables and texts in `folder` itself. Raises ManifestError if a folder cannot be listed.
    """
    yield from _walk(os.fspath(folder), "", frozenset(), Counter() if passed_over is None else passed_over)


def unknown_files(passed_over: Mapping[str, int]) -> str:
    """List the counted files that might be recordings, by suffix; empty if there are none."""
    return counted({kind: n for kind, n in passed_over.items() if kind not in COMPANIONS and kind != HIDDEN})


def counted(passed_over: Mapping[str, int]) -> str:
    """List counts of files by suffix, the most frequent first: `812 .xyz, 3 .txt`."""
    return ", ".join(f"{n} {kind}" for kind, n in sorted(passed_over.items(), key=lambda item: (-item[1], item[0])))


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]], passed_over: Counter[str]) -> Iterator[str]:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            names = sorted((entry.name, *_kind(entry)) for entry in entries)
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for name, is_folder, is_file in names:
        if is_folder and not name.startswith("."):
            yield from _walk(os.path.join(folder, name), f"{prefix}{name}/", above | {here}, passed_over)
        elif is_file and is_recording(name):
            yield prefix + name
        elif is_file:
            kind = HIDDEN if name.startswith(".") else os.path.splitext(name)[1].lower() or NO_SUFFIX
            if prefix or not (kind in COMPANIONS or kind in (HIDDEN, NO_SUFFIX)):
                passed_over[kind] += 1


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Return whether an entry is a folder, and whether it is a file.

    A link to itself counts as a file that cannot be read, so that a scan reports it and the rest of the folder is
    listed.
    """
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, True

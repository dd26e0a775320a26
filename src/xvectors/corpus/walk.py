"""Finding recordings in folders, without opening any. In: a folder. Out: relative paths, sorted."""

from __future__ import annotations

import os
from collections.abc import Iterator

from xvectors.errors import ManifestError

AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".sph", ".caf", ".w64", ".rf64", ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".mkv"),
    *(".mov", ".3gp", ".amr"),
)


def is_recording(name: str) -> bool:
    """Whether a file of this name is taken for a recording: by its suffix, hidden files never."""
    return not name.startswith(".") and name.lower().endswith(AUDIO_SUFFIXES)


def walk_recordings(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield every recording below `folder`, as a path relative to it with forward slashes.

    Sorted by name within each folder, so the order is the same on every file system. Hidden files and folders
    are skipped, links are followed, and a link that leads back to a folder above itself is not entered again.
    Raises ManifestError where a folder cannot be listed.
    """
    yield from _walk(os.fspath(folder), "", frozenset())


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    except OSError as error:
        raise ManifestError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for name, is_folder, is_file in names:
        if is_folder and not name.startswith("."):
            yield from _walk(os.path.join(folder, name), f"{prefix}{name}/", above | {here})
        elif is_file and is_recording(name):
            yield prefix + name

"""Opening galleries, and carrying them elsewhere. In: a path, a system directory. Out: a `Gallery`; a gallery file that
stands for itself."""

from __future__ import annotations

import os
from contextlib import suppress
from os import PathLike
from pathlib import Path

from xvectors.errors import GalleryError, StorageError
from xvectors.files import atomic_write
from xvectors.folders import find_system
from xvectors.gallery.database import default_gallery
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.store import SqliteStore
from xvectors.verification import verifier_of, weights_digest


def open_gallery(
    path: str | PathLike[str] | None = None, *, system: str | PathLike[str] = "starter", create: bool = False
) -> Gallery:
    """The gallery at `path`, by default the user's own, for embeddings of `system`; `create` makes one where none is.

    Raises
    ------
    GalleryError
        There is none, it is damaged, foreign or of a newer version.
    StorageError
        It cannot be made.
    CheckpointError
        `system` is none, or its calibration is damaged.
    """
    folder = find_system(os.fspath(system))
    verifier, fingerprint = verifier_of(folder), weights_digest(folder.weights)
    store = SqliteStore(Path(path) if path is not None else default_gallery(), create=create)
    return Gallery(store, system=fingerprint, verifier=verifier)


def export_gallery(store: SqliteStore, path: Path) -> int:
    """Write everything to a new file, itself a gallery; returns the number of voiceprints.

    Raises GalleryError where `path` exists, StorageError where it cannot be written.
    """
    if path.exists():
        raise GalleryError(f"{path}: there is a file already; name another, or remove it")
    with atomic_write(path) as temporary:
        try:
            with SqliteStore(temporary, create=True) as target:
                count, _ = target.absorb(store)
        except StorageError as error:
            raise StorageError(str(error).replace(str(temporary), str(path))) from error
        finally:
            for suffix in ("-wal", "-shm"):
                with suppress(OSError):
                    temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    return count


def import_gallery(store: SqliteStore, path: Path) -> tuple[int, int]:
    """Add everything of another gallery file; returns voiceprints added, and those that were there already.

    All or nothing. Raises GalleryError where `path` is no gallery, StorageError where the store cannot be written.
    """
    with SqliteStore(path) as source:
        return store.absorb(source)

"""Open gallery files, and copy them to and from other files."""

from __future__ import annotations

import os
from contextlib import suppress
from os import PathLike
from pathlib import Path

from xvectors.encoder import SpeakerEncoder
from xvectors.errors import GalleryError, StorageError
from xvectors.files import atomic_write
from xvectors.gallery.database import default_gallery
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.results import ImportResult
from xvectors.gallery.sqlite_store import SqliteStore
from xvectors.gallery.untrusted_file import UntrustedFile
from xvectors.system.folder import ONNX_SUFFIX, STARTER, find_system
from xvectors.verification import fingerprint_of, verifier_of


def open_gallery(
    path: str | PathLike[str] | None = None,
    *,
    system: str | PathLike[str] | SpeakerEncoder = STARTER,
    create: bool = False,
) -> Gallery:
    """Open a gallery file for the embeddings of a system.

    Parameters
    ----------
    path
        The file, by default the user's own gallery.
    system
        The system by its name, or loaded.
    create
        Whether to create the file if it does not exist.

    Raises
    ------
    GalleryError
        The file does not exist, is damaged, is not a gallery, or was written by a newer version.
    StorageError
        The file cannot be made.
    CheckpointError
        `system` is not a system, or its calibration is damaged.
    """
    if not isinstance(system, SpeakerEncoder) and Path(system).suffix == ONNX_SUFFIX and Path(system).is_file():
        system = SpeakerEncoder.from_pretrained(system, device="cpu")
    if isinstance(system, SpeakerEncoder):
        verifier, fingerprint = system.verifier, system.fingerprint
    else:  # the network is not needed
        folder = find_system(os.fspath(system))
        verifier, fingerprint = verifier_of(folder), fingerprint_of(folder)
    store = SqliteStore(Path(path) if path is not None else default_gallery(), create=create)
    return Gallery(store, system=fingerprint, verifier=verifier)


def export_gallery(store: SqliteStore, path: Path) -> int:
    """Write all voiceprints to a new gallery file, and return their number.

    Raises
    ------
    GalleryError
        `path` exists.
    StorageError
        `path` cannot be written.
    """
    if path.exists():
        raise GalleryError(f"{path}: the file exists; name another, or remove it")
    with atomic_write(path, private=True) as temporary:
        temporary.unlink()  # SqliteStore makes the file itself
        store.note_export(temporary)  # so that `forget` finds the copy if this process is killed
        try:
            with SqliteStore(temporary, create=True) as target:
                added, _ = target.add_all(store, merge=False)
        except StorageError as error:
            raise StorageError(str(error).replace(str(temporary), str(path))) from error
        finally:
            for suffix in ("-wal", "-shm"):
                with suppress(OSError):
                    temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    store.note_export(temporary, ended=True)
    return sum(added.values())


def import_gallery(gallery: Gallery, path: Path | str, *, merge: bool = False) -> ImportResult:
    """Add all voiceprints of another gallery file, or none, after the checks that `Gallery.enroll` makes.

    Parameters
    ----------
    gallery
        Its system compares the voiceprints of each name.
    path
        A gallery file, which is only read.
    merge
        Whether enrolled names may get further voiceprints.

    Raises
    ------
    GalleryError
        `path` is not a gallery, has values that `enroll` does not write, or would add voiceprints to enrolled names
        while `merge` is False.
    StorageError
        The gallery cannot be written.
    """
    with UntrustedFile(path, now=gallery.now()) as source:
        return gallery.add_all(source, merge=merge)

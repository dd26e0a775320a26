"""Copy galleries: from one store to another, to files, and from files that may come from anyone."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike
from pathlib import Path

from xvectors.errors import ConfigError, GalleryError, StorageError
from xvectors.files import atomic_write
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.opening import Location, open_store
from xvectors.gallery.postgres.address import is_server, parse_address
from xvectors.gallery.results import ImportResult
from xvectors.gallery.sqlite import SqliteStore
from xvectors.gallery.sqlite.untrusted_file import UntrustedFile
from xvectors.gallery.store import Store


def copy_gallery(source: Location, target: Location, *, merge: bool = False) -> tuple[int, int]:
    """Add all voiceprints of a gallery to another, which is made if it does not exist, or none of them.

    Voiceprints that the target has already are not added again, so a copy can be repeated, to bring the target up to
    date. `source` is trusted: `import_gallery` is for files that may come from anyone.

    Returns
    -------
    The number of voiceprints added, and the number known already.

    Raises
    ------
    ConfigError
        Both are the same gallery.
    GalleryError
        One of them cannot be used, or enrolled names would get voiceprints while `merge` is False.
    StorageError
        The target cannot be written.
    """
    with open_store(source) as read:
        if read.location == _location_of(target):
            raise ConfigError(f"{read.location} is both the gallery to copy and the one to copy to; name another")
        with open_store(target, create=True) as written:
            added, known = written.add_all(read, merge=merge)
    return sum(added.values()), known


def _location_of(target: Location) -> str:
    return parse_address(target).location if isinstance(target, str) and is_server(target) else str(Path(target))


def export_gallery(store: Store, path: Path) -> int:
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
        if isinstance(store, SqliteStore):
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
    if isinstance(store, SqliteStore):
        store.note_export(temporary, ended=True)
    return sum(added.values())


def import_gallery(gallery: Gallery, path: str | PathLike[str], *, merge: bool = False) -> ImportResult:
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
    with UntrustedFile(Path(path), now=gallery.now()) as source:
        return gallery.add_all(source, merge=merge)

"""Open galleries by what names them: a file, or the URL of a PostgreSQL server."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ConfigError
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.postgres.address import EXAMPLE, is_server, missing_extra
from xvectors.gallery.sqlite import SqliteStore, default_gallery
from xvectors.gallery.store import Store
from xvectors.system.folder import ONNX_SUFFIX, STARTER, find_system
from xvectors.verification import fingerprint_of, verifier_of

Location = str | PathLike[str]


def open_store(location: Location | None = None, *, create: bool = False) -> Store:
    """Open the enrolled speakers of a gallery, of any system.

    Parameters
    ----------
    location
        The file, by default the user's own gallery, or postgresql://... for one on a server.
    create
        Whether to create the gallery if it does not exist.

    Raises
    ------
    GalleryError
        The gallery does not exist, is damaged, is not a gallery, or was written by a newer version; the server cannot
        be used.
    StorageError
        The gallery cannot be made.
    ConfigError
        The URL cannot be read.
    MissingExtraError
        A server is named, and psycopg or pgvector is not installed.
    """
    if isinstance(location, str) and is_server(location):
        try:
            from xvectors.gallery.postgres.store import PostgresStore
        except ImportError as error:
            raise missing_extra() from error
        return PostgresStore(location, create=create)
    if location is not None and os.fspath(location).startswith(("postgresql:", "postgres:")):
        raise ConfigError(f"the gallery's URL is not written as {EXAMPLE}; give it as text, not as a path")
    return SqliteStore(default_gallery() if location is None else Path(location), create=create)


def open_gallery(
    location: Location | None = None,
    *,
    system: str | PathLike[str] | SpeakerEncoder = STARTER,
    create: bool = False,
) -> Gallery:
    """Open a gallery for the embeddings of a system.

    Parameters
    ----------
    location, create
        As in `open_store`.
    system
        The system by its name, or loaded.

    Raises
    ------
    GalleryError, StorageError, ConfigError, MissingExtraError
        As in `open_store`.
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
    return Gallery(open_store(location, create=create), system=fingerprint, verifier=verifier)


def is_there(location: Location | None = None) -> bool:
    """Return whether there is something at a gallery's place, by default at that of the user's own.

    A server is not asked.
    """
    if is_server(location):
        return True
    return (default_gallery() if location is None else Path(location)).exists()

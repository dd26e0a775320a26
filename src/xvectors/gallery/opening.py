"""Opening galleries, and carrying them elsewhere. In: a path, a system directory. Out: a `Gallery`; a gallery file that
stands for itself."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path

from xvectors.audio import Channel
from xvectors.audio.speech import Heard
from xvectors.encoder import Recording, SpeakerEncoder
from xvectors.errors import GalleryError, StorageError
from xvectors.files import atomic_write
from xvectors.gallery.database import default_gallery
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.results import Found, Imported
from xvectors.gallery.source import Source
from xvectors.gallery.store import SqliteStore
from xvectors.system.folder import ONNX_SUFFIX, STARTER, find_system
from xvectors.verification import fingerprint_of, verifier_of
from xvectors.verification.decision import Decision, judge, lacking, of_sides


def open_gallery(
    path: str | PathLike[str] | None = None,
    *,
    system: str | PathLike[str] | SpeakerEncoder = STARTER,
    create: bool = False,
) -> Gallery:
    """The gallery at `path`, by default the user's own, for embeddings of `system`, by its name or loaded; `create`
    makes one where none is.

    Raises
    ------
    GalleryError
        There is none, it is damaged, foreign or of a newer version.
    StorageError
        It cannot be made.
    CheckpointError
        `system` is none, or its calibration is damaged.
    """
    if not isinstance(system, SpeakerEncoder) and Path(system).suffix == ONNX_SUFFIX and Path(system).is_file():
        system = SpeakerEncoder.from_pretrained(system, device="cpu")
    if isinstance(system, SpeakerEncoder):
        verifier, fingerprint = system.verifier, system.fingerprint
    else:  # its network is not needed
        folder = find_system(os.fspath(system))
        verifier, fingerprint = verifier_of(folder), fingerprint_of(folder)
    store = SqliteStore(Path(path) if path is not None else default_gallery(), create=create)
    return Gallery(store, system=fingerprint, verifier=verifier)


def verify_as(
    gallery: Gallery,
    encoder: SpeakerEncoder,
    name: str,
    recording: Recording,
    *,
    p_target: float | None = None,
    channel: Channel | None = None,
) -> Decision:
    """Whether a recording is of the speaker enrolled as `name`, as `SpeakerEncoder.verify` answers it.

    Errors are those of `Gallery.verify_as`, and AudioError for a recording that cannot be read.
    """
    gallery.enrolled(name)
    heard = encoder.listen(recording, channel=channel)

    def compare() -> tuple[float, float | None]:
        match = gallery.verify_as(name, encoder.encode_heard([heard.samples])[0], heard.speech_s, p_target=p_target)
        return match.score, match.llr

    return judge([heard], compare, gallery.verifier, p_target=p_target, speaker=name)


def identify(
    gallery: Gallery,
    encoder: SpeakerEncoder,
    recording: Recording,
    *,
    top: int = 3,
    p_target: float | None = None,
    channel: Channel | None = None,
) -> tuple[Found, Heard]:
    """Which enrolled speaker a recording is of, if any, and the recording as it was heard.

    Heard and decided as `verify_as` does it: with one enrolled speaker, both give one probability and one answer.

    Errors are those of `Gallery.identify`, and AudioError for a recording that cannot be read.
    """
    heard = encoder.listen(recording, channel=channel)
    if reason := lacking(heard, gallery.verifier):
        return gallery.undecided(reason, p_target=p_target), heard
    found = gallery.identify(encoder.encode_heard([heard.samples])[0], heard.speech_s, top=top, p_target=p_target)
    return replace(found, reasons=(*found.reasons, *of_sides([heard]))), heard


def export_gallery(store: SqliteStore, path: Path) -> int:
    """Write everything to a new file, itself a gallery; returns the number of voiceprints.

    Raises GalleryError where `path` exists, StorageError where it cannot be written.
    """
    if path.exists():
        raise GalleryError(f"{path}: there is a file already; name another, or remove it")
    with atomic_write(path, private=True) as temporary:
        temporary.unlink()  # a gallery is made whole under another name first
        store.note_export(temporary)  # so that `forget` finds a copy that a killed process leaves
        try:
            with SqliteStore(temporary, create=True) as target:
                added, _ = target.absorb(store, merge=False)
        except StorageError as error:
            raise StorageError(str(error).replace(str(temporary), str(path))) from error
        finally:
            for suffix in ("-wal", "-shm"):
                with suppress(OSError):
                    temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    store.note_export(temporary, ended=True)
    return sum(added.values())


def import_gallery(gallery: Gallery, path: Path | str, *, merge: bool = False) -> Imported:
    """Add everything of another gallery file, or nothing, with the checks that `enroll` makes.

    Parameters
    ----------
    gallery
        Its system compares the voices under one name.
    path
        A gallery file. It is only read.
    merge
        Whether names that are enrolled may get further voiceprints.

    Raises
    ------
    GalleryError
        `path` is no gallery; something in it is not what `enroll` writes; names that are enrolled would get
        voiceprints and `merge` is False.
    StorageError
        The gallery cannot be written.
    """
    with Source(path, now=gallery.now()) as source:
        return gallery.absorb(source, merge=merge)

"""Enroll speakers from recordings: embed what they say, and embed kept recordings again with another system."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel
from xvectors.audio.recording import Recording
from xvectors.audio.speech import Heard
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import TooShortError
from xvectors.gallery.opening import Location, open_gallery
from xvectors.gallery.results import ReEnrollmentResult
from xvectors.verification.decision import why_unusable


def embed_recordings(
    encoder: SpeakerEncoder,
    recordings: Sequence[Recording],
    *,
    names: Sequence[str] | None = None,
    channel: Channel | None = None,
) -> tuple[NDArray[np.float32], list[Heard]]:
    """Embed the speech of recordings that are to be enrolled; `names` are those of recordings without a path.

    Returns
    -------
    The embeddings, float32 [n, embedding_dim], and the n recordings as they were heard.

    Raises
    ------
    AudioError
        A recording cannot be read.
    TooShortError
        A recording holds too little speech to be compared.
    """
    titles = names or ["recording"] * len(recordings)
    heard = [
        encoder.listen(recording, name=title, channel=channel)
        for recording, title in zip(recordings, titles, strict=True)
    ]
    for recording in heard:
        if reason := why_unusable(recording, encoder.verifier):
            raise TooShortError(f"{reason}; give a recording with more speech")
    return encoder.encode_heard([recording.samples for recording in heard]), heard


def re_enroll_kept(
    gallery: Location | None, *, system: str | PathLike[str], device: str = "auto"
) -> ReEnrollmentResult:
    """Embed the kept recordings of a gallery with another system. Only one process at a time can do so.

    Raises the errors of `open_gallery` and `Gallery.re_enroll`, and StorageError if another process is at it.
    """
    with (
        open_gallery(gallery, system=system) as opened,
        opened.store.exclusive(),
        tempfile.TemporaryDirectory() as folder,
    ):
        encoder = SpeakerEncoder.from_pretrained(system, device=device)

        def encode(audio: bytes) -> tuple[NDArray[np.float32], float, NDArray[np.float32]]:
            recording = Path(folder) / "recording"
            recording.write_bytes(audio)
            embeddings, heard = embed_recordings(encoder, [recording])
            return embeddings[0], heard[0].speech_s, heard[0].condition

        return opened.re_enroll(encode)

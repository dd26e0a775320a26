"""Recordings as the page shows them: the speaker, a link to the file, and a short excerpt to listen to.

Excerpts are MP3 in data URIs, so that the page stays one file.
"""

from __future__ import annotations

import base64
import math
import os
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import numpy as np

from xvectors import audio
from xvectors.corpus.manifest import FEMALE, MALE
from xvectors.errors import XVectorsError
from xvectors.evaluation.result import Evaluation
from xvectors.report.formats import seconds

MAX_ID = 90  # characters
EXCERPT_S = 4.0
EXCERPT_RATE_HZ = 16_000
GENDER_WORDS = {FEMALE: "female", MALE: "male"}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording for the templates. `address` is empty where the file is not on this machine."""

    id: str
    speaker: str
    facts: str
    address: str
    excerpt: str = ""
    """MP3 in base64."""
    no_excerpt: str = ""


class Recordings:
    """Looks up recordings by their row in the manifest, and makes the excerpt of each at most once.

    Parameters
    ----------
    folder
        The page's folder, which links are relative to.
    audio
        Whether there are excerpts.
    """

    def __init__(self, evaluation: Evaluation, folder: Path, *, audio: bool) -> None:
        self._evaluation, self._folder, self._audio = evaluation, folder, audio
        self._excerpt = lru_cache(maxsize=None)(self._read_excerpt)

    def show(self, row: int, *, excerpt: bool = True) -> Recording:
        """Return a recording, with its excerpt where wanted and possible."""
        manifest, duration_s = self._evaluation.manifest, float(self._evaluation.duration_s[row])
        age = float(manifest.age[row])
        facts = (
            GENDER_WORDS.get(int(manifest.gender[row]), ""),
            "" if math.isnan(age) else f"{age:g} years",
            "" if math.isnan(duration_s) else seconds(duration_s),
        )
        path = manifest.full_path(row)
        recording = Recording(
            id=manifest.id[row],
            speaker=manifest.speakers[manifest.speaker_index[row]],
            facts=", ".join(fact for fact in facts if fact),
            address=_address(path, self._folder) if path.is_file() else "",
        )
        if not (excerpt and self._audio and recording.address):
            return recording
        try:
            return replace(recording, excerpt=self._excerpt(row))
        except XVectorsError as error:
            return replace(recording, no_excerpt=str(error))

    def _read_excerpt(self, row: int) -> str:
        manifest = self._evaluation.manifest
        duration_s = float(manifest.duration_s[row])
        length_s = EXCERPT_S if math.isnan(duration_s) else min(EXCERPT_S, max(duration_s, 0.1))
        mp3 = excerpt(manifest.full_path(row), start_s=float(manifest.start_s[row]), duration_s=length_s)
        return base64.b64encode(mp3).decode("ascii")


def excerpt(path: Path, *, start_s: float = 0.0, duration_s: float = EXCERPT_S) -> bytes:
    """Return the start of a recording as an MP3 file, 16 kHz mono, about 4 kB for each second.

    Raises
    ------
    AudioError
        The recording cannot be read, or this libsndfile cannot write MP3.
    """
    samples, rate_hz = audio.read(path, sample_rate_hz=EXCERPT_RATE_HZ, start_s=start_s, duration_s=duration_s)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "excerpt.mp3"
        audio.write(written, np.nan_to_num(samples), rate_hz, subtype="MPEG_LAYER_III")
        return written.read_bytes()


def _address(path: Path, folder: Path) -> str:
    """Return the file's address relative to the folder, special characters percent-encoded."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive of Windows
        return path.as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))

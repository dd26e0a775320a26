"""Recordings as a reader of the page meets them: who speaks, a link to the file, a short excerpt to hear.
In: rows of an evaluation's manifest. Out: markup. Excerpts are MP3 in data URIs, so that the page stays one file."""

from __future__ import annotations

import base64
import math
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import numpy as np

from xvectors import audio
from xvectors.corpus.manifest import FEMALE, MALE
from xvectors.errors import XVectorsError
from xvectors.evaluation.result import Evaluation
from xvectors.report.markup import escaped, named, seconds

MOST_OF_ID = 90  # characters
EXCERPT_S = 4.0
EXCERPT_RATE_HZ = 16_000
GENDER_WORDS = {FEMALE: "female", MALE: "male"}


class Recordings:
    """What the page says of a recording. Each file is looked for, and each excerpt made, once.

    `folder` is the one that the page is written to: links are relative to it. Without `audio` there are links only.
    """

    def __init__(self, measured: Evaluation, folder: Path, *, audio: bool) -> None:
        self._measured, self._folder, self._audio = measured, folder, audio
        self._players: dict[int, str] = {}

    def describe(self, row: int) -> str:
        """Speaker, gender, age and duration, the linked file and its excerpt."""
        measured = self._measured
        manifest = measured.manifest
        about = [GENDER_WORDS.get(int(manifest.gender[row]), "")]
        age = float(manifest.age[row])
        about.append("" if math.isnan(age) else f"{age:g} years")
        about.append("" if np.isnan(measured.duration_s[row]) else seconds(float(measured.duration_s[row])))
        speaker = manifest.speakers[manifest.speaker_index[row]]
        facts = ", ".join(part for part in about if part)
        return f"<b>{named(speaker)}</b>{' · ' if facts else ''}{escaped(facts)}<br>{self.link(row)}{self._player(row)}"

    def link(self, row: int) -> str:
        """The recording's id, linked to its file where that is on this machine."""
        path = self._measured.manifest.full_path(row)
        name = f'<span class="file">{named(self._measured.manifest.id[row], MOST_OF_ID)}</span>'
        return f'<a href="{escaped(_address(path, self._folder))}">{name}</a>' if path.is_file() else name

    def _player(self, row: int) -> str:
        if not self._audio:
            return ""
        if row not in self._players:
            self._players[row] = self._made_player(row)
        return self._players[row]

    def _made_player(self, row: int) -> str:
        manifest = self._measured.manifest
        path = manifest.full_path(row)
        if not path.is_file():
            return ""
        duration_s = float(manifest.duration_s[row])
        length_s = EXCERPT_S if math.isnan(duration_s) else min(EXCERPT_S, max(duration_s, 0.1))
        try:
            encoded = excerpt(path, start_s=float(manifest.start_s[row]), duration_s=length_s)
        except XVectorsError as error:
            return f'<br><span class="muted">no excerpt: {escaped(error)}</span>'
        return (
            f'<audio controls preload="none" src="data:audio/mpeg;base64,{base64.b64encode(encoded).decode("ascii")}">'
            "</audio>"
        )


def excerpt(path: Path, *, start_s: float = 0.0, duration_s: float = EXCERPT_S) -> bytes:
    """The start of a recording as an MP3 file, 16 kHz mono; about 4 kB a second.

    Raises AudioError or a subclass where the recording cannot be read, or this libsndfile writes no MP3.
    """
    samples, rate_hz = audio.read(path, sample_rate_hz=EXCERPT_RATE_HZ, start_s=start_s, duration_s=duration_s)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "excerpt.mp3"
        audio.write(written, np.nan_to_num(samples), rate_hz, subtype="MPEG_LAYER_III")
        return written.read_bytes()


def _address(path: Path, folder: Path) -> str:
    """The file's address as the page in `folder` says it: relative, every special character as its code."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path.as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))

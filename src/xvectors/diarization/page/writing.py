"""Write the page. Its template is page.html, its style page.css, and its script page.js, which draws what it holds.

Sound is in the page where it is short; otherwise the page plays the recording from its own place.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from xvectors.audio.recording import OpenRecording
from xvectors.audio.writing import encode_mp3
from xvectors.diarization.diarizer import Diarization
from xvectors.diarization.page.peaks import find_peaks
from xvectors.diarization.turn_files.formats import spaceless
from xvectors.files import write_text
from xvectors.text import printable

EMBED_S = 1800.0
"""Recordings up to this duration are put into the page, as MP3 at about 0.25 MB a minute."""
PAGE_RATE_HZ = 16_000
NUM_COLORS = 8
"""Colors of speakers in page.css; further speakers have them again, hatched."""


def write_page(
    path: str | os.PathLike[str],
    found: Diarization,
    sound: OpenRecording,
    *,
    source: str | os.PathLike[str] | None = None,
    embed_s: float = EMBED_S,
) -> Path:
    """Write the page of a diarization, atomically, and return its path.

    Parameters
    ----------
    sound
        The recording, as `open_recording` opens it.
    source
        The recording's file. A longer recording is played from there, by its address relative to the page; without a
        file the page has no sound.
    embed_s
        Recordings up to this duration are put into the page.

    Raises
    ------
    AudioError
        The recording cannot be read.
    StorageError
        The page cannot be written.
    """
    path = Path(path)
    peaks, duration_s = find_peaks(sound)
    if duration_s <= embed_s:
        sound_bytes = encode_mp3(sound.read(PAGE_RATE_HZ), PAGE_RATE_HZ)
        address = f"data:audio/mpeg;base64,{base64.b64encode(sound_bytes).decode('ascii')}"
    else:
        address = "" if source is None else _relative(Path(source), path.parent)
    write_text(path, render_page(found, peaks.tolist(), duration_s, address, "" if source is None else str(source)))
    return path


def render_page(found: Diarization, peaks: Iterable[float], duration_s: float, address: str, source: str = "") -> str:
    """Return the page's text; `address` is what its player plays, empty for no sound."""
    folder = files("xvectors.diarization.page")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        recording=printable(found.recording),
        has_sound=bool(address),
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        script=folder.joinpath("page.js").read_text(encoding="utf-8"),
        data={
            "recording": spaceless(found.recording),
            "file": os.path.basename(source) or found.recording,
            "duration": round(duration_s, 3),
            "peaks": [round(100 * peak) for peak in peaks],
            "colors": NUM_COLORS,
            "speakers": _speakers(found),
            "turns": [[round(turn.start_s, 3), round(turn.end_s, 3), turn.speaker] for turn in found],
            "audio": address,
        },
    )


def _speakers(found: Diarization) -> list[dict[str, Any]]:
    """Return what the page says of each speaker, in order of their first turns."""
    labels = {turn.speaker: turn.label for turn in found}
    speakers = []
    for speaker, label in labels.items():
        answer = found.speakers.get(speaker)
        notes = []
        if answer is not None:
            evidence = "" if answer.llr is None else f", LLR {answer.llr:.1f}"
            notes.append(f"gallery: {answer.answer}{evidence}")
            notes += answer.reasons
        if speaker in found.two_voices:
            notes.append(f"sounds like two voices (LLR {found.two_voices[speaker]:.1f} between halves)")
        speakers.append({"id": speaker, "label": label, "notes": notes})
    return speakers


def _relative(source: Path, folder: Path) -> str:
    """Return the address of a file relative to a folder, percent-encoded."""
    relative = os.path.relpath(source.absolute(), folder.absolute())
    address = quote(os.fsencode(relative.replace(os.sep, "/")))
    return f"./{address}"

"""Write turns for people and programs: RTTM, JSON, WebVTT, SubRip (SRT) and Audacity's labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xvectors.diarization.turn_files.rttm import rttm_lines
from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import ConfigError
from xvectors.files import write_text
from xvectors.text import nearest, printable


def as_rttm(recording: str, turns: Sequence[Turn]) -> str:
    """Return RTTM, with `_` for spaces in names."""
    fields = [replace(turn, name=spaceless(turn.label)) for turn in turns]
    return "".join(line + "\n" for line in rttm_lines(spaceless(recording), fields))


def as_json(recording: str, turns: Sequence[Turn]) -> str:
    """Return a JSON object with the recording and its turns; times in seconds to the millisecond."""
    rounded = [
        {**turn.to_dict(), "start_s": round(turn.start_s, 3), "end_s": round(turn.end_s, 3)} for turn in in_order(turns)
    ]
    return json.dumps({"recording": recording, "turns": rounded}, indent=2, ensure_ascii=False) + "\n"


def as_vtt(recording: str, turns: Sequence[Turn]) -> str:
    """Return WebVTT with a cue for each turn; its voice tag (`<v name>`) and its text are the speaker."""
    cues = [
        f"{clock(turn.start_s)} --> {clock(turn.end_s)}\n{voice_tag(turn.label)}{vtt_text(turn.label)}\n"
        for turn in in_order(turns)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def as_srt(recording: str, turns: Sequence[Turn]) -> str:
    """Return SubRip with a numbered caption, the speaker, for each turn."""
    captions = [
        f"{number}\n{clock(turn.start_s, ',')} --> {clock(turn.end_s, ',')}\n{printable(turn.label)}\n"
        for number, turn in enumerate(in_order(turns), start=1)
    ]
    return "\n".join(captions)


def as_audacity(recording: str, turns: Sequence[Turn]) -> str:
    """Return Audacity's labels: start, end and speaker, separated by tabs."""
    return "".join(f"{turn.start_s:.6f}\t{turn.end_s:.6f}\t{printable(turn.label)}\n" for turn in in_order(turns))


WRITERS: dict[str, tuple[str, Callable[[str, Sequence[Turn]], str]]] = {
    "rttm": (".rttm", as_rttm),
    "json": (".json", as_json),
    "vtt": (".vtt", as_vtt),
    "srt": (".srt", as_srt),
    "audacity": (".labels.txt", as_audacity),
}
"""The suffix and the writer of each format."""


def check_format(name: str) -> str:
    """Return the name of a format; ConfigError for an unknown one."""
    if name not in WRITERS:
        raise ConfigError(f"format {printable(name)!r} is unknown{nearest(name, WRITERS)}")
    return name


def write_turns(
    folder: str | os.PathLike[str], recording: str, turns: Sequence[Turn], formats: Sequence[str] = ("rttm",)
) -> list[Path]:
    """Write the turns of a recording into a folder, one file a format, and return the paths.

    Parameters
    ----------
    recording
        The name of the recording, which becomes that of the files. In RTTM, `_` stands for spaces in names.
    formats
        Any of "rttm", "json", "vtt", "srt" and "audacity".

    Raises
    ------
    ConfigError
        An unknown format.
    StorageError
        A file cannot be written.
    """
    written = list[Path]()
    for name in map(check_format, formats):
        suffix, write = WRITERS[name]
        path = Path(folder) / f"{recording}{suffix}"
        write_text(path, write(recording, turns))
        written.append(path)
    return written


def spaceless(name: str) -> str:
    """Return a name as a field of RTTM, with `_` for spaces."""
    return "_".join(name.split())


def voice_tag(label: str) -> str:
    """Return WebVTT's voice tag for a speaker."""
    return f"<v {vtt_text(label)}>"


def vtt_text(text: str) -> str:
    """Return text as it stands in a cue of WebVTT: one line, with its characters of markup escaped."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(seconds: float, point: str = ".") -> str:
    """Write seconds as hours, minutes, seconds and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"

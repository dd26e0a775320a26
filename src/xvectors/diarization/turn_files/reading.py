"""Read the turns of one recording back from the files that `write_turns` writes: RTTM and JSON."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, TypeGuard

from xvectors.diarization.turn_files.formats import spaceless
from xvectors.diarization.turn_files.rttm import read_rttm
from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import ManifestError
from xvectors.files.json_files import read_json
from xvectors.text import first_few, printable

JSON_SUFFIX = ".json"
WRITTEN_JSON = "JSON as `xvectors diarize --format json` writes"


def read_turns(path: str | os.PathLike[str], recording: str) -> list[Turn]:
    """Return the turns of a recording, by its name, in order of time: from JSON by the suffix, otherwise from RTTM.

    Raises
    ------
    ManifestError
        The file cannot be read, is of another recording, or one of its turns is wrong.
    """
    path = Path(path)
    if path.suffix.lower() == JSON_SUFFIX:
        found = read_json(path, WRITTEN_JSON)
        rows = found.get("turns")
        if not isinstance(rows, list):
            raise ManifestError(f"{path}: has no list `turns`; give {WRITTEN_JSON}")
        known = [str(found.get("recording"))]
        turns = [_turn(path, number, row) for number, row in enumerate(rows)]
    else:
        by_name = read_rttm(path).turns
        known, turns = list(by_name), by_name.get(spaceless(recording), [])
    if spaceless(recording) not in map(spaceless, known):
        raise ManifestError(
            f"{path}: has the turns of {first_few(map(printable, known))}, not of {recording}; name the file that was "
            "written for this recording"
        )
    return in_order(turns)


def _turn(path: Path, number: int, row: Any) -> Turn:
    fields: dict[str, Any] = row if isinstance(row, dict) else {}
    start_s, end_s, llr = (fields.get(name) for name in ("start_s", "end_s", "llr"))
    speaker, name, answer = (fields.get(key) for key in ("speaker", "name", "answer"))
    if (
        not (_is_time(start_s) and _is_time(end_s) and start_s < end_s)
        or not (speaker and isinstance(speaker, str))
        or not all(text is None or isinstance(text, str) for text in (name, answer))
        or not (llr is None or _is_number(llr))
    ):
        raise ManifestError(
            f"{path}: turn {number} is {printable(repr(row))[:100]}; it needs start_s below end_s, in seconds, and "
            "speaker"
        )
    return Turn(start_s=start_s, end_s=end_s, speaker=speaker, name=name, answer=answer, llr=llr)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> TypeGuard[float]:
    return _is_number(value) and value >= 0

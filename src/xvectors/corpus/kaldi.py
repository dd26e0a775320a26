"""Read Kaldi data directories (https://kaldi-asr.org/doc/data_prep.html) without executing any command."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from xvectors.corpus.builder import ManifestBuilder
from xvectors.corpus.columns import find_columns
from xvectors.corpus.manifest import Manifest
from xvectors.errors import ManifestError
from xvectors.files import NO_SUCH_FILE, why_no_file
from xvectors.text import agree, composed, count, first_few

logger = logging.getLogger(__name__)

HEADER = ("path", "speaker", "id", "gender", "age", "session", "start_s", "duration_s")


def read_kaldi(folder: Path, *, root: str | os.PathLike[str] | None = None) -> Manifest:
    """Read wav.scp, utt2spk and, where present, segments, spk2gender, spk2age and utt2dur.

    Relative paths start from `root`, by default from the data directory or, like in Kaldi, from the working directory
    if the first recording exists only there. With segments, the recording is the session. Utterances without speaker or
    recording are left out, with a warning.
    """
    recordings = _pairs(folder / "wav.scp")
    for name, path in recordings.items():
        _check_is_file(folder, name, path)
    speakers = _pairs(folder / "utt2spk")
    genders, ages, durations = (
        _pairs(folder / name) if (folder / name).is_file() else {} for name in ("spk2gender", "spk2age", "utt2dur")
    )
    if (folder / "segments").is_file():
        segments = _segments(folder / "segments")
    else:
        segments = {name: (name, "", durations.get(name, "")) for name in recordings}
    rows = []
    without_speaker, without_recording = [], [name for name in speakers if name not in segments]
    for name, (recording, start_s, duration_s) in segments.items():
        recording = composed(recording)
        if recording not in recordings:
            without_recording.append(name)
        elif name not in speakers:
            without_speaker.append(name)
        else:
            speaker = composed(speakers[name])
            session = recording if recording != name else ""
            known = (genders.get(speaker, ""), ages.get(speaker, ""))
            rows.append([recordings[recording], speaker, name, *known, session, start_s, duration_s])
    for what, names in (("speaker in utt2spk", without_speaker), ("recording in wav.scp", without_recording)):
        if names:
            logger.warning(
                "%s: %s no %s and %s left out, such as %s",
                folder,
                f"{count(len(names), 'utterance')} {agree(len(names), 'has', 'have')}",
                what,
                agree(len(names), "is", "are"),
                first_few(names),
            )
    if not rows:
        raise ManifestError(f"{folder}: no utterance has both a recording in wav.scp and a speaker in utt2spk")
    if root is None:
        first = rows[0][0]  # os.path treats a name that is too long as missing
        root = folder if os.path.exists(folder / first) or not os.path.exists(first) else Path.cwd()
    builder = ManifestBuilder(
        list(HEADER), find_columns(HEADER, str(folder)), lambda row: f"{folder}: utterance {rows[row][2]}"
    )
    builder.add(list(zip(*rows, strict=True)))
    return Manifest(**builder.build(str(folder), Path(root), folder.absolute(), ends_are_known=True))


def _pairs(path: Path) -> dict[str, str]:
    """Read lines `key value`, where the value is the rest of the line."""
    pairs: dict[str, str] = {}
    lines: dict[str, int] = {}
    why = why_no_file(path)
    if why and why != NO_SUCH_FILE:
        raise ManifestError(f"{path}: {why}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: is missing; a Kaldi data directory needs wav.scp and utt2spk") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as UTF-8 text; check the file") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        key, *rest = line.split(maxsplit=1)
        key = composed(key)
        if not rest:
            raise ManifestError(f"{path}: line {number}: {key!r} has no value; write a name, a space and the value")
        if key in pairs:
            raise ManifestError(f"{path}: lines {lines[key]} and {number} both define {key!r}; remove one")
        pairs[key], lines[key] = rest[0].strip(), number
    return pairs


def _check_is_file(folder: Path, name: str, path: str) -> None:
    if path.endswith("|"):
        raise ManifestError(
            f"{folder / 'wav.scp'}: {name} is a command ({path[:60]}), and commands are not executed; "
            "run it once, write its output to a file and name the file"
        )
    if path.rpartition(":")[2].isdigit() and ".ark:" in path:
        raise ManifestError(
            f"{folder / 'wav.scp'}: {name} lies in a Kaldi archive ({path}); "
            "extract the archive to WAV or FLAC (wav-copy) and name the files"
        )


def _segments(path: Path) -> dict[str, tuple[str, str, str]]:
    """Read recording, start and duration of each utterance; an end of -1 is that of the recording."""
    segments = {}
    for name, value in _pairs(path).items():
        try:
            recording, start, end = value.split()
            start_s, end_s = float(start), float(end)
        except ValueError as error:
            raise ManifestError(
                f"{path}: {name}: {value!r} is not a recording, a start and an end in seconds"
            ) from error
        if not (math.isfinite(start_s) and math.isfinite(end_s)):
            raise ManifestError(f"{path}: {name}: {value!r} is not a recording, a start and an end in seconds")
        if start_s < 0 or (end_s != -1 and end_s <= start_s):
            raise ManifestError(f"{path}: {name}: a segment cannot go from {start} to {end} s; correct it")
        # rounded to the microsecond, to undo binary rounding of decimal times
        segments[name] = (recording, start, "" if end_s == -1 else str(round(end_s - start_s, 6)))
    return segments

"""Find the speaker folders of a tree: layouts of published corpora, and trees that leave it open.

Only paths are used; no file is opened.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from xvectors.errors import ManifestError
from xvectors.text import first_few

logger = logging.getLogger(__name__)

RECOGNIZED_SHARE = 0.95
"""Share of recordings that must match a known layout. The others are left out with a warning."""
FEW_FOLDERS = 9
"""Up to this many folders with many more below each may be parts of a corpus rather than speakers."""

_PARTS = frozenset(
    (
        *("train", "training", "dev", "devel", "development", "test", "testing", "eval", "evaluation", "val", "valid"),
        *("validation", "enroll", "enrol", "enrollment", "wav", "wavs", "wave", "waves", "flac", "mp3", "ogg", "opus"),
        *("aac", "m4a", "sph", "pcm", "audio", "audios", "sound", "sounds", "speech", "voices", "clips", "data"),
        *("dataset", "corpus", "recordings", "utterances", "segments", "files", "raw", "clean", "other", "noisy"),
        *("original", "processed", "trimmed", "silence", "normalized", "male", "males", "female", "females", "men"),
        *("women", "boys", "girls", "adult", "adults", "child", "children", "kids", "speakers", "spk", "spks", "part"),
        *("subset", "split", "fold", "batch", "disk", "disc", "volume", "vol", "k", "khz"),
    )
)
_OF_A_SESSION = re.compile(
    r"(v|s|r|t|sess|session|day|visit|take|rec|recording|call|conv|conversation|chapter|book|tape|week|month|year|date"
    r"|run|trial|round|phase|lesson|topic|room|mic|phone|video|meeting|scene|text|prompt|task)?[-_ ]?\d{0,3}"
    r"|(19|20)\d\d[-_.]?\d\d.*|\d\d?[-_.]\d\d?[-_.](19|20)?\d\d"
)
_VIDEO_ID = re.compile(r"(?=.*[A-Z0-9_-])[\w-]{11}")


def speaker_places(data: Path, parts: Sequence[Sequence[str]], level: int | None) -> list[int | None]:
    """Return the position of the speaker folder in each path (`parts`, with the file name last), or None.

    `level`, from 1, is stated by the user. Without it, the layouts of LibriSpeech, VoxCeleb, TIMIT, VCTK and AISHELL
    are recognized at any depth, and in other trees the first folder is the speaker.

    Raises ManifestError if no recording is that deep, and if all first folders have folders below and names of corpus
    parts (train, wav, female). A few folders with many below each cause a warning.
    """
    if level is not None:
        if level < 1:
            raise ManifestError(
                f"speaker_level is {level}; use 1 for the folders in {data}, 2 for the folders below them"
            )
        places = [level - 1 if len(names) > level else None for names in parts]
        if set(places) == {None}:
            deepest = max(map(len, parts)) - 1
            raise ManifestError(
                f"{data}: no recording lies in folders {level} deep, the deepest in {deepest}; "
                "use a smaller --speaker-level"
            )
        return places
    for name, place in LAYOUTS.items():
        known = [place(names) for names in parts]
        if sum(found is not None for found in known) >= RECOGNIZED_SHARE * len(known):
            logger.info("%s: has the layout of %s", data, name)
            return known
    _ask_about_parts(data, parts)
    return [0 if len(names) > 1 else None for names in parts]


def _librispeech(names: Sequence[str]) -> int | None:
    """`.../speaker/chapter/speaker-chapter-number`; Multilingual LibriSpeech writes underscores."""
    match = re.fullmatch(r"(\d+)[-_](\d+)[-_]\d+", _stem(names))
    return len(names) - 3 if match and list(match.groups()) == list(names[-3:-1]) else None


def _voxceleb(names: Sequence[str]) -> int | None:
    """`.../id10001/video/number`; CN-Celeb has no folder for videos."""
    return next((at for at, name in enumerate(names[:-1]) if re.fullmatch(r"id\d{5}", name)), None)


def _timit(names: Sequence[str]) -> int | None:
    """`.../DR1/FCJF0/sentence`: a dialect region, then the gender, initials and a digit."""
    folders = [name.upper() for name in names[:-1]]
    if len(folders) > 1 and re.fullmatch(r"DR[1-8]", folders[-2]) and re.fullmatch(r"[FM][A-Z]{3}\d", folders[-1]):
        return len(folders) - 1
    return None


def _vctk(names: Sequence[str]) -> int | None:
    """`.../p225/p225_001`."""
    is_speaker = len(names) > 1 and re.fullmatch(r"[ps]\d{1,3}", names[-2])
    return len(names) - 2 if is_speaker and _stem(names).startswith(f"{names[-2]}_") else None


def _aishell(names: Sequence[str]) -> int | None:
    """`.../S0002/BAC009S0002W0122`, in AISHELL-3 `.../SSB0005/SSB00050001`."""
    is_speaker = len(names) > 1 and re.fullmatch(r"S(SB)?\d{4}", names[-2])
    return len(names) - 2 if is_speaker and names[-2] in _stem(names) else None


LAYOUTS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "LibriSpeech": _librispeech,
    "VoxCeleb": _voxceleb,
    "TIMIT": _timit,
    "VCTK": _vctk,
    "AISHELL": _aishell,
}


def _ask_about_parts(data: Path, parts: Sequence[Sequence[str]]) -> None:
    """Warn, or raise, if the speakers may be deeper than the first folders."""
    inside = [names for names in parts if len(names) > 1]
    if not inside:
        return
    firsts = list(dict.fromkeys(names[0] for names in inside))
    if not all(len(names) > 2 for names in inside):
        if all(map(_is_part, firsts)):
            logger.warning(
                "%s: its folders are taken for speakers and named like parts of a corpus (%s); if they are parts, make "
                "one sub-folder for each speaker, or write a manifest",
                *(data, first_few(firsts)),
            )
        return
    level = 1
    while all(_is_part(names[level]) and len(names) > level + 2 for names in inside):
        level += 1
    deeper = "one folder" if level == 1 else f"{level} folders"
    if all(map(_is_part, firsts)):
        raise ManifestError(
            f"{data}: its folders ({first_few(firsts)}) are named like parts of a corpus, not like speakers: do the "
            f"speakers lie {deeper} deeper? Then say --speaker-level {level + 1} (such as {inside[0][level]}); "
            f"--speaker-level 1 takes {firsts[0]} for a speaker"
        )
    if _may_be_parts(inside, level):
        logger.warning(
            "%s: %s taken for %s (%s), with %d folders in all below: do the speakers lie %s deeper? Then say "
            "--speaker-level %d (such as %s); --speaker-level 1 if not",
            *(data, "1 folder is" if len(firsts) == 1 else f"{len(firsts)} folders are"),
            *("a speaker" if len(firsts) == 1 else "speakers", first_few(firsts)),
            *(len({tuple(names[: level + 1]) for names in inside}), deeper, level + 1, inside[0][level]),
        )


def _may_be_parts(parts: Sequence[Sequence[str]], level: int) -> bool:
    """Whether the first folders look more like corpus parts than like speakers, given the folders `level` below.

    Sessions are named by numbers, dates, video ids or their speaker, or have the same few names for all speakers.
    """
    pairs = list(dict.fromkeys((names[0], names[level]) for names in parts))
    num_firsts, seconds = len({first for first, _ in pairs}), {second for _, second in pairs}
    if sum(_is_session(*pair) for pair in pairs) > len(pairs) // 2:
        return False
    if num_firsts <= FEW_FOLDERS and len(seconds) >= 2 * num_firsts:
        return True
    # files named after the deeper folder, not after the first
    named = sum(_stem(names).startswith(names[level]) and names[0] not in _stem(names) for names in parts)
    return len(seconds) > num_firsts and named >= RECOGNIZED_SHARE * len(parts)


def _is_part(name: str) -> bool:
    """Whether every word of a folder name is typical of corpus parts: `train-clean-100`, `wav48`."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return bool(words) and _PARTS.issuperset(words)


def _is_session(first: str, second: str) -> bool:
    name = second.lower()
    return bool(_OF_A_SESSION.fullmatch(name) or _VIDEO_ID.fullmatch(second) or _is_part(name) or first.lower() in name)


def _stem(names: Sequence[str]) -> str:
    return os.path.splitext(names[-1])[0]

"""Recognize the columns of a corpus table, and parse their cells."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ManifestError
from xvectors.text import composed

NO_SPLIT, TRAIN, VAL, TEST = -1, 0, 1, 2
SPLIT_NAMES = ("train", "val", "test")
MALE, FEMALE, UNKNOWN_GENDER = 0, 1, -1
GENDER_NAMES = ("male", "female")
MAX_AGE = 130.0

ALIASES = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "wav",
        "audio",
        "audio_path",
        "storage_path",
    ),
    "speaker": ("speaker", "speaker_id", "spk_id", "spk", "voxceleb_id", "voxceleb1_id", "voxceleb2_id"),
    "id": ("id",),
    "gender": ("gender", "sex"),
    "age": ("age", "speaker_age", "spk_age"),
    "session": ("session", "session_id", "video", "video_id", "youtube_id"),
    "duration_s": ("duration_s", "duration", "dur"),
    "start_s": ("start_s", "start", "start_time", "begin"),
    "end_s": ("end_s", "end", "stop", "stop_s", "end_time"),
    "split": ("split", "set"),
}
# used only if no other column has this meaning; other tables use these names for other things
WEAK_ALIASES = {
    "path": ("audio_filepath", "audio_file", "wav_path"),
    "speaker": ("client_id",),
    "start_s": ("offset",),
}
_MEANING = {alias: meaning for meaning, aliases in ALIASES.items() for alias in aliases}
_UNKNOWN = {"", "unknown", "unk", "nan", "none", "null", "na", "n/a", "-", "?"}
_MALE = frozenset({"m", "male", "0", "0.0", "male_masculine", "masculine", "man", "boy"})
_FEMALE = frozenset({"f", "female", "1", "1.0", "female_feminine", "feminine", "woman", "girl"})
_OTHER_GENDER = frozenset(
    {"u", "-1", "-1.0", "other", "non-binary", "intersex", "transgender", "do_not_wish_to_say", "prefer_not_to_say"}
)
_DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")
# the middle of the decade; the spelling of the fourth is that of Common Voice
_AGE_WORDS = {"teens": 16.0, "fourties": 45.0} | {word: 25.0 + 10.0 * n for n, word in enumerate(_DECADES)}
_SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
}


class BadCell(ValueError):
    """A cell that cannot be parsed. The message says why, without the place."""


@dataclass(frozen=True)
class Columns:
    """Column numbers: `known` by meaning, `extra` by name."""

    known: dict[str, int]
    extra: dict[str, int]
    split_is_published_set: (
        bool  # the column is called `Set`, whose dev and test are the published division of a corpus
    )


def find_columns(header: Sequence[str], source: str, required: Sequence[str] = ("path", "speaker")) -> Columns:
    """Recognize the columns. Raises ManifestError for two columns with one meaning and for missing columns."""
    names = [re.sub(r"[\s\-]+", "_", name.strip().lower()) for name in header]
    meanings = [_MEANING.get(name) for name in names]
    for weak, aliases in WEAK_ALIASES.items():
        number = next((n for n, name in enumerate(names) if name in aliases), None)
        if weak not in meanings and number is not None:
            meanings[number] = weak
    # NeMo calls the speaker label
    if "speaker" not in meanings and "audio_filepath" in names and "label" in names:
        meanings[names.index("label")] = "speaker"
    # VoxCeleb calls the speaker ID; next to a speaker column, id is that of the utterance
    if "speaker" not in meanings:
        meanings = ["speaker" if name == "id" else meaning for name, meaning in zip(names, meanings, strict=True)]
    # the published Set of a corpus may stand beside our split
    if "split" in names:
        meanings = [None if name == "set" else meaning for name, meaning in zip(names, meanings, strict=True)]
    known: dict[str, int] = {}
    extra: dict[str, int] = {}
    for number, (name, meaning) in enumerate(zip(header, meanings, strict=True)):
        if meaning is None:
            extra[_free_name(name, number, extra)] = number
            continue
        if meaning in known:
            raise ManifestError(
                f"{source}: columns {header[known[meaning]]!r} and {name!r} both mean {meaning!r}; "
                f"rename or remove one (columns found: {_listed(header)})"
            )
        known[meaning] = number
    for meaning in required:
        if meaning not in known:
            raise ManifestError(
                f"{source}: no column says {meaning!r}; name one of them {', '.join(ALIASES[meaning])}"
                f"{' or ID' if meaning == 'speaker' else ''} (columns found: {_listed(header)})"
            )
    return Columns(known, extra, "split" in known and names[known["split"]] == "set")


def _free_name(name: str, number: int, taken: dict[str, int]) -> str:
    """Name an unknown column: by its name, with a number if that name is taken."""
    if not name:
        return f"column {number + 1}"
    return name if name not in taken else f"{name} ({number + 1})"


def parse_gender(cell: str) -> int:
    """Parse a gender: 0 male, 1 female, -1 unknown."""
    word = cell.strip().lower()
    if word in _MALE:
        return MALE
    if word in _FEMALE:
        return FEMALE
    if word in _UNKNOWN or word in _OTHER_GENDER:
        return UNKNOWN_GENDER
    raise BadCell(f"gender {cell.strip()!r} is not known; write m, f, male, female, 0 (male), 1 (female), or nothing")


def parse_age(cell: str) -> float:
    """Parse an age in years (NaN: unknown). A decade (twenties, 20-29, 20s) becomes its middle."""
    word = cell.strip().lower()
    if word in _AGE_WORDS:
        return _AGE_WORDS[word]
    if span := re.fullmatch(r"(\d+)\s*[-–]\s*(\d+)", word):
        return (int(span[1]) + int(span[2]) + 1) / 2
    if decade := re.fullmatch(r"([1-9]0)'?s", word):
        return int(decade[1]) + 5.0
    age = _number(cell, "age", "years")
    if age > MAX_AGE:
        raise BadCell(f"age {cell.strip()} is above {MAX_AGE:g} years; write an age, not a year of birth")
    return age


def parse_duration(cell: str) -> float:
    """Parse a duration in seconds; NaN: unknown."""
    return _number(cell, "duration_s", "seconds")


def parse_start(cell: str) -> float:
    """Parse a start in seconds; an empty cell is 0."""
    start_s = _number(cell, "start_s", "seconds")
    return 0.0 if math.isnan(start_s) else start_s


def parse_end(cell: str) -> float:
    """Parse an end in seconds or samples; NaN: unknown. -1 is the end of the file, as in Kaldi."""
    return math.nan if cell.strip() in ("-1", "-1.0") else _number(cell, "end_s", "seconds")


def parse_split(cell: str) -> int:
    """Parse a split: TRAIN, VAL, TEST, or NO_SPLIT for an empty cell."""
    word = cell.strip().lower()
    if word == "dev":
        raise BadCell("split 'dev' means training in some corpora, validation in others; write train or val")
    if word not in _SPLITS and word not in _UNKNOWN:
        raise BadCell(f"split {cell.strip()!r} is not known; write train, val, test or nothing")
    return _SPLITS.get(word, NO_SPLIT)


def is_our_split(words: Sequence[str]) -> bool:
    """Whether a `Set` column clearly holds our split: train, perhaps val and test, and nothing else."""
    known = [_SPLITS.get(word.strip().lower()) for word in words if word.strip()]
    return TRAIN in known and None not in known


class Codes(dict[str, int]):
    """Number strings in order of appearance: `codes[name]` assigns the next number to a new name."""

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        return number

    def encode(self, cells: Sequence[str]) -> NDArray[np.int32]:
        """Return the numbers of the cells. Unicode forms of one name have the same number."""
        if not "".join(cells).isascii():
            cells = list(map(composed, cells))
        return np.fromiter(map(self.__getitem__, cells), dtype=np.int32, count=len(cells))

    def ranked(self, codes: NDArray[np.int32]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Return the sorted names, and `codes` as positions among them."""
        names = sorted(self)
        rank = np.empty(len(names), dtype=np.int32)
        rank[[self[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return tuple(names), rank[codes]


class Parsed(dict[str, float]):
    """A cache that parses each distinct cell once."""

    def __init__(self, parse: Callable[[str], float]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, key: str) -> float:
        value = self._parse(key)
        # durations rarely repeat: beyond this many distinct cells, caching costs more than it saves
        if len(self) < 50_000:
            self[key] = value
        return value


def _number(cell: str, name: str, unit: str) -> float:
    word = cell.strip()
    if word.lower() in _UNKNOWN:
        return math.nan
    try:
        value = float(word)
    except ValueError:
        raise BadCell(f"{name} {word!r} is not a number; write {unit}, or nothing where unknown") from None
    if not 0.0 <= value < math.inf:
        raise BadCell(f"{name} {word} cannot be; write {unit} from 0 on, or nothing where unknown")
    return value


def _listed(header: Sequence[str]) -> str:
    return ", ".join(map(repr, header))

"""Names that a person gives to the speakers of a recording, and turns under these names.

Two speakers with one name become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xvectors.diarization.turn_files.formats import spaceless
from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import ConfigError, ManifestError
from xvectors.files.json_files import read_json
from xvectors.gallery import speaker_name
from xvectors.text import first_few, nearest, printable

if TYPE_CHECKING:
    from xvectors.diarization.diarizer import Diarization

NAMES_JSON = 'names as in {"speaker_1": "Ann"}'


def parse_names(options: Iterable[str]) -> dict[str, str]:
    """Parse what --enroll and --rename take: `LABEL=NAME`, or a JSON file of names by label.

    Raises
    ------
    ConfigError
        Text of another form, a label with two names, or a name that the gallery does not take.
    ManifestError
        A file that cannot be read, or holds something else.
    """
    names = dict[str, str]()
    for option in options:
        label, equals, name = option.partition("=")
        if equals and label.strip():
            pairs = {label.strip(): name}
        elif Path(option).suffix.lower() == ".json":
            pairs = _names_of_file(Path(option))
        else:
            raise ConfigError(
                f"{printable(option)!r} names no speaker; give LABEL=NAME, as in speaker_2=bob, or a JSON file of names"
            )
        for each, new in pairs.items():
            new = speaker_name(new)
            if names.setdefault(each, new) != new:
                raise ConfigError(f"{printable(each)} is named both {names[each]} and {new}; give it one name")
    return names


def find_speaker(turns: Sequence[Turn], label: str) -> str:
    """Return the `Turn.speaker` that a label means: a speaker's label, or the name that stands in its place.

    Raises ConfigError, with the labels there are, for an unknown one.
    """
    known = dict[str, str]()
    for turn in turns:
        known.setdefault(turn.speaker, turn.speaker)
    for turn in turns:
        known.setdefault(turn.label, turn.speaker)
        known.setdefault(spaceless(turn.label), turn.speaker)
    label = label if label in known else spaceless(label)  # names in RTTM have no spaces
    if label not in known:
        there = f"the speakers are {first_few(known, 10)}" if known else "there are no turns"
        raise ConfigError(f"no speaker is labeled {printable(label)!r}{nearest(label, known, there)}")
    return known[label]


def names_of_speakers(turns: Sequence[Turn], names: Mapping[str, str]) -> dict[str, str]:
    """Return the name by `Turn.speaker` instead of by label.

    Raises ConfigError for an unknown label, and for a speaker who gets two names by two labels.
    """
    found = dict[str, str]()
    for label, name in names.items():
        speaker = find_speaker(turns, label)
        if found.setdefault(speaker, name) != name:
            raise ConfigError(
                f"{printable(label)} is {speaker}, who is named both {found[speaker]} and {name}; give one"
            )
    return found


def rename_speakers(found: Diarization, names: Mapping[str, str]) -> Diarization:
    """Return a diarization whose speakers have the names given for their labels; those of one name are joined.

    What a person says takes the place of the gallery's answer. Raises ConfigError as `names_of_speakers` does.
    """
    new = names_of_speakers(found.turns, names)
    if not new:
        return found
    # the label that a speaker has now also names those whom the gallery calls the same
    merged = {turn.speaker: new.get(turn.speaker, _kept(turn, new.values())) for turn in found.turns}
    turns = [
        turn if merged[turn.speaker] == turn.speaker else Turn(start_s=turn.start_s, end_s=turn.end_s, speaker=label)
        for turn in found.turns
        for label in [merged[turn.speaker]]
    ]
    speech_s, sums = dict[str, float](), dict[str, np.ndarray]()
    for speaker, seconds in found.speech_s.items():
        label = merged.get(speaker, speaker)
        speech_s[label] = speech_s.get(label, 0.0) + seconds
        if speaker in found.embeddings:
            sums[label] = sums.get(label, np.float32(0.0)) + seconds * found.embeddings[speaker]
    return replace(
        found,
        turns=tuple(_joined(turns)),
        speech_s=speech_s,
        embeddings={label: (total / speech_s[label]).astype(np.float32) for label, total in sums.items()},
        speakers={label: answer for label, answer in found.speakers.items() if merged.get(label, label) == label},
        two_voices={label: llr for label, llr in found.two_voices.items() if merged.get(label, label) == label},
    )


def _kept(turn: Turn, names: Iterable[str]) -> str:
    return turn.label if turn.label in names else turn.speaker


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Join turns of a speaker that touch or overlap."""
    joined, last = list[Turn](), dict[str, int]()
    for turn in in_order(turns):
        at = last.get(turn.speaker)
        if at is not None and turn.start_s <= joined[at].end_s:
            joined[at] = replace(joined[at], end_s=max(joined[at].end_s, turn.end_s))
        else:
            last[turn.speaker] = len(joined)
            joined.append(turn)
    return joined


def _names_of_file(path: Path) -> dict[str, str]:
    names = read_json(path, NAMES_JSON)
    if not names or not all(isinstance(name, str) for name in names.values()):
        raise ManifestError(f"{path}: does not hold a name for each label; give {NAMES_JSON}")
    return names

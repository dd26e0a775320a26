"""Make simulated conversations of a corpus: sound files with their turns in RTTM and what is scored in UEM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xvectors import audio
from xvectors.audio import Samples
from xvectors.audio.activity import speech_s
from xvectors.corpus import Manifest
from xvectors.diarization.clustering.ahc import SpeakerRange
from xvectors.diarization.simulation.conversation import ConversationStyle, simulate_conversation
from xvectors.diarization.turn_files.formats import spaceless
from xvectors.diarization.turn_files.rttm import write_rttm
from xvectors.diarization.turns import Turn
from xvectors.errors import AudioError, ConfigError
from xvectors.files import write_text
from xvectors.text import count, short_repr

MAX_UTTERANCES = 40
"""Utterances of a speaker that a conversation draws from."""
MIN_SPEECH_S = 0.5
"""Utterances with less speech are left out."""
RTTM_NAME, UEM_NAME = "conversations.rttm", "conversations.uem"


@short_repr("name")
@dataclass(frozen=True, kw_only=True, eq=False)
class Conversation:
    """A simulated conversation: float32 [samples], its turns, and its name."""

    name: str
    samples: Samples
    turns: list[Turn]


def conversations(
    manifest: Manifest,
    number: int,
    speakers: SpeakerRange,
    style: ConversationStyle | None = None,
    *,
    sample_rate_hz: int = 16_000,
    seed: int = 0,
) -> Iterator[Conversation]:
    """Yield simulated conversations of speakers drawn from a corpus; the number of speakers rises within its limits.

    Recordings that cannot be read or hold less than 0.5 s of speech are left out.

    Raises ConfigError for a corpus with fewer usable speakers than asked for.
    """
    rng = np.random.default_rng(seed)
    if speakers.most > len(manifest.speakers):
        raise ConfigError(
            f"conversations of {count(speakers.most, 'speaker')} need as many, and the corpus has "
            f"{len(manifest.speakers)}; ask for fewer, or give a larger corpus"
        )
    sizes = np.rint(np.linspace(speakers.least, speakers.most, number)).astype(int)
    for at, size in enumerate(sizes.tolist()):
        utterances: dict[str, list[Samples]] = {}
        for speaker in rng.permutation(len(manifest.speakers)).tolist():
            found = _utterances(manifest, speaker, sample_rate_hz, rng)
            if found:
                utterances[spaceless(manifest.speakers[speaker])] = found
            if len(utterances) == size:
                break
        else:
            raise ConfigError(
                f"only {count(len(utterances), 'speaker')} of the corpus have recordings with speech, where a "
                f"conversation of {size} is asked for; ask for fewer speakers"
            )
        samples, turns = simulate_conversation(utterances, sample_rate_hz, style, seed=int(rng.integers(2**31)))
        yield Conversation(name=f"simulated-{at:03d}-{size}-speakers", samples=samples, turns=turns)


def write_conversations(
    folder: str | os.PathLike[str],
    manifest: Manifest,
    number: int,
    speakers: SpeakerRange,
    style: ConversationStyle | None = None,
    *,
    sample_rate_hz: int = 16_000,
    seed: int = 0,
) -> list[Path]:
    """Write conversations as FLAC into a folder, with `conversations.rttm` and `conversations.uem`; return their paths.

    Raises as `conversations` does, and StorageError where a file cannot be written.
    """
    out, written = Path(folder), list[Path]()
    turns: dict[str, list[Turn]] = {}
    regions = list[str]()
    for made in conversations(manifest, number, speakers, style, sample_rate_hz=sample_rate_hz, seed=seed):
        written.append(out / f"{made.name}.flac")
        audio.write(written[-1], made.samples, sample_rate_hz)
        turns[made.name] = made.turns
        regions.append(f"{made.name} 1 0.000 {len(made.samples) / sample_rate_hz:.3f}\n")
    write_rttm(out / RTTM_NAME, turns)
    write_text(out / UEM_NAME, "".join(regions))
    return written


def _utterances(manifest: Manifest, speaker: int, rate: int, rng: np.random.Generator) -> list[Samples]:
    rows = rng.permutation(np.flatnonzero(manifest.speaker_index == speaker))[:MAX_UTTERANCES]
    found = list[Samples]()
    for row in rows.tolist():
        duration_s = float(manifest.duration_s[row]) if manifest.has_segments else np.nan
        try:
            samples, _ = audio.read(
                manifest.full_path(row),
                sample_rate_hz=rate,
                start_s=float(manifest.start_s[row]),
                duration_s=None if np.isnan(duration_s) else duration_s,
            )
        except AudioError:
            continue
        if speech_s(samples, rate) >= MIN_SPEECH_S:
            found.append(samples)
    return found

"""Simulated conversations: utterances of single speakers, laid out as turns with pauses, overlap, rooms and noise.

Their labels are exact by construction. They are easier than real conversations: nobody laughs, mumbles or answers, and
what a speaker says was recorded apart. Figures on them are to be called simulated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xvectors.audio import Samples
from xvectors.audio.activity import FRAMES_PER_S, runs, speech_mask
from xvectors.augment.noise import colored_noise, power
from xvectors.augment.rooms import reverberate, simulate_room
from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import ConfigError

LEVEL_DB, LEVEL_SPREAD_DB = -26.0, 4.0
FADE_S = 0.01
SHORTEST_TURN_S = 0.3
SPLIT_PAUSE_S = 0.5
"""A pause of an utterance from which on it separates two turns."""


@dataclass(frozen=True, kw_only=True)
class ConversationStyle:
    """What a conversation is like.

    Attributes
    ----------
    duration_s : least duration
    turn_s : mean duration of a turn; durations are log-normal with a spread of 0.8, and end with the utterance
    pause_s : mean of the pauses between turns, which are exponential
    overlap : share of the turns that begin before the turn before has ended
    overlap_s : mean by how much, at most half of either turn
    answers_per_min : short answers of others ("yes") while somebody speaks, per minute of their turns
    answer_s : mean duration of these
    rt60_s : least and greatest reverberation time; every speaker has a place of their own; None for no room
    snr_db : speech to a steady noise; None for none
    """

    duration_s: float = 120.0
    turn_s: float = 4.0
    pause_s: float = 0.6
    overlap: float = 0.15
    overlap_s: float = 0.7
    answers_per_min: float = 0.0
    answer_s: float = 0.7
    rt60_s: tuple[float, float] | None = (0.2, 0.5)
    snr_db: float | None = 20.0

    def __post_init__(self) -> None:
        for name in ("duration_s", "turn_s", "answer_s"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: give seconds above 0")
        for name in ("pause_s", "overlap_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: give seconds of 0 or more")
        if not 0 <= self.answers_per_min < np.inf:
            raise ConfigError(f"answers_per_min is {self.answers_per_min}: give a number of 0 or more")
        if not 0 <= self.overlap <= 1:
            raise ConfigError(f"overlap is {self.overlap}: give a share of the turns from 0 to 1")
        if self.rt60_s is not None and not 0.05 <= self.rt60_s[0] <= self.rt60_s[1] <= 3:
            raise ConfigError(f"rt60_s is {self.rt60_s}: give seconds from 0.05 to 3, the smaller number first")


def simulate_conversation(
    utterances: Mapping[str, Sequence[Samples]],
    sample_rate_hz: int,
    style: ConversationStyle | None = None,
    *,
    seed: int = 0,
) -> tuple[Samples, list[Turn]]:
    """Lay utterances out as a conversation, and return its samples and its turns.

    The same arguments give the same conversation. Everybody speaks once before anybody speaks at random; nobody answers
    themselves unless they are alone. Turns are what the energy VAD finds in the utterances before anything is added.

    Parameters
    ----------
    utterances
        Waveforms [samples] of each speaker; used again where there are too few.

    Raises
    ------
    ConfigError
        Without speakers, or where an utterance holds no speech.
    """
    how = style or ConversationStyle()
    rng = np.random.default_rng(seed)
    names = list(utterances)
    if not names:
        raise ConfigError("a conversation needs speakers: give at least one with utterances")
    rooms = {}
    if how.rt60_s is not None:
        rt60_s = float(rng.uniform(*how.rt60_s))
        rooms = {name: simulate_room(sample_rate_hz, rt60_s, rng) for name in names}
    gains = {name: 10 ** ((LEVEL_DB + rng.uniform(-1, 1) * LEVEL_SPREAD_DB) / 20) for name in names}
    queues = {name: _Shuffled(len(utterances[name]), rng) for name in names}
    placed, turns = list[tuple[int, Samples]](), list[Turn]()

    def say(name: str, speech: Samples, spans: list[tuple[float, float]], start_s: float) -> None:
        speech = speech * np.float32(gains[name] / np.sqrt(max(power(speech), 1e-12)))
        if name in rooms:
            speech = reverberate(np.concatenate([speech, np.zeros(sample_rate_hz // 2, np.float32)]), rooms[name])
        placed.append((round(start_s * sample_rate_hz), speech))
        turns.extend(Turn(start_s=start_s + a, end_s=start_s + b, speaker=name) for a, b in spans)

    def drawn(name: str, mean_s: float) -> tuple[Samples, list[tuple[float, float]]]:
        return _turn(utterances[name][queues[name].next()], sample_rate_hz, mean_s, rng, name)

    order = list(rng.permutation(len(names)))
    end_s, before_s, last = float(rng.exponential(how.pause_s)), 0.0, ""
    while end_s < how.duration_s or order:
        others = [name for name in names if name != last] or names
        name = names[order.pop()] if order else others[int(rng.integers(len(others)))]
        speech, spans = drawn(name, how.turn_s)
        length_s = len(speech) / sample_rate_hz
        if turns and name != last and rng.random() < how.overlap:
            start_s = end_s - min(float(rng.exponential(how.overlap_s)), 0.5 * length_s, 0.5 * before_s)
        else:
            start_s = end_s + (float(rng.exponential(how.pause_s)) if turns else 0.0)
        say(name, speech, spans, start_s)
        if how.answers_per_min and len(names) > 1:
            listeners = [other for other in names if other != name]
            for _ in range(rng.poisson(how.answers_per_min * length_s / 60)):
                listener = listeners[int(rng.integers(len(listeners)))]
                answer, answer_spans = drawn(listener, how.answer_s)
                room_s = length_s - len(answer) / sample_rate_hz
                if room_s > 0:
                    say(listener, answer, answer_spans, start_s + room_s * float(rng.random()))
        end_s, before_s, last = max(end_s, start_s + length_s), length_s, name
    total = max(first + len(part) for first, part in placed)
    mixed = np.zeros(total, dtype=np.float32)
    for first, part in placed:
        mixed[first : first + len(part)] += part
    if how.snr_db is not None:
        noise = colored_noise(total, sample_rate_hz, -3.0, rng)
        level = 10 ** ((LEVEL_DB - how.snr_db) / 20) / np.sqrt(max(power(noise), 1e-20))
        mixed += noise * np.float32(level)
    peak = float(np.abs(mixed).max())
    return (mixed / np.float32(peak / 0.98) if peak > 0.98 else mixed), in_order(turns)


class _Shuffled:
    """Numbers below a limit in random order, again and again."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self._count, self._rng, self._left = count, rng, list[int]()

    def next(self) -> int:
        if not self._left:
            self._left = self._rng.permutation(self._count).tolist()
        return self._left.pop()


def _turn(
    samples: Samples, rate: int, turn_s: float, rng: np.random.Generator, name: str
) -> tuple[Samples, list[tuple[float, float]]]:
    """Cut a turn from an utterance; return it, and where in it speech is, in seconds."""
    found = runs(speech_mask(samples, rate)) / FRAMES_PER_S
    if not len(found):
        raise ConfigError(f"an utterance of {name} holds no speech; leave it out")
    wanted_s = max(SHORTEST_TURN_S, float(rng.lognormal(np.log(turn_s) - 0.32, 0.8)))
    start_s, end_s = float(found[0, 0]), min(float(found[-1, 1]), float(found[0, 0]) + wanted_s)
    cut = samples[round(start_s * rate) : round(end_s * rate)].astype(np.float32)
    fade = min(len(cut) // 2, round(FADE_S * rate))
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    cut[:fade] *= ramp
    cut[len(cut) - fade :] *= ramp[::-1]
    spans = list[tuple[float, float]]()
    for a, b in found.tolist():
        a, b = a - start_s, min(b, end_s) - start_s
        if b <= a:
            continue
        if spans and a - spans[-1][1] < SPLIT_PAUSE_S:
            spans[-1] = spans[-1][0], b
        else:
            spans.append((a, b))
    return cut, spans

"""Reduce several channels to one: a chosen channel, or the mean unless the channels cancel.

Channels of opposite polarity cancel: their mean is silence, or the residue of a lossy encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from xvectors.audio.sound import FileKey, Samples, Sound
from xvectors.errors import AudioError, ConfigError

Channel: TypeAlias = Literal["mix", "left", "right"] | int
NAMES: tuple[Literal["mix", "left", "right", "separate"], ...] = ("mix", "left", "right", "separate")
SIDES = {"left": 0, "right": 1}

CANCELED_DB = 5.0
"""Two channels cancel if their mean is at least this far below them. Two voices, or one silent channel, reach 3 dB;
speech and its inverse reach 5.2 dB after Vorbis of the lowest quality."""
WHOLE_S = 10.0
"""Longer recordings are judged by pieces spread over them."""
NUM_PIECES, PIECE_S = 10, 1.0
LIKE_LEVEL = 0.8
"""The first channel with at least this share of the power of the loudest channel is taken."""
_KEPT = 100_000
_decided: dict[FileKey, Canceled | None] = {}


@dataclass(frozen=True, slots=True)
class Canceled:
    """The channel to use of a recording whose channels cancel, and by how many dB their mean is below them."""

    channel: int
    num_channels: int
    below_db: float

    @property
    def note(self) -> str:
        side = f" ({'left' if self.channel == 0 else 'right'})" if self.num_channels == 2 else ""
        left_over = "leaves nothing" if math.isinf(self.below_db) else f"is {self.below_db:.0f} dB below them"
        return (
            f"its {self.num_channels} channels cancel each other: their mix {left_over}, so only channel {self.channel}"
            f"{side} is used"
        )


def as_channel(text: str) -> Channel | Literal["separate"]:
    """Parse a channel: mix, left, right, a number from 0, or separate. Raises ConfigError for anything else."""
    for name in NAMES:
        if text == name:
            return name
    if text.isascii() and text.isdecimal():
        return int(text)
    raise ConfigError(f"channel {text!r} is unknown; give mix, left, right, a number from 0, or separate")


def chosen(sound: Sound, channel: Channel) -> Literal["mix"] | int:
    """Return the number of the channel to use, or "mix". Raises AudioError for a channel that is not there."""
    num_channels = sound.info.num_channels
    number = SIDES.get(channel, channel) if isinstance(channel, str) else channel
    if number == "mix":
        canceled = cancellation(sound)
        return "mix" if canceled is None else canceled.channel
    if not isinstance(number, int) or not 0 <= number < num_channels:
        has = "one channel" if num_channels == 1 else f"{num_channels} channels"
        raise AudioError(
            f'{sound.name}: has no channel {channel}, it has {has} (numbered from 0); give another number or "mix"'
        )
    return number


def mono(frames: Samples, channel: Literal["mix"] | int) -> Samples:
    """Return one channel, or the mean of all, of [frames, channels]."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    if channel == "mix":
        return np.asarray(frames.mean(axis=1, dtype=np.float32), dtype=np.float32)
    return np.ascontiguousarray(frames[:, channel])


def cancellation(sound: Sound) -> Canceled | None:
    """Return which channel to use if the channels cancel, else None. Decided once per file."""
    if sound.info.num_channels == 1:
        return None
    if sound.key is not None and sound.key in _decided:
        return _decided[sound.key]
    found = _canceled(sound)
    if sound.key is not None:
        if len(_decided) >= _KEPT:
            _decided.clear()
        _decided[sound.key] = found
    return found


def _canceled(sound: Sound) -> Canceled | None:
    num_channels = sound.info.num_channels
    powers, mixed = np.zeros(num_channels), 0.0
    for frames in _pieces(sound):
        values = np.where(np.isfinite(frames), frames, 0.0).astype(np.float64)
        powers += np.square(values).sum(axis=0)
        mixed += float(np.square(values.mean(axis=1)).sum())
    # scaled to two channels: the mean of more uncorrelated channels is weaker anyway
    alone = float(powers.mean()) * 2 / num_channels
    if alone <= 0 or mixed > alone * 10 ** (-CANCELED_DB / 10):
        return None
    first = int(np.argmax(powers >= LIKE_LEVEL * powers.max()))
    return Canceled(first, num_channels, 10 * math.log10(alone / mixed) if mixed > 1e-12 * alone else math.inf)


def _pieces(sound: Sound) -> Iterator[Samples]:
    """Yield enough of the recording to decide whether its channels cancel."""
    total, rate_hz = sound.info.num_frames, sound.info.sample_rate_hz
    size = round(PIECE_S * rate_hz)
    if total <= WHOLE_S * rate_hz:
        yield sound.read(0, total)
        return
    is_silent = True
    for first in np.linspace(0, total - size, NUM_PIECES).astype(int).tolist():
        frames = sound.read(first, size)
        is_silent = is_silent and not frames.any()
        yield frames
    block = round(3 * WHOLE_S * rate_hz)
    for first in range(0, total if is_silent else 0, block):
        frames = sound.read(first, min(block, total - first))
        yield frames
        if frames.any():
            return

"""Augment training chunks in the order of a recording: room, noise, microphone, level, clipping, line, codec.

Custom effects come last. Every effect has its own random stream, derived from the seed, so that disabling one leaves
the others unchanged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples, resample
from xvectors.augment.channel import clipped, coded, equalized, telephone
from xvectors.augment.noise import made_noise, mix_at_snr, mix_babble
from xvectors.augment.own import own_effect
from xvectors.augment.pools import MUSIC, NOISE, SPEECH, RecordingPool, open_pool
from xvectors.augment.rooms import reverberate, simulate_room
from xvectors.config import AUGMENTATIONS, AugmentConfig
from xvectors.errors import AudioError, ConfigError, ShapeError

logger = logging.getLogger(__name__)

BABBLE = "babble"
MAX_IMPULSE_RESPONSE_S = 4.0
NUM_ROOMS = 512
ROOM_STREAM = 200

BabbleSource = Callable[[np.random.Generator, int, int], NDArray[np.float32]]
"""(generator, num_samples, row) -> the voice of a speaker other than that of `row`, float32 [1 or more samples]. It may
depend on the generator and the row only. If it raises AudioError, that voice is left out."""


def speed(waveform: NDArray[np.float32], factor: float) -> Samples:
    """Play `waveform` [samples] `factor` times as fast, with pitch and formants: [samples / factor], rounded.

    The caller must label the result as a different speaker. Raises ConfigError for a factor outside 0.5 to 2.
    """
    if not 0.5 <= factor <= 2.0:
        raise ConfigError(f"speed factor {factor!r} must be between 0.5 and 2, usually 0.9 or 1.1")
    ratio = Fraction(factor).limit_denominator(1000)
    return resample(_checked(waveform), ratio.numerator, ratio.denominator)


class Augmenter:
    """Augment waveforms. The result depends on the waveform and the seed alone.

    Parameters
    ----------
    settings
        Effects, their probabilities and their strength.
    sample_rate_hz
        Sample rate of all waveforms. Noise and impulse responses are resampled to it.
    babble_source
        Source of other speakers' voices for babble if `settings.noise_folder` has no speech; None for no babble. It
        must be picklable if loader processes are spawned.

    Raises
    ------
    ConfigError
        For folders that do not exist, hold no readable recording or belong to an effect of probability 0, and for
        codecs that the installed libsndfile lacks.

    Notes
    -----
    Opening a folder reads the header of every recording in it.
    """

    def __init__(self, settings: AugmentConfig, sample_rate_hz: int, babble_source: BabbleSource | None = None) -> None:
        if sample_rate_hz <= 0:
            raise ConfigError(f"sample_rate_hz = {sample_rate_hz} must be positive")
        self.settings, self.sample_rate_hz = settings, sample_rate_hz
        self._babble_source = babble_source
        for effect in ("reverb", "noise"):
            folder = getattr(settings, f"{effect}_folder")
            if folder and not getattr(settings, f"{effect}_prob"):
                raise ConfigError(
                    f"augment.{effect}_folder = {folder!r} has no effect while augment.{effect}_prob = 0; "
                    f"set augment.{effect}_prob, to 0.3 perhaps, or leave the folder empty"
                )
        self._responses: RecordingPool | None = None
        self._rooms: dict[int, Samples] = {}
        self._pools: dict[str, RecordingPool] = {}
        if settings.reverb_folder:
            self._responses = open_pool(settings.reverb_folder, "reverb_folder")
        if settings.noise_folder:
            self._pools = open_pool(settings.noise_folder, "noise_folder").by_kind()
        self._kinds = [kind for kind in (NOISE, MUSIC) if kind in self._pools or (kind == NOISE and not self._pools)]
        if SPEECH in self._pools or babble_source is not None:
            self._kinds.append(BABBLE)
        if settings.codec_prob > 0:
            self._try_codecs()
        self._own = {name: own_effect(name) for name in settings.custom}
        for name in self._own:
            self._own_effect(name, made_noise(sample_rate_hz // 10, sample_rate_hz, np.random.default_rng(0)), None)

    def __repr__(self) -> str:
        chances = {each.name: getattr(self.settings, each.name) for each in fields(self.settings)}
        on = [f", {name}={value:g}" for name, value in chances.items() if name.endswith("_prob") and value]
        return f"Augmenter(sample_rate_hz={self.sample_rate_hz}{''.join(on)})"

    def __call__(self, waveform: NDArray[np.float32], seed: int, row: int = 0) -> Samples:
        """Augment finite float32 [samples], about [-1, 1], to the same number of finite samples, in a new array.

        `seed` is 0 or above; `row` is the row of the recording, for the babble source. Raises ShapeError unless the
        waveform is floating point [samples], ConfigError if no recording of a folder can be read any more.
        """
        result = _checked(waveform)
        if not len(result):
            return result
        settings = self.settings
        effects: tuple[tuple[float, Callable[[Samples, np.random.Generator], Samples]], ...] = (
            (settings.reverb_prob, self._reverberate),
            (settings.noise_prob, lambda samples, drawn: self._add_noise(samples, drawn, row)),
            (settings.equalizer_prob, self._equalize),
            (settings.gain_prob, self._amplify),
            (settings.clip_prob, self._clip),
            (settings.telephone_prob, self._telephone),
            (settings.codec_prob, self._code),
            *((settings.custom_prob, partial(self._own_effect, name)) for name in self._own),
        )
        # streams start at 1: numpy treats [seed, 0] as the bare seed, which the caller may use
        for stream, (probability, effect) in enumerate(effects, start=1):
            if probability > 0:
                generator = np.random.default_rng([seed, stream])
                if generator.random() < probability:
                    result = effect(result, generator)
        return result

    def _reverberate(self, waveform: Samples, generator: np.random.Generator) -> Samples:
        if self._responses is None:
            return reverberate(waveform, self._room(int(generator.integers(NUM_ROOMS))))
        (index,) = self._responses.draw(1, generator)
        response = self._responses.impulse_response(index, self.sample_rate_hz, MAX_IMPULSE_RESPONSE_S, generator)
        return reverberate(waveform, response)

    def _room(self, number: int) -> Samples:
        """Return a simulated room by its number, from a cache: simulation costs more than convolution."""
        if number not in self._rooms:
            generator = np.random.default_rng([number, ROOM_STREAM])
            rt60_s = generator.uniform(self.settings.rt60_min_s, self.settings.rt60_max_s)
            self._rooms[number] = simulate_room(self.sample_rate_hz, rt60_s, generator)
        return self._rooms[number]

    def _add_noise(self, waveform: Samples, generator: np.random.Generator, row: int) -> Samples:
        settings = self.settings
        kind = self._kinds[generator.integers(len(self._kinds))]
        if kind == BABBLE:
            return mix_babble(waveform, self._voices(len(waveform), generator, row))
        if kind == MUSIC:
            snr_db = generator.uniform(settings.music_snr_min_db, settings.music_snr_max_db)
        else:
            snr_db = generator.uniform(settings.noise_snr_min_db, settings.noise_snr_max_db)
        if not self._pools:
            return mix_at_snr(waveform, made_noise(len(waveform), self.sample_rate_hz, generator), snr_db)
        (index,) = self._pools[kind].draw(1, generator)
        noise = self._pools[kind].segment(index, len(waveform), self.sample_rate_hz, generator)
        return mix_at_snr(waveform, noise, snr_db)

    def _voices(self, num_samples: int, generator: np.random.Generator, row: int) -> Iterator[tuple[Samples, float]]:
        settings, pool = self.settings, self._pools.get(SPEECH)
        count = int(generator.integers(settings.babble_voices_min, settings.babble_voices_max, endpoint=True))
        indices = pool.draw(count, generator) if pool else [0] * count
        for index in indices:
            snr_db = generator.uniform(settings.babble_snr_min_db, settings.babble_snr_max_db)
            if pool:
                yield pool.segment(index, num_samples, self.sample_rate_hz, generator), snr_db
            elif self._babble_source:
                try:
                    yield _repeated(self._babble_source(generator, num_samples, row), num_samples), snr_db
                except AudioError as error:
                    logger.warning("left out of the babble: %s", error)

    def _equalize(self, waveform: Samples, generator: np.random.Generator) -> Samples:
        return equalized(waveform, self.sample_rate_hz, self.settings.equalizer_max_db, generator)

    def _amplify(self, waveform: Samples, generator: np.random.Generator) -> Samples:
        gain_db = generator.uniform(self.settings.gain_min_db, self.settings.gain_max_db)
        return waveform * np.float32(10 ** (gain_db / 20))

    def _clip(self, waveform: Samples, generator: np.random.Generator) -> Samples:
        return clipped(waveform, generator.uniform(self.settings.clip_min_db, self.settings.clip_max_db))

    def _telephone(self, waveform: Samples, generator: np.random.Generator) -> Samples:
        return telephone(waveform, self.sample_rate_hz, band_pass=generator.random() < 0.5)

    def _code(self, waveform: Samples, generator: np.random.Generator) -> Samples:
        names = self.settings.codecs
        return coded(waveform, self.sample_rate_hz, names[generator.integers(len(names))], generator)

    def _own_effect(self, name: str, waveform: Samples, generator: np.random.Generator | None) -> Samples:
        result = self._own[name](waveform.copy(), self.sample_rate_hz, generator or np.random.default_rng(0))
        fits = isinstance(result, np.ndarray) and result.shape == waveform.shape
        if not fits or not np.issubdtype(result.dtype, np.floating) or not np.isfinite(result).all():
            got = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else type(result).__name__
            raise ConfigError(
                f"{AUGMENTATIONS.key}: {name!r} must return finite floating-point samples {list(waveform.shape)}, as "
                f"many as it was given; it returned {got}"
            )
        return result.astype(np.float32, copy=False)

    def _try_codecs(self) -> None:
        for name in self.settings.codecs:
            try:
                coded(np.zeros(800, np.float32), self.sample_rate_hz, name, np.random.default_rng(0))
            except AudioError as error:
                raise ConfigError(
                    f"augment.codecs: the installed libsndfile has no {name} ({error}); take it out of the list"
                ) from error


def _checked(waveform: NDArray[np.float32]) -> Samples:
    samples = np.asarray(waveform)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ShapeError(
            f"a waveform must be floating point [samples], not {samples.dtype} {list(samples.shape)}; "
            "divide integers by their full scale, and augment recordings one by one"
        )
    return samples.astype(np.float32, copy=False)


def _repeated(voice: NDArray[np.float32], num_samples: int) -> Samples:
    """Cut or repeat a voice to `num_samples`."""
    samples = _checked(voice)
    if not len(samples) or not math.isfinite(float(samples.sum(dtype=np.float64))):
        raise AudioError("a voice without samples, or with some that are NaN or infinite")
    return np.resize(samples, num_samples)

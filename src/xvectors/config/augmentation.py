"""What augmentation does, how often and how much. In: a recipe's [augment]. Out: a checked AugmentConfig.

The ranges of noise are those of Kaldi's VoxCeleb recipe (Snyder et al., "X-vectors: Robust DNN embeddings for speaker
recognition", ICASSP 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from xvectors.config.tables import nearest
from xvectors.errors import ConfigError

CODECS = ("mu-law", "a-law", "gsm", "opus", "vorbis", "mp3")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Probabilities `*_prob` of each effect on a chunk, all 0 by default, and the ranges they draw from, uniformly.

    Raises ConfigError for a value that is no number, a probability outside [0, 1] and a range whose ends are exchanged.
    """

    speed_prob: float = 0.0
    """Of playing a chunk at another speed, which makes another speaker of it, with a class of its own."""
    speeds: str = "0.9 1.1"
    """The speeds to draw from, separated by spaces."""
    reverb_prob: float = 0.0
    reverb_folder: str = ""
    """Impulse responses, in any folders below it; "" simulates rooms. With a folder, `reverb_prob` must be above 0."""
    rt60_min_s: float = 0.1
    rt60_max_s: float = 0.9
    """Reverberation time of simulated rooms: seconds until the sound has fallen by 60 dB."""
    noise_prob: float = 0.0
    """One kind of noise, music or babble, each as likely as the others there are."""
    noise_folder: str = ""
    """Recordings in sub-folders noise, music and speech (MUSAN's layout), or in others, which count as noise;
    "" makes noise, and babble of other training speakers. With a folder, `noise_prob` must be above 0."""
    noise_snr_min_db: float = 0.0
    noise_snr_max_db: float = 15.0
    music_snr_min_db: float = 5.0
    music_snr_max_db: float = 15.0
    babble_snr_min_db: float = 13.0
    babble_snr_max_db: float = 20.0
    """Of the chunk to each voice of the babble alone, as in Kaldi: five voices at 15 dB make 8 dB."""
    babble_voices_min: int = 3
    babble_voices_max: int = 7
    equaliser_prob: float = 0.0
    equaliser_max_db: float = 8.0
    """Height of the bumps in a random microphone's response; its band is narrowed too."""
    gain_prob: float = 0.0
    gain_min_db: float = -20.0
    gain_max_db: float = 6.0
    clip_prob: float = 0.0
    clip_min_db: float = 1.0
    clip_max_db: float = 12.0
    """How far below the chunk's peak it is cut off."""
    telephone_prob: float = 0.0
    """To 8 kHz and back; every other time also through the telephone's 300 to 3400 Hz."""
    codec_prob: float = 0.0
    codecs: str = "mu-law a-law gsm vorbis mp3"
    """The codecs to draw from, separated by spaces; opus is there too, at several times the others' cost."""
    spec_augment_prob: float = 0.0
    """Of masking the features of a chunk, which SpecAugment does."""
    time_masks: int = 2
    time_mask_max_share: float = 0.1
    """Longest mask as a share of the chunk's frames."""
    frequency_masks: int = 2
    frequency_mask_max_share: float = 0.2
    """Widest mask as a share of the mels."""

    @property
    def speed_factors(self) -> tuple[float, ...]:
        """The speeds besides 1 that training uses; empty where `speed_prob` is 0."""
        return tuple(float(word) for word in _words(self.speeds)) if self.speed_prob > 0 else ()

    @property
    def codec_names(self) -> tuple[str, ...]:
        return _words(self.codecs)

    def __post_init__(self) -> None:
        for setting in fields(self):
            self._check_value(setting.name, str(setting.type))
        for low in (setting.name for setting in fields(self) if "_min" in setting.name):
            high = low.replace("_min", "_max")
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(
                    f"augment.{low} = {getattr(self, low):g} must be at most augment.{high} = {getattr(self, high):g}"
                )
        self._check_speeds()
        for name in self.codec_names:
            if name not in CODECS:
                raise ConfigError(f"augment.codecs: unknown codec {name!r}{nearest(name, CODECS)}")
        if self.codec_prob > 0 and not self.codec_names:
            raise ConfigError(
                "augment.codecs names no codec, and augment.codec_prob asks for one; "
                f"name some of {', '.join(CODECS)}, or set augment.codec_prob = 0"
            )

    def _check_speeds(self) -> None:
        for word in _words(self.speeds):
            try:
                fits = 0.5 <= float(word) <= 2.0 and float(word) != 1.0
            except ValueError:
                fits = False
            if not fits:
                raise ConfigError(f"augment.speeds: {word!r} must be a number between 0.5 and 2, and not 1")
        if self.speed_prob > 0 and not _words(self.speeds):
            raise ConfigError("augment.speeds names no speed, and augment.speed_prob asks for one; name 0.9 1.1")

    def _check_value(self, name: str, kind: str) -> None:
        value: object = getattr(self, name)
        if kind == "str":
            if not isinstance(value, str):
                raise ConfigError(f"augment.{name} must be a string, not {value!r}")
            return
        is_number = isinstance(value, int) or (kind == "float" and isinstance(value, float) and math.isfinite(value))
        if isinstance(value, bool) or not is_number:
            raise ConfigError(f"augment.{name} must be a {'whole ' * (kind == 'int')}number, not {value!r}")
        low, high, wanted = _bounds(name)
        number = float(getattr(self, name))
        if not low <= number <= high:
            raise ConfigError(f"augment.{name} = {number:g} must be {wanted}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _bounds(name: str) -> tuple[float, float, str]:
    """Lowest and highest value of a numeric setting, and both in words."""
    if name.endswith(("_prob", "_share")):
        return 0.0, 1.0, "between 0 and 1"
    if name.startswith("rt60"):
        return 0.05, 5.0, "between 0.05 and 5 s"
    if name.startswith("babble_voices"):
        return 1, 100, "between 1 and 100"
    if name.startswith(("clip", "equaliser")):
        return 0.0, 60.0, "between 0 and 60 dB"
    if name.endswith("_masks"):
        return 0, 100, "between 0 and 100"
    return -60.0, 100.0, "between -60 and 100 dB"

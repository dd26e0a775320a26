"""What augmentation does, how often and how much. In: a recipe's [augment]. Out: a checked AugmentConfig.

The ranges of noise are those of Kaldi's VoxCeleb recipe (Snyder et al., "X-vectors: Robust DNN embeddings for speaker
recognition", ICASSP 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from xvectors.config.tables import setting
from xvectors.errors import ConfigError
from xvectors.text import nearest

CODECS = ("mu-law", "a-law", "gsm", "opus", "vorbis", "mp3")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Probabilities `*_prob` of each effect on a chunk, all 0 by default, and the ranges they draw from, uniformly.

    Raises ConfigError for a value that is no number, a probability outside [0, 1] and a range whose ends are exchanged.
    """

    speed_prob: float = setting(
        0.0,
        "Probability of playing a chunk at another speed, which makes another speaker of it, with a class of its own.",
    )
    speeds: str = setting("0.9 1.1", "Speeds to draw from, separated by spaces.")
    reverb_prob: float = setting(0.0, "Probability of reverberation.")
    reverb_folder: str = setting(
        "", "Folder of impulse responses, sub-folders included; empty simulates rooms. It needs reverb_prob above 0."
    )
    rt60_min_s: float = setting(0.1, "Shortest reverberation time (RT60) of simulated rooms in seconds.")
    rt60_max_s: float = setting(0.9, "Longest reverberation time (RT60) of simulated rooms in seconds.")
    noise_prob: float = setting(0.0, "Probability of noise, music or babble; each kind available is equally likely.")
    noise_folder: str = setting(
        "",
        "Folder with sub-folders noise, music and speech, as in MUSAN; others count as noise. Empty generates noise, "
        "and babble from other training speakers. It needs noise_prob above 0.",
    )
    noise_snr_min_db: float = setting(0.0, "Lowest SNR of noise in dB.")
    noise_snr_max_db: float = setting(15.0, "Highest SNR of noise in dB.")
    music_snr_min_db: float = setting(5.0, "Lowest SNR of music in dB.")
    music_snr_max_db: float = setting(15.0, "Highest SNR of music in dB.")
    babble_snr_min_db: float = setting(
        13.0, "Lowest SNR in dB of each voice of the babble alone, as in Kaldi: five voices at 15 dB make 8 dB."
    )
    babble_snr_max_db: float = setting(20.0, "Highest SNR in dB of each voice of the babble alone.")
    babble_voices_min: int = setting(3, "Least number of voices in the babble.")
    babble_voices_max: int = setting(7, "Largest number of voices in the babble.")
    equalizer_prob: float = setting(
        0.0, "Probability of a random microphone: a frequency response and a narrower band."
    )
    equalizer_max_db: float = setting(8.0, "Largest bump in that frequency response in dB.")
    gain_prob: float = setting(0.0, "Probability of another level.")
    gain_min_db: float = setting(-20.0, "Lowest gain in dB.")
    gain_max_db: float = setting(6.0, "Highest gain in dB.")
    clip_prob: float = setting(0.0, "Probability of clipping.")
    clip_min_db: float = setting(1.0, "Least distance in dB from the chunk's peak down to where it is clipped.")
    clip_max_db: float = setting(12.0, "Largest distance in dB from the chunk's peak down to where it is clipped.")
    telephone_prob: float = setting(
        0.0, "Probability of a telephone line: down to 8 kHz and back, half the time limited to 300 to 3400 Hz."
    )
    codec_prob: float = setting(0.0, "Probability of a lossy codec.")
    codecs: str = setting(
        "mu-law a-law gsm vorbis mp3",
        "Codecs to draw from, separated by spaces; opus is available too, at several times the cost of the others.",
    )
    custom: str = setting(
        "", "Augmentations of your own, separated by spaces (docs/how-to/extend.md). They need custom_prob above 0."
    )
    custom_prob: float = setting(0.0, "Probability of each augmentation of your own.")
    spec_augment_prob: float = setting(0.0, "Probability of masking a chunk's features (SpecAugment).")
    time_masks: int = setting(2, "Number of masks over frames.")
    time_mask_max_share: float = setting(0.1, "Longest mask over frames, as a share of the chunk's frames.")
    frequency_masks: int = setting(2, "Number of masks over filterbanks.")
    frequency_mask_max_share: float = setting(0.2, "Widest mask over filterbanks, as a share of them.")

    @property
    def speed_factors(self) -> tuple[float, ...]:
        """The speeds besides 1 that training uses; empty where `speed_prob` is 0."""
        return tuple(float(word) for word in _words(self.speeds)) if self.speed_prob > 0 else ()

    @property
    def codec_names(self) -> tuple[str, ...]:
        return _words(self.codecs)

    @property
    def custom_names(self) -> tuple[str, ...]:
        return _words(self.custom)

    def __post_init__(self) -> None:
        for each in fields(self):
            self._check_value(each.name, str(each.type))
        for low in (each.name for each in fields(self) if "_min" in each.name):
            high = low.replace("_min", "_max")
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(
                    f"augment.{low} = {getattr(self, low):g} must be at most augment.{high} = {getattr(self, high):g}"
                )
        self._check_speeds()
        for name in self.codec_names:
            if name not in CODECS:
                raise ConfigError(f"augment.codecs: unknown codec {name!r}{nearest(name, CODECS)}")
        if bool(self.custom_names) != (self.custom_prob > 0):
            raise ConfigError(
                f"augment.custom = {self.custom!r} and augment.custom_prob = {self.custom_prob:g} belong together: "
                "name augmentations of your own and set their probability, or leave both out"
            )
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
    if name.startswith(("clip", "equalizer")):
        return 0.0, 60.0, "between 0 and 60 dB"
    if name.endswith("_masks"):
        return 0, 100, "between 0 and 100"
    return -60.0, 100.0, "between -60 and 100 dB"

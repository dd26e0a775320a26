"""The settings of augmentation, a recipe's [augment]. The ranges of noise are those of Kaldi's VoxCeleb recipe.

Snyder et al., "X-vectors: Robust DNN embeddings for speaker recognition", ICASSP 2018.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields

from xvectors.config.tables import check_setting, setting, to_literal
from xvectors.errors import ConfigError
from xvectors.text import nearest

CODECS = ("mu-law", "a-law", "gsm", "opus", "vorbis", "mp3")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """The probability of each effect on a chunk (`*_prob`), by default 0, and the range from which it draws uniformly.

    Raises
    ------
    ConfigError
        A value has another type or is out of range, or the ends of a range are exchanged.
    """

    speed_prob: float = setting(
        0.0,
        "Probability of playing a chunk at another speed; each speaker has a class of its own at each speed.",
        "[0, 1]",
    )
    speeds: tuple[float, ...] = setting((0.9, 1.1), "Speeds to draw from, without 1.", "[0.5, 2]")
    reverb_prob: float = setting(0.0, "Probability of reverberation.", "[0, 1]")
    reverb_folder: str = setting(
        "",
        "Folder of impulse responses, sub-folders included; if empty, rooms are simulated. Needs reverb_prob above 0.",
    )
    rt60_min_s: float = setting(0.1, "Shortest reverberation time (RT60) of simulated rooms in seconds.", "[0.05, 5]")
    rt60_max_s: float = setting(0.9, "Longest reverberation time (RT60) of simulated rooms in seconds.", "[0.05, 5]")
    noise_prob: float = setting(
        0.0, "Probability of noise, music or babble; the kinds at hand are equally likely.", "[0, 1]"
    )
    noise_folder: str = setting(
        "",
        "Folder with sub-folders noise, music and speech, as in MUSAN; other folders count as noise. If empty, noise "
        "is generated, and babble is made from other training speakers. Needs noise_prob above 0.",
    )
    noise_snr_min_db: float = setting(0.0, "Lowest SNR of noise in dB.", "[-60, 100]")
    noise_snr_max_db: float = setting(15.0, "Highest SNR of noise in dB.", "[-60, 100]")
    music_snr_min_db: float = setting(5.0, "Lowest SNR of music in dB.", "[-60, 100]")
    music_snr_max_db: float = setting(15.0, "Highest SNR of music in dB.", "[-60, 100]")
    babble_snr_min_db: float = setting(
        13.0,
        "Lowest SNR of each single voice of the babble in dB, as in Kaldi; five voices at 15 dB make 8 dB.",
        "[-60, 100]",
    )
    babble_snr_max_db: float = setting(20.0, "Highest SNR of each single voice of the babble in dB.", "[-60, 100]")
    babble_voices_min: int = setting(3, "Smallest number of voices in the babble.", "[1, 100]")
    babble_voices_max: int = setting(7, "Largest number of voices in the babble.", "[1, 100]")
    equalizer_prob: float = setting(
        0.0, "Probability of a random microphone, with its own frequency response and a narrower band.", "[0, 1]"
    )
    equalizer_max_db: float = setting(
        8.0, "Largest peak or dip of the microphone's frequency response in dB.", "[0, 60]"
    )
    gain_prob: float = setting(0.0, "Probability of a change of level.", "[0, 1]")
    gain_min_db: float = setting(-20.0, "Lowest gain in dB.", "[-60, 100]")
    gain_max_db: float = setting(6.0, "Highest gain in dB.", "[-60, 100]")
    clip_prob: float = setting(0.0, "Probability of clipping.", "[0, 1]")
    clip_min_db: float = setting(
        1.0, "Smallest distance from the chunk's peak down to the clipping level in dB.", "[0, 60]"
    )
    clip_max_db: float = setting(
        12.0, "Largest distance from the chunk's peak down to the clipping level in dB.", "[0, 60]"
    )
    telephone_prob: float = setting(
        0.0,
        "Probability of a telephone line: resampling to 8 kHz and back, half the time limited to 300 to 3400 Hz.",
        "[0, 1]",
    )
    codec_prob: float = setting(0.0, "Probability of a lossy codec.", "[0, 1]")
    codecs: tuple[str, ...] = setting(
        ("mu-law", "a-law", "gsm", "vorbis", "mp3"),
        "Codecs to draw from; opus is available too, and takes several times as long as the others.",
    )
    custom: tuple[str, ...] = setting(
        (), "Augmentations of your own, by name (docs/how-to/extend.md). Needs custom_prob above 0."
    )
    custom_prob: float = setting(0.0, "Probability of each augmentation of your own, independently.", "[0, 1]")
    spec_augment_prob: float = setting(0.0, "Probability of masking a chunk's features (SpecAugment).", "[0, 1]")
    time_masks: int = setting(2, "Number of masks over frames.", "[0, 100]")
    time_mask_max_share: float = setting(0.1, "Longest mask over frames, as a share of the chunk's frames.", "[0, 1]")
    frequency_masks: int = setting(2, "Number of masks over filterbanks.", "[0, 100]")
    frequency_mask_max_share: float = setting(0.2, "Widest mask over filterbanks, as a share of them.", "[0, 1]")

    @property
    def speed_factors(self) -> tuple[float, ...]:
        """The speeds other than 1 that training uses; none if `speed_prob` is 0."""
        return self.speeds if self.speed_prob > 0 else ()

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for each in fields(self):
            value = check_setting(getattr(self, each.name), each, hints[each.name], f"augment.{each.name}")
            object.__setattr__(self, each.name, value)
        for low_name in (each.name for each in fields(self) if "_min" in each.name):
            high_name = low_name.replace("_min", "_max")
            low, high = getattr(self, low_name), getattr(self, high_name)
            if low > high:
                raise ConfigError(f"augment.{low_name} = {low:g} must be at most augment.{high_name} = {high:g}")
        if 1.0 in self.speeds:
            raise ConfigError("augment.speeds holds 1, the speed of the recordings themselves; leave it out")
        for name in self.codecs:
            if name not in CODECS:
                raise ConfigError(f"augment.codecs: unknown codec {name!r}{nearest(name, CODECS)}")
        if self.speed_prob > 0 and not self.speeds:
            raise ConfigError(
                "augment.speeds is empty, but augment.speed_prob is above 0; set augment.speeds = [0.9, 1.1], or "
                "augment.speed_prob = 0"
            )
        if self.codec_prob > 0 and not self.codecs:
            raise ConfigError(
                "augment.codecs is empty, but augment.codec_prob is above 0; "
                f"list some of {', '.join(CODECS)}, or set augment.codec_prob = 0"
            )
        if bool(self.custom) != (self.custom_prob > 0):
            raise ConfigError(
                f"augment.custom = {to_literal(self.custom)} and augment.custom_prob = {self.custom_prob:g} belong "
                "together: name augmentations of your own and set their probability, or leave both out"
            )

"""Draw a population of artificial voices for espeak-ng.

Pitch and vocal tract follow published averages, rounded: Traunmüller & Eriksson 1995 (F0 of men and women
and its range), Peterson & Barney 1952 (formants of women and children over those of men), Lee, Potamianos &
Narayanan 1999 (growing up), Hollien & Shipp 1972 and Stathopoulos et al. 2011 (growing old).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xvectors.corpus.synth.espeak import ACCENTS

# Mean F0, and mean formant frequencies over those of an adult man (a shorter vocal tract: higher): (ages,
# values).
_F0_HZ = {
    "m": ((7, 10, 12, 14, 18, 45, 60, 85), (268, 250, 226, 165, 124, 116, 119, 138)),
    "f": ((7, 10, 12, 14, 18, 45, 60, 85), (274, 258, 238, 228, 212, 203, 190, 180)),
}
_FORMANT_SCALE = {
    "m": ((7, 10, 12, 14, 18, 85), (1.42, 1.33, 1.26, 1.13, 1.0, 0.985)),
    "f": ((7, 10, 12, 14, 18, 85), (1.42, 1.33, 1.26, 1.19, 1.16, 1.14)),
}
_AGE_GROUPS = ((0.12, 7, 16), (0.70, 17, 64), (0.18, 65, 85))  # share, youngest, oldest
_ACCENT_SHARES = (0.36, 0.08, 0.16, 0.10, 0.10, 0.07, 0.07, 0.06)  # in the order of ACCENTS

# espeak-ng speaks in the upper part of the range it is given: its median F0 over the middle of the range.
_MEDIAN_OVER_MIDDLE = 1.08

# How far speakers of one gender and age lie apart, and how far one speaker's utterances do: standard
# deviations, of logarithms where no unit is named. Together with the sessions they are chosen so that a
# speaker encoder trained on real speech (Resemblyzer 0.1.4) makes 4 to 10 % equal errors on all pairs.
_BETWEEN_F0 = 0.16
_BETWEEN_TRACT = 0.05
_BETWEEN_FORMANT = 0.065
_BETWEEN_HEIGHT_PERCENT = 25
_BETWEEN_WIDTH_PERCENT = 30
_BETWEEN_TILT_DB = 4.5
_BETWEEN_BREATH = 6.0
_KLATT_SHARE = 0.3
_WITHIN_F0 = 0.04
_WITHIN_RANGE = 0.15
_WITHIN_RATE = 0.06
_WITHIN_FORMANT = 0.008
_WITHIN_EFFORT_DB = 1.2


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The individual traits of a voice, as parameters of an espeak-ng voice file."""

    speaker: str
    gender: str
    age: int
    accent: str
    f0_hz: float
    f0_range_semitones: float  # from the floor of the voice to the top of a stressed syllable
    formant_scales: tuple[float, ...]  # of F0' (a low resonance below F1), F1 ... F8, over an adult man's
    formant_heights: tuple[int, ...]  # percent
    formant_widths: tuple[int, ...]  # percent
    tilt_db: float  # of the voice source between 500 Hz and 3 kHz, over espeak-ng's default
    breath: tuple[int, ...]
    roughness: int
    flutter: int
    voicing: int
    consonants: tuple[int, int]
    stress_lengths: tuple[int, ...]
    intonation: int
    klatt: int  # 0: espeak-ng's own synthesis; 1 to 5: its Klatt synthesis, by glottal source
    words_per_minute: float

    def in_session(self, rng: np.random.Generator) -> Voice:
        """Vary the voice as on another day: other pitch, range, speed and effort, almost the same formants."""
        effort_db = _WITHIN_EFFORT_DB * rng.standard_normal()
        spread = rng.standard_normal(len(self.formant_scales))
        return replace(
            self,
            f0_hz=self.f0_hz * float(np.exp(_WITHIN_F0 * rng.standard_normal() + 0.015 * effort_db)),
            f0_range_semitones=self.f0_range_semitones * float(np.exp(_WITHIN_RANGE * rng.standard_normal())),
            formant_scales=tuple(self.formant_scales * np.exp(_WITHIN_FORMANT * spread)),
            tilt_db=self.tilt_db + effort_db,
            breath=tuple(max(0, round(amount - 0.5 * effort_db)) if amount else 0 for amount in self.breath),
            words_per_minute=self.words_per_minute * float(np.exp(_WITHIN_RATE * rng.standard_normal())),
        )

    def text(self) -> str:
        """Return the espeak-ng voice file (its format is described in docs/voices.md of that project)."""
        middle_hz = self.f0_hz / _MEDIAN_OVER_MIDDLE
        floor_hz = middle_hz * 2 ** (-self.f0_range_semitones / 24)
        top_hz = middle_hz * 2 ** (self.f0_range_semitones / 24)
        # espeak-ng raises the formants of high-pitched voices itself; undo that
        raised = 1 + (round(floor_hz) - 82) / 82 / 4
        lines = [
            "language variant",
            f"name {self.speaker}",
            f"gender {'male' if self.gender == 'm' else 'female'} {self.age}",
            f"pitch {round(floor_hz)} {round(top_hz)}",
            *(
                f"formant {number} {round(100 * scale / raised)} {height} {width}"
                for number, (scale, height, width) in enumerate(
                    zip(self.formant_scales, self.formant_heights, self.formant_widths, strict=True)
                )
            ),
            f"tone {_tone(self.tilt_db)}",
            f"roughness {self.roughness}",
            f"flutter {self.flutter}",
            f"voicing {self.voicing}",
            f"consonants {self.consonants[0]} {self.consonants[1]}",
            f"stressAdd {' '.join(map(str, self.stress_lengths))}",
            f"intonation {self.intonation}",
        ]
        if any(self.breath):
            lines.append(f"breath {' '.join(map(str, self.breath))}")
        if self.klatt:
            lines.append(f"klatt {self.klatt}")
        return "\n".join(lines) + "\n"


def draw_voice(seed: int, number: int) -> Voice:
    """Draw speaker `number` of the population `seed`, independently of the number of speakers."""
    # one man and one woman in every pair, in either order, so that small corpora have both
    first_is_male = np.random.default_rng([seed, number // 2, 1]).random() < 0.5
    gender = "m" if first_is_male == (number % 2 == 0) else "f"
    rng = np.random.default_rng([seed, number, 2])
    _, youngest, oldest = _AGE_GROUPS[rng.choice(len(_AGE_GROUPS), p=[share for share, _, _ in _AGE_GROUPS])]
    age = int(rng.integers(youngest, oldest + 1))
    old = max(0.0, (age - 55) / 30)

    f0_hz = float(np.interp(age, *_F0_HZ[gender]) * np.exp(_BETWEEN_F0 * rng.standard_normal()))
    tract = np.interp(age, *_FORMANT_SCALE[gender]) * np.exp(_BETWEEN_TRACT * rng.standard_normal())
    shape = np.exp(_BETWEEN_FORMANT * rng.standard_normal(9))
    breathiness = max(0.0, rng.normal(1.5 if gender == "f" else -1.0, _BETWEEN_BREATH) + 4.0 * old)
    roughness = rng.choice(8, p=(0.22, 0.22, 0.22, 0.14, 0.08, 0.06, 0.04, 0.02))
    return Voice(
        speaker=speaker_name(number),
        gender=gender,
        age=age,
        accent=str(rng.choice(list(ACCENTS), p=_ACCENT_SHARES)),
        f0_hz=f0_hz,
        f0_range_semitones=float(np.clip(rng.normal(7.5, 2.0), 2.5, 13)),
        formant_scales=tuple(float(scale) for scale in tract * shape),
        formant_heights=tuple(int(height) for height in np.clip(rng.normal(100, _BETWEEN_HEIGHT_PERCENT, 9), 45, 155)),
        formant_widths=tuple(int(width) for width in np.clip(rng.normal(105, _BETWEEN_WIDTH_PERCENT, 9), 55, 180)),
        tilt_db=float(rng.normal(-1.5 if gender == "f" else 0.0, _BETWEEN_TILT_DB)),
        breath=tuple(round(breathiness * weight) for weight in rng.uniform(0.5, 1.5, 6)),
        roughness=min(7, int(roughness) + round(2 * old)),
        flutter=int(rng.integers(1, 10) + 12 * old),
        voicing=int(rng.integers(80, 121)),
        consonants=(int(rng.integers(65, 131)), int(rng.integers(65, 131))),
        stress_lengths=tuple(int(extra) for extra in rng.normal(0, 12, 8)),
        intonation=int(rng.choice((1, 2, 3), p=(0.7, 0.15, 0.15))),
        klatt=int(rng.choice(6, p=(1 - _KLATT_SHARE, *(5 * (_KLATT_SHARE / 5,))))),
        words_per_minute=float(np.clip(rng.normal(165 - 20 * old, 18), 115, 215)),
    )


def speaker_name(number: int) -> str:
    """synth-0000, synth-0001, ..."""
    return f"synth-{number:04d}"


def _tone(tilt_db: float) -> str:
    """Return a `tone` line: the default frequency response of the voice source, tilted about 1 kHz."""
    points = ((500, 170), (1200, 135), (2000, 110), (3000, 100), (6000, 90))
    weights = (-0.4, 0.1, 0.4, 0.6, 0.9)
    heights = (
        min(255, round(height * 10 ** (weight * tilt_db / 20)))
        for (_, height), weight in zip(points, weights, strict=True)
    )
    return " ".join(f"{hz} {height}" for (hz, _), height in zip(points, heights, strict=True))

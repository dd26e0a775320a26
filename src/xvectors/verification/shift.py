"""How unlike the calibration set a recording is, as a number and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xvectors.audio.condition import CONDITION_NAMES
from xvectors.audio.speech import Heard
from xvectors.verification.verifier import Verifier

WORTH_A_NOTE = 1.0
"""Shift from which a recording is remarked on; there, it counts in full in the LLR."""
WORDS = {
    "high_band_db": ("little sound above 4 kHz, as on a telephone", "much sound above 4 kHz"),
    "low_band_db": ("little sound below 250 Hz, as on a telephone", "much sound below 250 Hz"),
    "level_range_db": ("little difference between speech and pauses: noise or an echo", "very quiet pauses"),
    "log_kurtosis": ("clipped or strongly compressed", "strong peaks beside faint speech"),
    "log2_f0": ("a low pitch", "a high pitch, as of a raised voice"),
    "f0_range_octaves": ("a monotonous pitch", "a lively pitch, as with emotion"),
}
"""Words for each measure below and above its usual range."""
EXCESS_WORDS = tuple(WORDS[name][side] for side in (0, 1) for name in CONDITION_NAMES)
"""Words for each column of `ConditionCalibration.excess`."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How unlike the calibration set a recording is.

    Attributes
    ----------
    value : 0 within the range that 96 % of the calibration recordings have in each measure of `audio.condition`; 1
        where the farthest measure is beyond it by a quarter of the width of the range
    words : what is unusual, the farthest first
    untested : whether a measure is beyond all that the calibration was learned on, made shifts included
    """

    value: float
    words: tuple[str, ...]
    untested: bool


def shift_of(verifier: Verifier, condition: ArrayLike, speech_s: float = np.inf) -> Shift | None:
    """Return the shift of a recording with these measures [6] and seconds of speech.

    None for a calibration that does not know conditions.
    """
    if verifier.condition is None:
        return None
    row = verifier.condition.steady(np.asarray(condition, dtype=np.float64)[None], [speech_s])
    excess = verifier.condition.excess(row)[0]
    found = [at for at in np.argsort(-excess, kind="stable").tolist() if excess[at] >= WORTH_A_NOTE]
    return Shift(
        value=float(excess.max()),
        words=tuple(EXCESS_WORDS[at] for at in found),
        untested=bool(verifier.condition.is_untested(row)[0]),
    )


def caveats_of_condition(verifier: Verifier, recordings: Sequence[Heard]) -> list[str]:
    """Say which recordings are unlike the calibration set, in which way, and what helps."""
    found = []
    for heard in recordings:
        shift = shift_of(verifier, heard.condition, heard.speech_s)
        if shift is not None and shift.words:
            found.append(
                f"{heard.name} is unlike the recordings that the system was calibrated on: {'; '.join(shift.words)}"
                + ("; it is beyond all that was tested, so the LLR is 0" if shift.untested else "")
            )
    if found:
        found.append(
            "`xvectors calibrate DIR --data RECORDINGS` with recordings of this kind, of 20 speakers or more, makes "
            "such answers surer"
        )
    return found

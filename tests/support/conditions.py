"""Conditions of recordings: what a verifier was given, some that can be told apart, and a calibration for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from xvectors.audio.condition import CONDITION_NAMES
from xvectors.backends import ConditionCalibration
from xvectors.verification import Verifier

Sides = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]


def record_conditions(monkeypatch: pytest.MonkeyPatch) -> list[Sides]:
    """Return a list that gets the conditions of both sides at every call of `Verifier.llrs` from now on."""
    calls: list[Sides] = []
    llrs = Verifier.llrs

    def recorded(
        self: Verifier,
        scores: ArrayLike,
        enroll_s: ArrayLike,
        test_s: ArrayLike,
        enroll_condition: NDArray[np.float32] | None = None,
        test_condition: NDArray[np.float32] | None = None,
        **magnitudes: Any,
    ) -> Any:
        calls.append((enroll_condition, test_condition))
        return llrs(self, scores, enroll_s, test_s, enroll_condition, test_condition, **magnitudes)

    monkeypatch.setattr(Verifier, "llrs", recorded)
    return calls


def some_conditions(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return measures [count, 6] like those of speech, all different."""
    middle = np.array([-25.0, -3.0, 30.0, 3.0, 7.3, 0.5])
    return (middle + np.random.default_rng(seed).standard_normal((count, 6))).astype(np.float32)


def usual_within_one() -> ConditionCalibration:
    """A calibration whose usual range is from -1 to 1 with a spread of 1 in each measure, tested from -5 to 5.

    LLRs stay as they are, but beyond -6 and 6 they are 0.
    """
    k = len(CONDITION_NAMES)
    return ConditionCalibration.from_dict(
        {
            "names": list(CONDITION_NAMES),
            "least_spread": [1.0] * k,
            "num_trials": 5,
            "low": [-1.0] * k,
            "high": [1.0] * k,
            "spread": [1.0] * k,
            "tested_low": [-5.0] * k,
            "tested_high": [5.0] * k,
            "weights": [0.0] * 4 * k,
            "scale_weights": [0.0] * 4 * k,
        }
    )

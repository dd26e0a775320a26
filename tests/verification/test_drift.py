"""Drift: shares by period, tests by hand, and when a lasting change began."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import comb

import numpy as np
import pytest

from support.conditions import usual_within_one
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.verification import Verifier, cosine_verifier
from xvectors.verification.drift import (
    ASSUMED_SHARE,
    LEVEL,
    USUAL_SHARE,
    Incoming,
    measure_drift,
    percent,
    period_of,
)

USUAL = [0.0] * 6
TELEPHONE = [-4.0, *USUAL[1:]]
LOUD = [0.0, 0.0, 0.0, 0.0, 3.0, 0.0]
UNTESTED = [-70.0, *USUAL[1:]]
UNKNOWN = [np.nan] * 6


def verifier(share: float | None = None) -> Verifier:
    return Verifier(
        backend=cosine_verifier().backend,
        name="cosine",
        basis={} if share is None else {USUAL_SHARE: share},
        condition=usual_within_one(),
    )


def months(*parts: list[list[float]]) -> Incoming:
    """Recordings of January, February and so on; their seconds of speech count from 1 in each month."""
    return Incoming(
        condition=np.array([row for part in parts for row in part], dtype=np.float32),
        speech_s=np.array([at + 1.0 for part in parts for at in range(len(part))]),
        dates=[datetime(2026, at + 1, 1 + day % 28) for at, part in enumerate(parts) for day in range(len(part))],
    )


def at_least(number: int, of: int, share: float) -> float:
    return sum(comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(number, of + 1))


def test_a_period_by_hand() -> None:
    january = 8 * [USUAL] + [TELEPHONE, UNKNOWN]
    february = 2 * [USUAL] + 5 * [TELEPHONE] + 2 * [LOUD] + [UNTESTED]
    drift = measure_drift(verifier(), months(january, february))
    first, second = drift.periods
    assert (first.name, first.num_recordings, first.num_unknown, first.num_shifted) == ("2026-01", 10, 1, 1)
    assert first.share_shifted == pytest.approx(1 / 9)
    assert (first.median_speech_s, first.share_untested, first.p_first) == (5.5, 0.0, None)
    assert first.p_calibration == pytest.approx(1 - 0.8**9)
    assert not first.unlike_calibration
    assert (second.share_shifted, second.share_untested) == (0.8, 0.1)
    assert (second.unusual, second.num_unusual) == ("little sound above 4 kHz, as on a telephone", 6)
    assert second.p_calibration == pytest.approx(at_least(8, 10, ASSUMED_SHARE))
    assert second.unlike_calibration
    # of 19 recordings with 9 shifted ones: 8 of the 10 of February, or all 9
    assert second.p_first == pytest.approx((comb(9, 8) * comb(10, 2) + comb(9, 9) * comb(10, 1)) / comb(19, 10))
    assert second.unlike_first is (second.p_first < LEVEL / 2)
    assert (drift.usual_share, drift.recorded_share) == (0.2, None)


def test_telephones_from_march_on_are_a_reason_to_calibrate_again() -> None:
    usual, mixed = 40 * [USUAL], 24 * [USUAL] + 16 * [TELEPHONE]
    drift = measure_drift(verifier(0.05), months(usual, usual, mixed, mixed))
    assert drift.calibrate_again
    assert drift.since == "2026-03"
    assert [period.unlike_first for period in drift.periods] == [False, False, True, True]
    assert drift.advice == (
        "calibrate again: since 2026-03, 40 % of the recordings are unlike the calibration set (little sound above 4 "
        "kHz, as on a telephone); `xvectors calibrate DIR --data RECORDINGS` with recordings of this kind of 20 "
        "speakers or more"
    )
    assert drift.to_dict()["share_shifted_since"] == 0.4


def test_months_with_few_recordings_count_together() -> None:
    few = [USUAL] + 2 * [TELEPHONE]
    drift = measure_drift(verifier(), months(*3 * [20 * [USUAL]], *6 * [few]))
    assert not any(period.unlike_calibration for period in drift.periods)
    assert drift.since == "2026-04"


def test_what_has_passed_is_no_reason() -> None:
    usual = 60 * [USUAL]
    drift = measure_drift(verifier(), months(usual, 60 * [TELEPHONE], usual, usual))
    assert [period.unlike_calibration for period in drift.periods] == [False, True, False, False]
    assert (drift.since, drift.calibrate_again) == (None, False)
    assert drift.advice == (
        "nothing to do: no more recordings than usual are unlike the calibration set, and what was unlike it in "
        "2026-02 has passed"
    )


def test_the_usual_share_is_what_the_calibration_records_but_not_less_than_a_twentieth() -> None:
    recordings = months(85 * [USUAL] + 15 * [TELEPHONE])
    assert measure_drift(verifier(), recordings).since is None
    recorded = measure_drift(verifier(0.04), recordings)
    assert (recorded.usual_share, recorded.recorded_share, recorded.since) == (0.05, 0.04, "2026-01")
    assert recorded.periods[0].p_calibration == pytest.approx(at_least(15, 100, 0.05))
    assert measure_drift(verifier(0.12), recordings).since is None
    with pytest.raises(CheckpointError, match=r"usual_share_shifted is 1\.5"):
        measure_drift(verifier(1.5), recordings)


def test_chance_alone_is_seldom_a_reason() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        shifted = rng.random((12, 30)) < ASSUMED_SHARE
        found += (
            measure_drift(verifier(), months(*np.where(shifted[..., None], TELEPHONE, USUAL).tolist())).since
            is not None
        )
    assert found <= 4


def test_two_recordings_are_too_few_to_tell() -> None:
    """A fifth squared is 0.04: that both are unlike may be chance, at a level of 0.01."""
    two, three = (measure_drift(verifier(), months(number * [TELEPHONE])) for number in (2, 3))
    assert (two.too_few, two.calibrate_again) == (True, False)
    assert two.advice.startswith("nothing to do yet: there are too few recordings to tell")
    assert (three.too_few, three.calibrate_again) == (False, True)


def test_recordings_without_dates_are_one_period() -> None:
    rows = np.array(10 * [TELEPHONE], dtype=np.float32)
    drift = measure_drift(verifier(), Incoming(condition=rows, speech_s=np.full(10, np.nan)))
    (period,) = drift.periods
    assert (period.name, period.num_recordings, period.median_speech_s) == ("all", 10, None)
    assert (drift.dated, drift.since) == (False, "all")
    assert drift.advice.startswith("calibrate again: 100 % of the recordings are unlike")


def test_a_period_without_conditions_has_no_shares() -> None:
    drift = measure_drift(verifier(), months(5 * [UNKNOWN], 5 * [USUAL]))
    assert (drift.periods[0].share_shifted, drift.periods[0].p_calibration) == (None, None)
    assert drift.periods[1].p_first is None
    assert percent(drift.periods[0].share_shifted) == "unknown"
    with pytest.raises(ShapeError, match="embed or enroll again"):
        measure_drift(verifier(), months(5 * [UNKNOWN]))


def test_periods_are_counted_in_utc() -> None:
    late = datetime(2026, 4, 30, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert (period_of(late, "month"), period_of(late, "week")) == ("2026-05", "2026-W18")
    assert period_of(datetime(2025, 12, 29, tzinfo=UTC), "week") == "2026-W01"
    assert period_of(late.replace(tzinfo=None), "month") == "2026-04"
    recordings = months(3 * [USUAL], 3 * [USUAL])
    assert [period.name for period in measure_drift(verifier(), recordings, by="all").periods] == ["all"]
    assert [each.name for each in measure_drift(verifier(), recordings, by="week").periods] == [
        "2026-W01",
        "2026-W05",
        "2026-W06",
    ]
    with pytest.raises(ConfigError, match="did you mean 'month'"):
        measure_drift(verifier(), recordings, by="months")


def test_a_calibration_without_conditions_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"knows no conditions .*`xvectors calibrate DIR --data RECORDINGS`"):
        measure_drift(cosine_verifier(), months([USUAL]))

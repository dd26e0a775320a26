"""DER and JER: by hand, against a count of frames, and their properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xvectors.errors import ConfigError, ShapeError
from xvectors.metrics import (
    FAIR,
    FORGIVING,
    FULL,
    DiarizationErrors,
    Scoring,
    SpeakerTurns,
    der_interval,
    diarization_errors,
)

STEP_S = 0.25


def turns(*spans: tuple[float, float, object]) -> SpeakerTurns:
    return SpeakerTurns.of(*([span[at] for span in spans] for at in range(3)))


def drawn(seed: int, speakers: int = 3, count: int = 6) -> SpeakerTurns:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 40, count) * STEP_S
    return SpeakerTurns.of(starts, starts + rng.integers(0, 12, count) * STEP_S, rng.integers(0, speakers, count))


def test_each_kind_of_error_by_hand() -> None:
    reference = turns((0, 10, "a"), (8, 12, "b"), (20, 24, "b"))
    hypothesis = turns((1, 9, "x"), (9, 12, "y"), (20, 22, "x"), (30, 31, "y"))
    # a is x (8 s in common), b is y (3 s). Missed: a 0-1, one of two in 8-10, b 22-24. Alarm: 30-31. Confusion: 20-22.
    # In 8-9 x alone is right, and in 9-10 y alone.
    found = diarization_errors(reference, hypothesis)
    assert found == DiarizationErrors(
        speech_s=18.0,
        missed_s=5.0,
        false_alarm_s=1.0,
        confusion_s=2.0,
        jaccard=found.jaccard,
        num_speakers=2,
    )
    assert found.der == pytest.approx(8 / 18)
    # a: 8 of 10 + 10 - 8 s; b: 3 of 8 + 4 - 3 s
    assert found.jer == pytest.approx((1 - 8 / 12 + 1 - 3 / 9) / 2)


def test_a_collar_counts_on_each_side_and_overlap_can_be_left_out() -> None:
    reference, hypothesis = turns((0, 10, 0), (8, 12, 1)), turns((0, 12, 0))
    assert diarization_errors(reference, hypothesis).missed_s == 2.0
    assert diarization_errors(reference, hypothesis).confusion_s == 2.0
    # left out: 0-0.25, 7.75-8.25, 9.75-10.25 and 11.75-12
    fair = diarization_errors(reference, hypothesis, scoring=FAIR)
    assert (fair.speech_s, fair.missed_s, fair.confusion_s) == (7.5 + 2 * 1.5 + 1.5, 1.5, 1.5)
    forgiving = diarization_errors(reference, hypothesis, scoring=FORGIVING)
    assert (forgiving.speech_s, forgiving.missed_s, forgiving.confusion_s) == (7.5 + 1.5, 0.0, 1.5)


def test_regions_are_what_is_scored() -> None:
    reference, hypothesis = turns((0, 10, 0)), turns((5, 20, 0))
    assert diarization_errors(reference, hypothesis).false_alarm_s == 10.0
    found = diarization_errors(reference, hypothesis, regions_s=[[4, 12], [6, 13]])
    assert (found.speech_s, found.missed_s, found.false_alarm_s) == (6.0, 1.0, 3.0)
    beyond = diarization_errors(reference, hypothesis, regions_s=[[0, 100]])
    assert beyond == diarization_errors(reference, hypothesis)


def test_nobody_on_either_side() -> None:
    nobody, one = turns(), turns((0, 4, 0))
    assert diarization_errors(one, nobody).der == 1.0
    assert diarization_errors(one, nobody).jer == 1.0
    alarm = diarization_errors(nobody, one)
    assert alarm.false_alarm_s == 4.0
    assert np.isnan(alarm.der)
    assert np.isnan(alarm.jer)
    assert diarization_errors(nobody, nobody).speech_s == 0.0


def by_frames(
    reference: SpeakerTurns, hypothesis: SpeakerTurns, regions: list[list[float]], scoring: Scoring
) -> tuple[float, float, float, float]:
    """Count frames of 125 ms, and try every mapping."""
    step = STEP_S / 2
    times = np.arange(0, 20, step) + step / 2

    def active(side: SpeakerTurns) -> np.ndarray:
        rows = [
            np.any([(s <= times) & (times < e) for s, e, who in zip(*side, strict=True) if who == speaker], axis=0)
            for speaker in range(3)
            if speaker in side.speaker
        ]
        return np.array(rows + [np.zeros(len(times), dtype=bool)] * (3 - len(rows)))

    ref, hyp = active(reference), active(hypothesis)
    scored = np.any([(a <= times) & (times < b) for a, b in regions], axis=0)
    for start, end, _ in zip(*reference, strict=True):
        if end > start:
            scored &= ~(np.minimum(abs(times - start), abs(times - end)) < scoring.collar_s)
    if scoring.skip_overlap:
        scored &= ref.sum(axis=0) < 2
    ref, hyp = ref[:, scored], hyp[:, scored]
    right = max(
        sum((ref[at] & hyp[to]).sum() for at, to in enumerate(order)) for order in itertools.permutations(range(3))
    )
    num_ref, num_hyp = ref.sum(axis=0), hyp.sum(axis=0)
    missed, alarm = np.maximum(num_ref - num_hyp, 0).sum(), np.maximum(num_hyp - num_ref, 0).sum()
    return num_ref.sum() * step, missed * step, alarm * step, (np.minimum(num_ref, num_hyp).sum() - right) * step


@pytest.mark.parametrize("scoring", [FULL, FAIR, FORGIVING, Scoring(0.0, True), Scoring(0.5, False)])
def test_it_equals_a_count_of_frames(scoring: Scoring) -> None:
    regions = [[1.0, 7.5], [6.0, 9.0], [9.5, 13.25]]
    for seed in range(30):
        reference, hypothesis = drawn(seed), drawn(1000 + seed)
        found = diarization_errors(reference, hypothesis, regions_s=regions, scoring=scoring)
        expected = by_frames(reference, hypothesis, regions, scoring)
        assert (found.speech_s, found.missed_s, found.false_alarm_s, found.confusion_s) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_names_order_and_cuts_do_not_matter(seed: int) -> None:
    reference, hypothesis = drawn(seed), drawn(seed + 1)
    found = diarization_errors(reference, hypothesis)
    order = np.random.default_rng(seed).permutation(len(hypothesis.start_s))
    middle = (hypothesis.start_s + hypothesis.end_s) / 2
    cut = SpeakerTurns.of(
        np.concatenate([hypothesis.start_s, middle])[np.append(order, order + len(order))],
        np.concatenate([middle, hypothesis.end_s])[np.append(order, order + len(order))],
        np.tile(np.array(list("zyx"))[hypothesis.speaker], 2)[np.append(order, order + len(order))],
    )
    again = diarization_errors(reference, cut)
    assert (again.der, again.jer) == pytest.approx((found.der, found.jer), nan_ok=True)
    perfect = diarization_errors(reference, reference)
    assert (perfect.missed_s, perfect.false_alarm_s, perfect.confusion_s) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_interval_is_over_recordings() -> None:
    rng = np.random.default_rng(0)
    errors = [
        DiarizationErrors(
            speech_s=100.0,
            missed_s=float(rate),
            false_alarm_s=0.0,
            confusion_s=0.0,
            jaccard=0.0,
            num_speakers=1,
        )
        for rate in rng.uniform(5, 15, 40)
    ]
    found = der_interval(errors)
    assert found.num_recordings == 40
    assert found.value == pytest.approx(np.mean([each.der for each in errors]))
    spread = np.std([each.der for each in errors], ddof=1) / np.sqrt(40)
    assert found.low == pytest.approx(found.value - 2.02 * spread, abs=0.25 * spread)
    assert found.high == pytest.approx(found.value + 2.02 * spread, abs=0.25 * spread)
    alike = der_interval(errors[:1] * 5)
    assert alike.low == pytest.approx(alike.high)
    with pytest.raises(ShapeError, match="at least 5"):
        der_interval(errors[:4])
    with pytest.raises(ConfigError, match="at least 100"):
        der_interval(errors, num_draws=9)


def test_what_cannot_be_scored_says_so() -> None:
    with pytest.raises(ShapeError, match=r"turn 1 is from 3\.0 s to 2\.0 s"):
        turns((0, 1, 0), (3, 2, 0))
    with pytest.raises(ShapeError, match=r"starts \[2\], ends \[1\]"):
        SpeakerTurns.of([0, 1], [1], [0, 0])
    with pytest.raises(ShapeError, match="ends before it starts"):
        diarization_errors(turns(), turns(), regions_s=[[2, 1]])
    with pytest.raises(ConfigError, match="collar_s is -1"):
        diarization_errors(turns(), turns(), scoring=Scoring(-1, False))

"""Slices against counting by hand, and their intervals against those of `speaker_intervals`."""

from __future__ import annotations

import numpy as np
import pytest

from support.simulated import evaluation
from xvectors.corpus import Manifest
from xvectors.evaluation import Evaluation
from xvectors.evaluation.slice_dimensions import Dimension, trial_dimensions
from xvectors.evaluation.slices import Slice, Slices, measure_slices
from xvectors.metrics import ROC, ScoredTrials, speaker_intervals
from xvectors.trials import Trials


@pytest.fixture(scope="module")
def evaluated() -> Evaluation:
    return evaluation()


@pytest.fixture(scope="module")
def found(evaluated: Evaluation) -> Slices:
    return evaluated.slices


def named(slices: Slices, dimension: str, name: str) -> Slice:
    return next(one for one in slices.slices if (one.dimension, one.name) == (dimension, name))


def by_hand(evaluated: Evaluation, targets: list[float], others: list[float]) -> dict[str, float]:
    """The measures by their definitions, one comparison at a time."""
    threshold = evaluated.threshold
    frr = sum(score < threshold for score in targets) / len(targets)
    far = sum(score >= threshold for score in others) / len(others)
    return {"frr": frr, "far": far, "actual_dcf": frr + 9 * far, "eer": ROC.from_scores(targets, others).eer().eer}


@pytest.mark.parametrize(
    ("dimension", "name", "belongs"),
    [
        ("gender", "female speakers", lambda m, i, j, t: m.gender[i] == m.gender[j] == 1),
        ("gender", "a female and a male speaker", lambda m, i, j, t: t or m.gender[i] != m.gender[j]),
        ("gender", "male speakers", lambda m, i, j, t: m.gender[i] == m.gender[j] == 0),
        ("age", "30 to 44 years", lambda m, i, j, t: 30 <= m.age[i] < 45 and 30 <= m.age[j] < 45),
        ("age difference", "under 3 years", lambda m, i, j, t: t or abs(m.age[i] - m.age[j]) < 3),
        ("age", "under 13 years", lambda m, i, j, t: m.age[i] < 13 and m.age[j] < 13),
        ("age difference", "20 years or more", lambda m, i, j, t: t or abs(m.age[i] - m.age[j]) >= 20),
        ("session", "one speaker, two sessions", lambda m, i, j, t: not t or m.session_index[i] != m.session_index[j]),
        ("microphone", "phone", lambda m, i, j, t: m.extra["microphone"][i] == m.extra["microphone"][j] == "phone"),
        ("microphone", "two different values", lambda m, i, j, t: m.extra["microphone"][i] != m.extra["microphone"][j]),
        ("accent", "north", lambda m, i, j, t: m.extra["accent"][i] == m.extra["accent"][j] == "north"),
    ],
)
def test_a_slice_holds_the_measures_of_its_trials(
    evaluated: Evaluation, found: Slices, dimension: str, name: str, belongs: object
) -> None:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for i, j, target, llr in zip(
        evaluated.trials.enroll, evaluated.trials.test, evaluated.trials.target, evaluated.decision_scores, strict=True
    ):
        if belongs(evaluated.manifest, i, j, target):  # type: ignore[operator]
            sides[bool(target)].append(float(llr))
    one = named(found, dimension, name)
    assert (one.num_target, one.num_nontarget) == (len(sides[True]), len(sides[False]))
    expected = by_hand(evaluated, sides[True], sides[False])
    for key, measure in one.measures.items():
        assert measure.value == pytest.approx(expected[key], abs=1e-12), key
        assert measure.difference == pytest.approx(expected[key] - found.whole.measures[key].value, abs=1e-12)
    assert {"eer", "actual_dcf"} <= set(one.measures)


def test_shorter_and_noisier_recordings_decide() -> None:
    manifest = Manifest.from_rows([{"path": f"{at}.wav", "speaker": "ab"[at % 2]} for at in range(4)])
    trials = Trials(enroll=np.array([0, 0, 1]), test=np.array([1, 2, 3]), target=np.array([False, True, True]))
    found = trial_dimensions(manifest, [0.9, 2.0, 9.0, np.nan], [12.0, 4.0, 31.0, 16.0], trials)
    assert [one.name for one in found] == ["noisier recording, SNR"]  # one duration band alone is no dimension
    assert [found[0].labels[code] for code in found[0].codes] == ["under 5 dB", "10 to 15 dB", "under 5 dB"]
    found = trial_dimensions(manifest, [0.9, 2.0, 9.0, 2.5], [np.nan] * 4, trials)
    assert [found[0].labels[code] for code in found[0].codes] == ["under 1 s", "under 1 s", "2 to 3 s"]


def test_columns_of_numbers_are_parted_in_quarters_and_names_passed_over() -> None:
    rows = [
        {"path": f"{at}.wav", "speaker": f"s{at // 2}", "level": str(at), "name": f"name {at // 2}"} for at in range(40)
    ]
    manifest = Manifest.from_rows(rows)
    pairs = [(0, 1, True), (12, 13, True), (38, 39, True), (0, 39, False)]
    enroll, test, target = (np.array(side) for side in zip(*pairs, strict=True))
    trials = Trials(enroll=enroll, test=test, target=target)
    (level,) = trial_dimensions(manifest, np.full(40, np.nan), np.full(40, np.nan), trials)
    assert level.name == "level"
    assert level.labels[:4] == ("under 9.75", "9.75 to 19.5", "19.5 to 29.25", "29.25 or more")
    assert level.codes.tolist() == [0, 1, 3, -1]


def test_intervals_are_those_of_the_speaker_bootstrap(evaluated: Evaluation, found: Slices) -> None:
    speaker = evaluated.manifest.speaker_index
    trials = evaluated.trials
    expected = speaker_intervals(
        evaluated.decision_scores,
        ScoredTrials.of(trials.target, speaker[trials.enroll], speaker[trials.test]),
        {
            "eer": lambda roc: roc.eer().eer,
            "frr": lambda roc: roc.rates_at(evaluated.threshold)[0],
            "far": lambda roc: roc.rates_at(evaluated.threshold)[1],
            "actual_dcf": lambda roc: roc.actual_dcf(*evaluated.cost.settings),
        },
        num_draws=100,
    )
    for key, interval in expected.items():
        measure = found.whole.measures[key]
        assert measure.low is not None
        assert measure.high is not None
        assert measure.value == pytest.approx(interval.value, abs=1e-12)
        room = 0.01 * (interval.high - interval.low) if key == "eer" else 1e-12  # the EER's draws are interpolated
        assert measure.low == pytest.approx(interval.low, abs=room)
        assert measure.high == pytest.approx(interval.high, abs=room)


def test_a_group_that_fails_is_marked_and_stands_first() -> None:
    rng = np.random.default_rng(5)
    speaker = np.repeat(np.arange(20), 8)
    enroll, test = np.triu_indices(len(speaker), 1)
    target = speaker[enroll] == speaker[test]
    hard = (speaker[enroll] < 6) & (speaker[test] < 6)
    scores = rng.standard_normal(len(enroll)) + np.where(target, np.where(hard, 0.5, 3.5), 0.0)
    codes = np.where(hard, 0, 1).astype(np.int16)
    noise = rng.integers(0, 2, len(enroll)).astype(np.int16)
    few = np.where((speaker[enroll] < 3) & (speaker[test] < 3), 0, -1).astype(np.int16)
    both = ("both", "both")
    found = measure_slices(
        [
            Dimension(name="coin", labels=("heads", "tails"), kinds=both, codes=noise),
            Dimension(name="group", labels=("hard", "easy"), kinds=both, codes=codes),
            Dimension(name="few", labels=("three",), kinds=("both",), codes=few),
        ],
        scores=scores,
        target=target,
        enroll_speaker=speaker[enroll],
        test_speaker=speaker[test],
        threshold=1.75,
        num_draws=100,
    )
    hard_one, coin = found.slices[0], named(found, "coin", "heads")
    assert (hard_one.name, hard_one.measures["eer"].departs) == ("hard", True)
    assert hard_one.measures["eer"].value == pytest.approx(0.40, abs=0.04)  # normal scores 0.5 apart: 0.401
    assert hard_one.measures["eer"].difference_low > 0.1
    assert not coin.measures["eer"].departs
    assert abs(coin.measures["eer"].difference) < 0.03
    assert set(hard_one.measures) == {"eer", "frr", "far"}  # no LLRs, no DCF
    three = found.slices[-1]
    assert three.measures == {}
    assert three.note == "target trials of 3 speakers, fewer than 5; non-target trials of 3 speakers, fewer than 5"


def test_four_speakers_give_rates_without_intervals() -> None:
    evaluated = evaluation(speakers=4, each=10)
    whole = evaluated.slices.whole
    assert whole.measures["eer"].value == pytest.approx(evaluated.measures["eer"].value)
    assert whole.measures["eer"].low is None


def test_without_genders_ages_and_sessions_durations_remain() -> None:
    found = evaluation(known=False).slices
    assert {one.dimension for one in found.slices} == {"shorter recording"}


def test_each_group_of_gender_and_age_has_its_own_speakers(evaluated: Evaluation, found: Slices) -> None:
    counts = {(one.dimension, one.name): one.num_speakers for one in found.slices}
    assert counts["gender", "female speakers"] == counts["gender", "male speakers"] == 6
    assert counts["age", "under 13 years"] == counts["age", "30 to 44 years"] == 6
    assert counts["gender", "a female and a male speaker"] == 12

"""Learning from made shifts: trials are paired as stated, and LLRs under a shift become right."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.audio.condition import CONDITION_NAMES, LEAST_SPREAD
from xvectors.backends import ConditionCalibration
from xvectors.metrics import ROC
from xvectors.trials import Trials
from xvectors.verification import Basis, learn_verifier
from xvectors.verification.calibration_set import AS_RECORDED, BOTH_SIDES, ONE_SIDE, Shifted
from xvectors.verification.conditions import usual_share_shifted, with_condition
from xvectors.verification.shift import shift_of
from xvectors.verification.verifier import Verifier

SPEAKERS, EACH, DIM = 40, 4, 32
CHANNEL = np.random.default_rng(99).normal(size=DIM) * 1.2


def drawn(rng: np.random.Generator, narrow: bool, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, which a narrow band moves in one direction, and their conditions."""
    rows = np.repeat(centers, EACH, axis=0) + rng.normal(size=(len(centers) * EACH, DIM)) * 0.6 + narrow * CHANNEL
    condition = rng.uniform(-1, 1, (len(rows), len(CONDITION_NAMES)))
    condition[:, 0] += -50 * narrow - 15
    return rows.astype(np.float32), condition.astype(np.float32)


def basis_of(rng: np.random.Generator, narrow: bool, centers: np.ndarray, speakers: int = SPEAKERS) -> Basis:
    rows, condition = drawn(rng, narrow, centers[:speakers])
    return Basis(
        embeddings=rows,
        speakers=np.repeat([f"s{number:02d}" for number in range(speakers)], EACH),
        recording=np.arange(len(rows)),
        duration_s=rng.uniform(2, 6, len(rows)),
        whole=np.ones(len(rows), dtype=np.bool_),
        condition=condition,
    )


@pytest.fixture(scope="module")
def learned() -> tuple[Verifier, Verifier]:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(SPEAKERS, DIM))
    basis = basis_of(rng, False, centers)
    copies = basis_of(rng, True, centers)
    shifted = Shifted(basis=copies, shift=np.full(len(copies.speakers), "telephone"))
    unaware = learn_verifier(basis, backend_name="cosine")
    return unaware, with_condition(unaware, basis, shifted)


def test_llrs_of_other_speakers_by_telephone_become_right(learned: tuple[Verifier, Verifier]) -> None:
    unaware, aware = learned
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(80, DIM))
    narrow, wide = (basis_of(rng, is_narrow, centers, 80) for is_narrow in (True, False))
    rows = np.concatenate([narrow.embeddings, wide.embeddings])
    condition = np.concatenate([narrow.condition, wide.condition])
    speakers = np.concatenate([narrow.speakers, wide.speakers])
    i, j = np.triu_indices(len(narrow.speakers), 1)
    for left, right, loses in ((i, j, True), (i, j + len(narrow.speakers), True), (i + 320, j + 320, False)):
        target = speakers[left] == speakers[right]
        trials = Trials(enroll=left.astype(np.int32), test=right.astype(np.int32), target=target)
        scores, seconds = aware.score(rows, trials), np.full(len(rows), 4.0)
        before = unaware.trial_llrs(scores, trials, rows, seconds)
        after = aware.trial_llrs(scores, trials, rows, seconds, condition)
        measured = [ROC.from_scores(llrs[target], llrs[~target]) for llrs in (before, after)]
        if loses:
            assert measured[0].cllr() - measured[0].min_cllr() > 0.15
            assert measured[1].cllr() - measured[1].min_cllr() < 0.07
        else:
            assert abs(measured[1].cllr() - measured[0].cllr()) < 0.02
        assert aware.bounds is not None
        assert aware.bounds[0] <= after.min() < after.max() <= aware.bounds[1]


def test_the_figures_name_each_shift_and_way_of_pairing(learned: tuple[Verifier, Verifier]) -> None:
    rows = learned[1].figures["shifts"]
    assert [(row["shift"], row["paired"]) for row in rows] == [
        (AS_RECORDED, AS_RECORDED),
        ("telephone", BOTH_SIDES),
        ("telephone", ONE_SIDE),
    ]
    for row in rows[1:]:
        assert row["cllr_before"] - row["cllr"] > 0.1
        assert row["min_cllr"] <= row["cllr"]


def test_a_shift_has_a_number_and_words(learned: tuple[Verifier, Verifier]) -> None:
    aware = learned[1]
    usual = np.array([-15.0, 0, 0, 0, 0, 0])
    found = shift_of(aware, usual)
    assert found is not None
    assert (found.value, found.words, found.untested) == (0.0, (), False)
    narrow = shift_of(aware, usual - [50, 0, 0, 0, 0, 0])
    assert narrow is not None
    assert narrow.value > 10
    assert narrow.words == ("little sound above 4 kHz, as on a telephone",)
    assert not narrow.untested
    far = shift_of(aware, usual - [200, 0, 0, 0, 0, 0])
    assert far is not None
    assert far.untested
    assert shift_of(learned[0], usual) is None
    short = shift_of(aware, usual - [50, 0, 0, 0, 0, 0], speech_s=0.5)
    assert short is not None
    assert 1 < short.value < narrow.value / 2 + 1  # half the distance from the middle counts


def test_the_usual_share_is_that_among_recordings_of_other_speakers(learned: tuple[Verifier, Verifier]) -> None:
    """With 20 speakers, fewer of the recordings that the range was learned from are shifted than of others."""
    assert learned[1].basis["usual_share_shifted"] == 0.0
    assert "usual_share_shifted" not in learned[0].basis
    rng = np.random.default_rng(3)
    stated, own, new = [], [], []
    for _ in range(40):
        basis, others = (_heavy_tailed(rng, speakers) for speakers in (20, 100))
        assert basis.condition is not None
        usual = ConditionCalibration(CONDITION_NAMES, LEAST_SPREAD).fit_range(basis.condition)
        stated.append(usual_share_shifted(basis))
        for found, each in ((own, basis), (new, others)):
            found.append((usual.excess(each.condition).max(axis=1) >= 1).mean())
    assert np.mean(own) < 0.7 * np.mean(new)
    # somewhat more, as the range is learned from a tenth fewer speakers
    assert np.mean(new) < np.mean(stated) < 1.35 * np.mean(new)


def _heavy_tailed(rng: np.random.Generator, speakers: int) -> Basis:
    """Recordings of speakers who differ, four each, with a few far from the others."""
    values = rng.normal(size=(speakers, 1, 6)) + rng.standard_t(5, size=(speakers, EACH, 6))
    rows = speakers * EACH
    return Basis(
        embeddings=np.ones((rows, DIM), dtype=np.float32),
        speakers=np.repeat([f"s{number:02d}" for number in range(speakers)], EACH),
        recording=np.arange(rows),
        duration_s=np.full(rows, 3.0),
        whole=np.ones(rows, dtype=np.bool_),
        condition=(4 * values).reshape(rows, 6).astype(np.float32),
    )


def test_few_speakers_give_bounds_and_no_conditions() -> None:
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(SPEAKERS, DIM))
    basis = basis_of(rng, False, centers, speakers=9)
    copies = basis_of(rng, True, centers, speakers=9)
    shifted = Shifted(basis=copies, shift=np.full(len(copies.speakers), "telephone"))
    verifier = with_condition(learn_verifier(basis, backend_name="cosine"), basis, shifted)
    assert verifier.condition is None
    assert verifier.bounds == pytest.approx((-np.log(19), np.log(37)))

"""What a verifier learns from embeddings drawn from a known model: short recordings are noisier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from support.conditions import some_conditions
from xvectors.backends import BACKENDS
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError
from xvectors.metrics import ROC
from xvectors.trials import Trials, all_pairs
from xvectors.verification import Basis, cosine_verifier, learn_verifier
from xvectors.verification.calibration_set import all_trials, some_recordings
from xvectors.verification.learning import CANDIDATES
from xvectors.verification.verifier import duration_quality

Simulate = Callable[..., Basis]


def llrs_of(basis: Basis, learned_from: Basis, seconds: float | None) -> tuple[np.ndarray, Trials]:
    """LLRs of all pairs of the crops of so many seconds, None: of the whole recordings."""
    verifier = learn_verifier(learned_from)
    chosen = basis.take(basis.whole if seconds is None else basis.duration_s == seconds)
    trials = all_pairs(chosen.speakers)
    scores = verifier.score(chosen.embeddings, trials)
    return verifier.trial_llrs(scores, trials, chosen.embeddings, chosen.duration_s), trials


def test_short_recordings_give_llrs_nearer_to_zero(simulate: Simulate) -> None:
    """On other speakers than it was learned from, and calibrated at every length."""
    learned_from, others = simulate(30, 6, seed=1), simulate(30, 6, seed=2)
    strengths, losses = [], []
    for seconds in (0.5, 1.0, 2.0, None):
        llrs, trials = llrs_of(others, learned_from, seconds)
        strengths.append(float(np.median(np.abs(llrs))))
        roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
        losses.append(roc.cllr() - roc.min_cllr())
    assert strengths == sorted(strengths)
    assert strengths[0] < 0.5 * strengths[-1]
    assert max(losses) < 0.1


def test_a_prior_is_that_of_the_fit_and_of_decisions(simulate: Simulate) -> None:
    basis = simulate(30, 6, seed=1)
    even, rare = learn_verifier(basis), learn_verifier(basis, p_target=0.01)
    assert (even.p_target, rare.p_target) == (0.5, 0.01)
    assert rare.threshold == pytest.approx(np.log(99))
    assert rare.calibration is not None
    assert rare.calibration.p_target == 0.01
    # each is at least as good as the other at its own prior, where it was fitted to be
    for prior, better, other in ((0.5, even, rare), (0.01, rare, even)):
        costs = []
        for verifier in (better, other):
            some = some_recordings(basis, 0)
            trials = all_trials(some)
            scores = verifier.score(some.embeddings, trials)
            llrs = verifier.trial_llrs(scores, trials, some.embeddings, some.duration_s)
            odds = llrs + np.log(prior / (1 - prior))
            miss, accept = np.logaddexp(0, -odds[trials.target]), np.logaddexp(0, odds[~trials.target])
            costs.append(prior * miss.mean() + (1 - prior) * accept.mean())
        assert costs[0] < costs[1]
    with pytest.raises(ConfigError, match=r"p_target is 1.0.*give the share of target trials"):
        learn_verifier(basis, p_target=1.0)


def test_the_same_score_says_less_of_short_recordings(simulate: Simulate) -> None:
    basis = simulate(30, 6, seed=1)
    unit = basis.embeddings / np.linalg.norm(basis.embeddings, axis=1, keepdims=True)
    verifier = learn_verifier(replace(basis, embeddings=unit))  # whose lengths would tell the duration too
    short, long = (verifier.llrs([0.9], [seconds], [seconds])[0] for seconds in (0.5, 5.0))
    assert 0 < short < long
    assert verifier.llrs([0.9], [0.1], [0.1])[0] == short  # beyond what was seen nothing is extrapolated
    swapped = [verifier.llrs([0.5], [a], [b])[0] for a, b in ((0.5, 5.0), (5.0, 0.5))]
    assert swapped[0] == swapped[1]


def test_quality_measures_are_the_same_whichever_side_is_first() -> None:
    e = np.e
    found = duration_quality([e, e**3], [e**2, 1.0])
    np.testing.assert_allclose(found, [[1, 2, 1, 4, 2], [0, 3, 0, 9, 0]])
    bounded = duration_quality([e, e**3], [e**2, 1.0], ([0.5, 1], [0.75, 2]))
    np.testing.assert_allclose(bounded, [[0.75, 2, 0.5625, 4, 1.5], [0.5, 2, 0.25, 4, 1]])


def training(simulate: Simulate, speakers: int, seed: int, channel: float) -> tuple[np.ndarray, np.ndarray]:
    basis = simulate(speakers, 8, seed=seed, channel=channel)
    whole = basis.take(basis.whole)
    return whole.embeddings, np.char.add("t", whole.speakers)


def test_a_back_end_is_chosen_where_it_helps_and_there_are_speakers_enough(simulate: Simulate) -> None:
    candidates = {name: BACKENDS[name] for name in ("cosine", "asnorm", "wccn", "lda_plda")}
    trained_on = training(simulate, 40, seed=3, channel=3.0)
    verifier = learn_verifier(simulate(20, 8, seed=4, channel=3.0), trained_on, candidates=candidates)
    assert verifier.name in {"wccn", "lda_plda"}
    table = verifier.backend_table
    figures = {row["name"]: row for row in table["selection"]["candidates"]}
    assert figures[verifier.name]["high"] < 0
    gain = figures["cosine"]["cllr"] - figures[verifier.name]["cllr"]
    assert table["reason"] == f"a Cllr on held-out speakers {gain:.3f} bits below that of cosine"
    assert (table["selection"]["reference"], table["selection"]["num_training_speakers"]) == ("cosine", 40)

    few = learn_verifier(simulate(4, 8, seed=4, channel=3.0), trained_on, candidates=candidates)
    assert (few.name, few.backend_table) == ("cosine", {"reason": "4 held-out speakers; to choose takes 5"})
    alone = learn_verifier(simulate(20, 8, seed=4, channel=3.0))
    assert alone.name == "cosine"
    assert alone.backend_table == {"reason": "no recordings of training speakers to fit another on"}


def test_with_a_cohort_of_fifty_scores_are_normalized_in_doubt(simulate: Simulate) -> None:
    held_out = simulate(4, 4, seed=5)
    names = [learn_verifier(held_out, training(simulate, n, seed=6, channel=0.0)).name for n in (49, 50)]
    assert names == ["cosine", "asnorm"]
    verifier = learn_verifier(simulate(12, 4, seed=5), training(simulate, 60, seed=6, channel=0.0))
    assert verifier.backend_table["selection"]["reference"] == "asnorm"
    assert {row["name"] for row in verifier.backend_table["selection"]["candidates"]} == set(CANDIDATES)


def test_the_back_end_asked_for_is_taken(simulate: Simulate) -> None:
    trained = training(simulate, 60, seed=3, channel=0.0)
    verifier = learn_verifier(simulate(30, 6, seed=1), trained, backend_name="lda_plda")
    assert (verifier.name, dict(verifier.backend_table)) == ("lda_plda", {"reason": "as asked for"})
    assert learn_verifier(simulate(30, 6, seed=1), backend_name="cosine").name == "cosine"
    with pytest.raises(
        ManifestError, match=r"back-end asnorm is fitted on recordings of the speakers .* ask for cosine"
    ):
        learn_verifier(simulate(30, 6, seed=1), backend_name="asnorm")
    with pytest.raises(ConfigError, match="back-end 'plada' is not known; did you mean"):
        learn_verifier(simulate(30, 6, seed=1), backend_name="plada")


def test_calibration_scores_are_of_speakers_the_back_end_was_not_fitted_on(simulate: Simulate) -> None:
    """LDA parts the 30 speakers that it was fitted on; calibrated on these, LLRs of others would be overconfident."""
    make = {"cosine": BACKENDS["cosine"], "lda": BACKENDS["lda"]}
    learned_from, others = simulate(30, 5, seed=5, channel=4.0), simulate(30, 5, seed=6, channel=4.0)
    verifier = learn_verifier(learned_from, training(simulate, 30, seed=7, channel=4.0), candidates=make)
    assert verifier.name == "lda"
    whole = others.take(others.whole)
    trials = all_pairs(whole.speakers)
    scores = verifier.score(whole.embeddings, trials)
    llrs = verifier.trial_llrs(scores, trials, whole.embeddings, whole.duration_s)
    roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
    assert roc.cllr() - roc.min_cllr() < 0.1


def test_what_it_rests_on_is_counted(simulate: Simulate) -> None:
    basis = simulate(4, 3, seed=7)
    verifier = learn_verifier(basis)
    assert verifier.basis == {
        "speakers": ["s00", "s01", "s02", "s03"],
        "num_speakers": 4,
        "num_recordings": 12,
        "num_crops": 36,
        # pairs of recordings, by 4 x 4 lengths
        "num_target_trials": 4 * 3 * 16,
        "num_nontarget_trials": 6 * 9 * 16,
        "shortest_s": 0.5,
        "longest_s": float(basis.duration_s.max()),
        "seed": 0,
    }
    assert verifier.figures["whole_recordings"]["num_target_trials"] == 12
    assert verifier.figures["all"]["cllr"] >= verifier.figures["all"]["min_cllr"]


def test_trials_are_of_two_recordings(simulate: Simulate) -> None:
    basis = simulate(10, 2, seed=8)
    trials = all_trials(basis)
    assert (basis.recording[trials.enroll] != basis.recording[trials.test]).all()
    assert (len(trials), trials.num_target) == (190 * 16, 10 * 16)


def test_trials_are_within_a_domain(simulate: Simulate) -> None:
    """Of two domains that are far apart, trials between them would be easy."""
    basis = simulate(10, 2, seed=8)
    domain = np.where(basis.speakers < "s06", "near", "far")
    divided = replace(basis, domain=domain)
    trials = all_trials(divided)
    assert (domain[trials.enroll] == domain[trials.test]).all()
    assert (len(trials), trials.num_target) == ((66 + 28) * 16, 10 * 16)
    far = np.where(domain[:, None] == "far", basis.embeddings + 100, basis.embeddings)
    apart = replace(divided, embeddings=far.astype(np.float32))
    together = learn_verifier(replace(apart, domain=None)).figures["all"]
    within = learn_verifier(apart).figures["all"]
    assert within["num_nontarget_trials"] == (66 + 28 - 10) * 16
    assert together["eer"] < within["eer"]


def test_target_trials_are_between_sessions_where_a_speaker_has_two(simulate: Simulate) -> None:
    basis = simulate(4, 3, seed=8)
    session = np.where((basis.recording % 3 == 0) & (basis.speakers != "s03"), "monday", "tuesday")
    trials = all_trials(replace(basis, session=session))
    of_s03 = basis.speakers[trials.enroll] == "s03"
    within = trials.target & (session[trials.enroll] == session[trials.test])
    # of three recordings, one pair is within tuesday: 16 trials of each of three speakers
    assert (trials.num_target, int(within.sum())) == (4 * 3 * 16 - 3 * 16, int((within & of_s03).sum()))
    assert trials.num_nontarget == 6 * 9 * 16


def test_many_recordings_are_thinned_evenly(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xvectors.verification.calibration_set.MAX_ROWS", 100)
    basis = simulate(6, 10, seed=9)
    kept = some_recordings(basis, seed=0)
    assert len(kept.speakers) == 6 * 4 * 4
    assert np.unique(kept.speakers, return_counts=True)[1].tolist() == [16] * 6


@pytest.mark.parametrize(("speakers", "recordings", "message"), [
    (1, 5, "there are 1, 1 of them"),
    (5, 1, "there are 5, 0 of them"),
])  # fmt: skip
def test_too_little_to_learn_from(simulate: Simulate, speakers: int, recordings: int, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        learn_verifier(simulate(speakers, recordings, seed=0))


def test_rows_of_a_basis_keep_their_conditions(simulate: Simulate) -> None:
    basis = simulate(4, 3, seed=0)
    conditions = some_conditions(48)
    np.testing.assert_array_equal(replace(basis, condition=conditions).take([5, 2]).condition, conditions[[5, 2]])
    assert basis.take([5, 2]).condition is None


def test_bad_input(simulate: Simulate) -> None:
    basis = simulate(4, 3, seed=0)
    with pytest.raises(ShapeError, match=r"duration_s has the shape \[3\], but there are 48 embeddings"):
        Basis(
            embeddings=basis.embeddings,
            speakers=basis.speakers,
            recording=basis.recording,
            duration_s=np.ones(3),
            whole=basis.whole,
        )
    with pytest.raises(ShapeError, match=r"condition has the shape \[48\], not \[48, 6\]"):
        replace(basis, condition=np.ones(48, dtype=np.float32))
    with pytest.raises(ConfigError, match="the reference 'cosine' is not among the candidates"):
        learn_verifier(simulate(20, 2, seed=0), training(simulate, 20, 1, 0.0), candidates={"lda": BACKENDS["lda"]})
    with pytest.raises(CheckpointError, match="the system is not calibrated"):
        cosine_verifier().llrs([0.5], [1.0], [1.0])

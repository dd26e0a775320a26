"""Calibration against known LLRs and scikit-learn, short recordings against long ones, curves against counting."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from xvectors.backends import AffineCalibration, log_duration, log_magnitude, pair_quality
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError
from xvectors.metrics import ROC, applied_probability_of_error, calibration_loss, reliability


def gaussian_llrs(
    d: float, num_target: int, num_nontarget: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """LLRs by construction: N(d/2, d) for targets, N(-d/2, d) for non-targets."""
    rng = np.random.default_rng(seed)
    target = np.repeat([True, False], [num_target, num_nontarget])
    return rng.normal(np.where(target, d / 2, -d / 2), math.sqrt(d)), target


def durations_and_scores(num: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Cosines that spread more and part less the shorter the recordings are, with their exact LLRs.

    The score of a pair with t seconds on its shorter side is N(+-1, 4 / t): its LLR is t score / 2.
    """
    rng = np.random.default_rng(seed)
    enroll, test = np.exp(rng.uniform(math.log(0.5), math.log(20), (2, num)))
    target = rng.random(num) < 0.3
    shorter = np.minimum(enroll, test)
    scores = np.where(target, 1.0, -1.0) + rng.normal(size=num) * np.sqrt(4 / shorter)
    return scores, target, enroll, test, shorter * scores / 2


def test_an_affine_map_of_llrs_is_undone() -> None:
    llrs, target = gaussian_llrs(6.0, 20_000, 40_000)
    calibration = AffineCalibration().fit(llrs / 20 + 0.3, target)
    assert calibration.scale_ == pytest.approx(20, rel=0.03)
    assert calibration.offset_ == pytest.approx(-6, rel=0.05)
    fresh, labels = gaussian_llrs(6.0, 5_000, 5_000, seed=1)
    calibrated = calibration.transform(fresh / 20 + 0.3)
    assert np.abs(calibrated - fresh).max() < 0.5
    assert calibration_loss(calibrated[labels], calibrated[~labels]) < 0.01
    assert (calibration.num_target_, calibration.num_nontarget_) == (20_000, 40_000)


@pytest.mark.parametrize("p_target", [0.05, 0.5])
def test_weights_equal_scikit_learns(p_target: float) -> None:
    rng = np.random.default_rng(3)
    scores, target = gaussian_llrs(3.0, 300, 2000)
    scores = np.tanh(scores / 4)
    quality = rng.normal(size=(2300, 2)) * [1, 30] + [0, 5]
    weights = np.where(target, p_target / 300, (1 - p_target) / 2000)
    for scales in (False, True):
        ours = AffineCalibration(p_target, quality_scales=scales).fit(scores, target, quality)
        inputs = np.column_stack([scores, (quality - [0, 5]) / [1, 30]])
        if scales:
            inputs = np.column_stack([inputs, inputs[:, 1:] * scores[:, None]])
        peer = LogisticRegression(C=1e8, tol=1e-10, max_iter=10_000).fit(inputs, target, sample_weight=weights * 2300)
        expected = peer.decision_function(inputs) - math.log(p_target / (1 - p_target))
        np.testing.assert_allclose(ours.transform(scores, quality), expected, atol=2e-3)


def test_short_recordings_are_judged_less_confidently_than_long_ones() -> None:
    scores, target, enroll, test, _ = durations_and_scores(40_000, seed=0)
    quality = pair_quality(log_duration(enroll), log_duration(test))
    calibration = AffineCalibration().fit(scores, target, quality, ["shorter log s", "longer log s"])
    half = pair_quality(log_duration([0.5]), log_duration([0.5]))
    long = pair_quality(log_duration([15.0]), log_duration([15.0]))
    for score in (1.5, -1.5):
        short_llr, long_llr = calibration.transform([score], half)[0], calibration.transform([score], long)[0]
        assert abs(short_llr) < 0.25 * abs(long_llr)
        assert np.sign(long_llr) == np.sign(score)
    # Beyond the seconds seen in training nothing is extrapolated.
    shortest = pair_quality(log_duration([0.001]), log_duration([0.001]))
    assert calibration.transform([1.5], shortest) == pytest.approx(calibration.transform([1.5], half), abs=0.02)
    assert calibration.quality_names_ == ("shorter log s", "longer log s")


def test_knowing_the_durations_brings_llrs_nearer_to_the_true_ones() -> None:
    scores, target, enroll, test, _ = durations_and_scores(40_000, seed=0)
    fresh, labels, fresh_enroll, fresh_test, exact = durations_and_scores(40_000, seed=1)
    quality = pair_quality(log_duration(enroll), log_duration(test))
    fresh_quality = pair_quality(log_duration(fresh_enroll), log_duration(fresh_test))
    costs = {}
    for name, llrs in {
        "exact": exact,
        "plain": AffineCalibration().fit(scores, target).transform(fresh),
        "shifted": AffineCalibration(quality_scales=False).fit(scores, target, quality).transform(fresh, fresh_quality),
        "scaled": AffineCalibration().fit(scores, target, quality).transform(fresh, fresh_quality),
    }.items():
        costs[name] = ROC.from_scores(llrs[labels], llrs[~labels]).cllr()
    assert costs["exact"] < costs["scaled"] < costs["shifted"] + 1e-3
    assert costs["scaled"] - costs["exact"] < 0.25 * (costs["plain"] - costs["exact"])
    # On the shortest pairs alone: calibrated, where the plain calibration is overconfident.
    short = np.minimum(fresh_enroll, fresh_test) < 0.8
    plain = AffineCalibration().fit(scores, target).transform(fresh)
    scaled = AffineCalibration().fit(scores, target, quality).transform(fresh, fresh_quality)
    assert calibration_loss(scaled[short & labels], scaled[short & ~labels]) < 0.02
    assert calibration_loss(plain[short & labels], plain[short & ~labels]) > 0.08


def test_the_scale_never_falls_below_zero() -> None:
    calibration = AffineCalibration().fit(*gaussian_llrs(3.0, 200, 200), np.arange(400.0)[:, None])
    saved = calibration.to_dict() | {"quality_scale_weights": [5.0]}
    steep = AffineCalibration.from_dict(saved)
    low = steep.transform([1.0, 9.0], [[0.0], [0.0]])
    assert low[0] == low[1]


def test_a_saved_calibration_gives_the_same_llrs() -> None:
    scores, target, enroll, test, _ = durations_and_scores(2_000, seed=0)
    quality = pair_quality(enroll, test)
    calibration = AffineCalibration(0.05).fit(scores, target, quality)
    again = AffineCalibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    np.testing.assert_array_equal(again.transform(scores, quality), calibration.transform(scores, quality))
    assert again.to_dict() == calibration.to_dict()
    plain = AffineCalibration().fit(scores, target)
    np.testing.assert_array_equal(
        AffineCalibration.from_dict(json.loads(json.dumps(plain.to_dict()))).transform(scores), plain.transform(scores)
    )


def test_damaged_calibrations_are_refused() -> None:
    saved = AffineCalibration().fit(*gaussian_llrs(3.0, 20, 20)).to_dict()
    without = {key: value for key, value in saved.items() if key != "offset"}
    with pytest.raises(CheckpointError, match=r"not a saved calibration: missing or unknown offset.*calibrate"):
        AffineCalibration.from_dict(without)
    with pytest.raises(CheckpointError, match=r"a damaged calibration.*could not convert string"):
        AffineCalibration.from_dict(saved | {"scale": "x"})
    with pytest.raises(CheckpointError, match=r"quality_weights must be 0 finite numbers"):
        AffineCalibration.from_dict(saved | {"quality_weights": [1.0]})


def test_perfectly_parted_scores_give_finite_llrs_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    calibration = AffineCalibration().fit([2.0, 3.0, 0.0, 1.0], [1, 1, 0, 0])
    llrs = calibration.transform([2.0, 3.0, 0.0, 1.0])
    assert 3 < llrs[0] < llrs[1] < 100
    assert "all 2 target trials score above all 2 non-target trials" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], []), ManifestError, "no target trials: calibration learns from target and from non-target trials"),
        (([1.0, 2.0], [1, 1]), ManifestError, "no non-target trials: calibration learns from target and from"),
        (([1.0, math.nan], [1, 0]), ShapeError, "trial score 1 is nan: every score must be a finite number"),
        (([1.0, 2.0], [1, 2]), ShapeError, "label 1 is 2: give 1 for target and 0 for non-target trials"),
        (([1.0, 2.0], [1]), ShapeError, "there are 2 scores, but 1 labels: give one label a trial"),
        (([1.0, 1.0], [1, 0]), ShapeError, "all 2 scores are alike: nothing to calibrate"),
        (([0.0, 1.0, 1.0, 2.0], [1, 1, 0, 0]), ShapeError, "targets score lower than non-targets: give scores that"),
        (([1.0, 0.0], [1, 0], [[1.0]]), ShapeError, "quality has the shape [1, 1] and type float64, but there are 2"),
        (([1.0, 0.0], [1, 0], [[1.0], [math.inf]]), ShapeError, "quality measure 0 of trial 1 is inf: give finite"),
        (([1.0, 0.0], [1, 0], [[1.0], [2.0]], ["a", "b"]), ShapeError, "2 names for 1 quality measures"),
    ],
)
def test_unusable_trials_are_refused(arguments, error, message) -> None:
    with pytest.raises(error) as caught:
        AffineCalibration().fit(*arguments)
    assert str(caught.value).startswith(message)


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"p_target is 1.*give the share"):
        AffineCalibration(1)
    with pytest.raises(ConfigError, match=r"the calibration is not fitted.*call fit"):
        AffineCalibration().transform([0.0])
    with pytest.raises(ConfigError, match=r"the calibration is not fitted.*there is nothing to save"):
        AffineCalibration().to_dict()
    with pytest.raises(ShapeError, match=r"0 quality measures.*give those of fit, in its order \(q0\)"):
        AffineCalibration().fit(*gaussian_llrs(3.0, 20, 20), np.arange(40.0)[:, None]).transform([0.0])
    with pytest.raises(ShapeError, match=r"duration 1 is 0.*give seconds above 0"):
        log_duration([1.0, 0.0])
    with pytest.raises(ShapeError, match=r"1 enroll and 2 test .*give one for each"):
        pair_quality([1.0], [1.0, 2.0])


def test_pair_quality_does_not_depend_on_which_side_is_which() -> None:
    np.testing.assert_array_equal(pair_quality([1.0, 5.0], [3.0, 2.0]), [[1, 3], [2, 5]])
    np.testing.assert_array_equal(pair_quality([1.0, 5.0], [3.0, 2.0]), pair_quality([3.0, 2.0], [1.0, 5.0]))


def test_calibrated_llrs_lie_on_the_diagonal_and_overconfident_ones_do_not() -> None:
    llrs, target = gaussian_llrs(4.0, 50_000, 50_000)
    curve = reliability(ROC.from_scores(llrs[target], llrs[~target]), p_target=0.5, num_bins=8)
    assert len(curve.predicted) == 8
    assert np.abs(curve.predicted - curve.observed).max() < 0.01
    assert (curve.num_target + curve.num_nontarget).sum() == 100_000
    np.testing.assert_allclose(curve.num_target / (curve.num_target + curve.num_nontarget), curve.observed)
    bold = reliability(ROC.from_scores(3 * llrs[target], 3 * llrs[~target]), p_target=0.5, num_bins=8)
    assert np.abs(bold.predicted - bold.observed).max() > 0.1


def test_reliability_by_hand() -> None:
    # LLR 0 holds a quarter of the targets and three quarters of the non-targets, LLR log 3 the rest.
    curve = reliability(ROC.from_scores([0, math.log(3), math.log(3), math.log(3)], [0, 0, 0, math.log(3)]), 0.5, 2)
    np.testing.assert_allclose(curve.predicted, [0.5, 0.75])
    np.testing.assert_allclose(curve.observed, [0.25, 0.75])
    assert curve.num_target.tolist() == [1, 3]
    with pytest.raises(ConfigError, match=r"num_bins is 0"):
        reliability(ROC.from_scores([1], [0]), num_bins=0)


def test_ape_equals_counting_and_its_area_is_cllr() -> None:
    llrs, target = gaussian_llrs(4.0, 500, 800)
    llrs = 1.5 * llrs + 0.5
    curve = ROC.from_scores(llrs[target], llrs[~target])
    odds = np.linspace(-60, 60, 6001)
    ape = applied_probability_of_error(curve, odds)
    for at in range(2800, 3200, 40):
        p = 1 / (1 + math.exp(-odds[at]))
        wrong = p * np.mean(llrs[target] < -odds[at]) + (1 - p) * np.mean(llrs[~target] >= -odds[at])
        assert ape.actual[at] == pytest.approx(wrong)
        best = min(p * np.mean(llrs[target] < t) + (1 - p) * np.mean(llrs[~target] >= t) for t in curve.thresholds)
        assert ape.minimum[at] == pytest.approx(best)
        assert ape.default[at] == pytest.approx(min(p, 1 - p))
    # Brümmer and du Preez: Cllr is the area under the actual error, divided by 2 log 2.
    assert np.trapezoid(ape.actual, odds) / math.log(4) == pytest.approx(curve.cllr(), abs=2e-3)
    assert np.trapezoid(ape.minimum, odds) / math.log(4) == pytest.approx(curve.min_cllr(), abs=2e-3)
    assert np.trapezoid(ape.default, odds) / math.log(4) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ShapeError, match=r"prior log-odds must be a list of finite numbers"):
        applied_probability_of_error(curve, [math.nan])


def noisy_scores(num: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Scores of trials whose sides have an SNR and an embedding length: noise on the worse side lowers all scores,
    and the shorter embedding's lack of length scatters them."""
    rng = np.random.default_rng(seed)
    enroll_db, test_db = rng.uniform(0, 30, (2, num))
    lengths = np.exp(rng.uniform(-2, 1, (2, num)))
    target = rng.random(num) < 0.3
    worse_db = np.minimum(enroll_db, test_db)
    scatter = 0.03 * np.exp(-np.log(lengths).min(axis=0))
    scores = 0.3 * target + 0.02 * (worse_db - 15) + scatter * rng.normal(size=num)
    return scores, target, pair_quality(enroll_db, test_db), pair_quality(*np.log(lengths))


def test_snr_and_magnitude_lower_the_cllr_of_noisy_recordings() -> None:
    scores, target, snr, magnitude = noisy_scores(30_000, seed=0)
    fresh, labels, fresh_snr, fresh_magnitude = noisy_scores(30_000, seed=1)
    names = ["lower dB", "higher dB", "lower magnitude", "higher magnitude"]
    costs = {}
    for name, columns in {"none": [], "snr": [0, 1], "magnitude": [2, 3], "both": [0, 1, 2, 3]}.items():
        fitted = AffineCalibration().fit(
            scores, target, np.hstack([snr, magnitude])[:, columns], [names[at] for at in columns]
        )
        llrs = fitted.transform(fresh, np.hstack([fresh_snr, fresh_magnitude])[:, columns])
        costs[name] = ROC.from_scores(llrs[labels], llrs[~labels]).cllr()
        if name == "both":
            # what the noise took is given back: 0.02 of score a dB
            weight = fitted.quality_weights_[0] / fitted.quality_std_[0]
            assert -weight / fitted.scale_ == pytest.approx(0.02, rel=0.2)
            assert calibration_loss(llrs[labels], llrs[~labels]) < 0.02
    assert costs["both"] < costs["snr"] - 0.02 < costs["none"] - 0.25
    assert costs["magnitude"] < costs["none"] - 0.01


def test_magnitudes_are_logs_of_lengths() -> None:
    np.testing.assert_allclose(
        log_magnitude(np.array([[3, 4], [0, -1]], dtype=np.float32)), [math.log(5), 0], atol=1e-7
    )
    with pytest.raises(ShapeError, match=r"embedding row 1 has no length above 0.*leave it out"):
        log_magnitude([[3.0, 4.0], [0.0, 0.0]])
    with pytest.raises(ShapeError, match=r"embedding row 0 has no length above 0.*leave it out"):
        log_magnitude([[np.nan, 4.0]])

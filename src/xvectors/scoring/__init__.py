"""Scoring of embeddings: trials, cosine scores, error measures, calibration. In: arrays, trial lists. Out: arrays,
numbers. No torch."""

from xvectors.scoring.bootstrap import Comparison, Interval, ScoredTrials, compare_systems, speaker_intervals
from xvectors.scoring.calibration import AffineCalibration, log_duration, log_magnitude, pair_quality
from xvectors.scoring.cosine import all_pairs_scores, cosine_scores, length_normalise
from xvectors.scoring.curves import APE, Reliability, applied_probability_of_error, reliability
from xvectors.scoring.enrollment import Enrollment, read_enrollment
from xvectors.scoring.histogram import ScoreHistogram
from xvectors.scoring.identification import Identification, OpenSetRate, Posterior, identify, open_set_posterior
from xvectors.scoring.metrics import (
    actual_dcf,
    auc,
    calibration_loss,
    cllr,
    det_curve,
    eer,
    error_rates,
    min_cllr,
    min_dcf,
    rocch_eer,
    tpr_at_fpr,
)
from xvectors.scoring.naming import RecordingRows
from xvectors.scoring.operating import (
    EqualErrors,
    FARAtMost,
    LeastCost,
    OperatingPoint,
    count_error_speakers,
    operating_points,
    threshold_intervals,
)
from xvectors.scoring.roc import ROC, DETCurve, EERResult, MinDCF, bayes_threshold
from xvectors.scoring.sampling import sample_recordings, sample_trials
from xvectors.scoring.trial_lists import ResolvedTrials, TrialFindings, TrialList, read_trials, write_trials
from xvectors.scoring.trials import Trials, all_pairs, count_pairs
from xvectors.scoring.voices import TwoVoices, find_two_voices

__all__ = [
    "APE",
    "ROC",
    "AffineCalibration",
    "Comparison",
    "DETCurve",
    "EERResult",
    "Enrollment",
    "EqualErrors",
    "FARAtMost",
    "Identification",
    "Interval",
    "LeastCost",
    "MinDCF",
    "OpenSetRate",
    "OperatingPoint",
    "Posterior",
    "RecordingRows",
    "Reliability",
    "ResolvedTrials",
    "ScoreHistogram",
    "ScoredTrials",
    "TrialFindings",
    "TrialList",
    "Trials",
    "TwoVoices",
    "actual_dcf",
    "all_pairs",
    "all_pairs_scores",
    "applied_probability_of_error",
    "auc",
    "bayes_threshold",
    "calibration_loss",
    "cllr",
    "compare_systems",
    "cosine_scores",
    "count_error_speakers",
    "count_pairs",
    "det_curve",
    "eer",
    "error_rates",
    "find_two_voices",
    "identify",
    "length_normalise",
    "log_duration",
    "log_magnitude",
    "min_cllr",
    "min_dcf",
    "open_set_posterior",
    "operating_points",
    "pair_quality",
    "read_enrollment",
    "read_trials",
    "reliability",
    "rocch_eer",
    "sample_recordings",
    "sample_trials",
    "speaker_intervals",
    "threshold_intervals",
    "tpr_at_fpr",
    "write_trials",
]

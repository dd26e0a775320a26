"""Measures of verification, identification and diarization, from arrays to numbers with confidence intervals.

Costs follow the NIST SRE 2016 evaluation plan. No torch.
"""

from xvectors.metrics.bootstrap import Comparison, Interval, ScoredTrials, compare_systems, speaker_intervals
from xvectors.metrics.calibration_curves import APE, Reliability, applied_probability_of_error, reliability
from xvectors.metrics.detection_cost import bayes_threshold
from xvectors.metrics.diarization import (
    FAIR,
    FORGIVING,
    FULL,
    DiarizationErrors,
    RecordingInterval,
    Scoring,
    SpeakerTurns,
    der_interval,
    diarization_errors,
)
from xvectors.metrics.histogram import ScoreHistogram
from xvectors.metrics.identification import (
    IdentificationRates,
    OpenSetRate,
    Posterior,
    identification_rates,
    open_set_posterior,
)
from xvectors.metrics.operating_points import (
    EqualErrors,
    FARAtMost,
    LeastCost,
    OperatingPoint,
    count_error_speakers,
    operating_points,
    threshold_intervals,
)
from xvectors.metrics.roc import ROC, DETCurve, EERResult, MinDCF
from xvectors.metrics.verification import (
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

__all__ = [
    "APE",
    "FAIR",
    "FORGIVING",
    "FULL",
    "ROC",
    "Comparison",
    "DETCurve",
    "DiarizationErrors",
    "EERResult",
    "EqualErrors",
    "FARAtMost",
    "IdentificationRates",
    "Interval",
    "LeastCost",
    "MinDCF",
    "OpenSetRate",
    "OperatingPoint",
    "Posterior",
    "RecordingInterval",
    "Reliability",
    "ScoreHistogram",
    "ScoredTrials",
    "Scoring",
    "SpeakerTurns",
    "actual_dcf",
    "applied_probability_of_error",
    "auc",
    "bayes_threshold",
    "calibration_loss",
    "cllr",
    "compare_systems",
    "count_error_speakers",
    "der_interval",
    "det_curve",
    "diarization_errors",
    "eer",
    "error_rates",
    "identification_rates",
    "min_cllr",
    "min_dcf",
    "open_set_posterior",
    "operating_points",
    "reliability",
    "rocch_eer",
    "speaker_intervals",
    "threshold_intervals",
    "tpr_at_fpr",
]

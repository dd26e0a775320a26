"""The result of an evaluation: everything that goes into the report, metrics.json and scores.csv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import Manifest
from xvectors.evaluation.curves import Curves
from xvectors.evaluation.leakage import Leakage
from xvectors.evaluation.measures import Measure
from xvectors.evaluation.mistakes import Mistakes
from xvectors.evaluation.shift import ConditionShift
from xvectors.evaluation.slices import Slices
from xvectors.evaluation.speaker_map import SpeakerMap
from xvectors.evaluation.verdict import Verdict
from xvectors.metrics import EERResult, LeastCost, OperatingPoint
from xvectors.text import short_repr
from xvectors.trials import Trials

NOT_CALIBRATED = "the system is not calibrated, so its scores are cosines and not LLRs; run `xvectors calibrate`"


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The evaluation of a system on n recordings and m trials, which `measure_system` computes.

    Attributes
    ----------
    system : str
        The system as the user named it; `system_path` is its folder.
    system_sha256, calibration_sha256 : str
        Fingerprint of the system, and digest of its calibration (empty without one); both empty for embeddings of
        other networks.
    data : str
        The corpus as the user named it.
    report : Path
        The folder that the report is written to.
    command : str
        The command line that repeats this evaluation.
    started : str
        Start time, ISO 8601 with the offset from UTC.
    timings_s : mapping of str to float
        Seconds per step ("embedding", "scoring", "measuring", ...), in the order of the steps.
    versions, trained_with : mapping of str to str
        Versions of xvectors, torch, numpy and Python: now, and at training.
    recipe : mapping
        The tables of the system's recipe, as in system.toml; its seed is ``recipe["training"]["seed"]``.
    training : mapping
        Facts about the training: num_speakers, epoch (the kept one, None if unknown), and num_recordings and hours
        where they are known.
    history : tuple of mappings
        The rows of history.csv, one per epoch: epoch, train_loss, val_loss and so on. Empty without that file.
    backend : str
        Name of the back-end; `backend_settings` and `calibration_settings` are their tables in calibration.toml.
    manifest : Manifest
        The n recordings that were embedded.
    embeddings : float32 [n, D]
        As the network computes them.
    duration_s, snr_db : float64 [n]
        Embedded seconds and estimated signal-to-noise ratio; NaN where unknown.
    left_out : tuple of str
        The recordings that could not be used and the reason, one line each, including those that the training scan
        left out. `left_out_known` is False where it is not known which these are.
    trials : Trials
        m pairs of rows of the manifest, and the truth.
    trials_source : str
        "all pairs", the number that was sampled and the seed, or the file of the trial list.
    trial_findings : tuple of str
        Problems of the trial list, one line each.
    scores : float32 [m]
        Scores of the back-end.
    llrs : float64 [m] or None
        Natural-log likelihood ratios; None for a system without calibration.
    threshold : float
        The threshold in use, on the scale of `decision_scores`: accept scores >= threshold. `threshold_source` says
        in words where it comes from.
    equal_error : EERResult
        The plain EER and its threshold.
    measures : mapping of str to Measure
        By key: eer (plain), rocch_eer (convex hull), min_dcf, min_cllr, auc, far and frr (at `threshold`);
        for LLRs also actual_dcf, cllr and calibration_loss; tpr_at_fpr_0.01 and tpr_at_fpr_0.001 where the trials
        support them; rank_1 and rank_5 (see `measures.rank_measures`).
    cost : LeastCost
        Prior and costs of min_dcf and actual_dcf.
    operating_points : tuple of OperatingPoint
        Named thresholds, with intervals over speakers.
    curves : Curves
        DET curve, score densities, reliability and applied probability of error.
    slices : Slices
        Error rates of groups of trials.
    mistakes : Mistakes
        The errors at `threshold`: their numbers, the most confusable speakers, the worst trials.
    speaker_map : SpeakerMap or None
        The embeddings in two dimensions; None with fewer than 3 recordings whose embedding has a direction.
    leakage : Leakage
        Overlap of training and test, and doubtful labels.
    shift : ConditionShift or None
        How far the recordings are from the calibration set. None for a system that is not calibrated, and where
        `no_shift` says why a calibrated system lacks it.
    llr_bounds : (float, float) or None
        Least and greatest LLR of the calibration; None without bounds.
    verdict : Verdict
        The result in words.
    warnings : tuple of str
        What a reader must know before the numbers, one sentence each.
    """

    system: str
    system_path: Path
    system_sha256: str = ""
    calibration_sha256: str = ""
    data: str
    report: Path
    command: str
    started: str
    timings_s: Mapping[str, float]
    versions: Mapping[str, str]
    trained_with: Mapping[str, str]
    recipe: Mapping[str, Any]
    training: Mapping[str, Any]
    history: tuple[Mapping[str, float], ...] = ()
    backend: str
    backend_settings: Mapping[str, Any] = field(default_factory=dict)
    calibration_settings: Mapping[str, Any] = field(default_factory=dict)

    manifest: Manifest
    embeddings: NDArray[np.float32]
    duration_s: NDArray[np.float64]
    snr_db: NDArray[np.float64]
    left_out: tuple[str, ...] = ()
    left_out_known: bool = True

    trials: Trials
    trials_source: str
    trial_findings: tuple[str, ...] = ()
    scores: NDArray[np.float32]
    llrs: NDArray[np.float64] | None
    threshold: float
    threshold_source: str
    equal_error: EERResult
    measures: Mapping[str, Measure]
    cost: LeastCost
    operating_points: tuple[OperatingPoint, ...]
    curves: Curves
    slices: Slices
    mistakes: Mistakes
    speaker_map: SpeakerMap | None
    leakage: Leakage
    shift: ConditionShift | None = None
    no_shift: str = ""
    llr_bounds: tuple[float, float] | None = None
    verdict: Verdict
    warnings: tuple[str, ...] = ()

    @property
    def decision_scores(self) -> NDArray[Any]:
        """[m] the scores that decisions are made on: LLRs where there are any, else `scores`."""
        return self.scores if self.llrs is None else self.llrs

    @property
    def is_calibrated(self) -> bool:
        return self.llrs is not None

    @property
    def num_speakers(self) -> int:
        """Number of test speakers."""
        return len(self.manifest.speakers)

    @property
    def eer(self) -> float:
        """The equal error rate, from 0 to 1."""
        return self.equal_error.eer

"""Everything that one evaluation found out, as plain arrays and values. In: nothing; `evaluate` fills it. Out: what
metrics.json, scores.csv, the plots and the page are made from. It computes nothing and needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import Manifest
from xvectors.metrics import ROC, Interval, LeastCost, OperatingPoint
from xvectors.text import brief
from xvectors.trials import Trials
from xvectors.verification.label_check import TwoVoices


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One error measure. `unit` is "share" (0 to 1, to be shown as percent), "cost" or "bits".

    `interval` is over speakers, None where there were fewer than 5, or too few errors for the draws of speakers to
    differ, which `note` then says.
    """

    name: str
    value: float
    unit: str
    interval: Interval | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SharedRecording:
    """A test recording that was trained on: row `row` of the manifest is `train_path`, by "path" or by "content"."""

    row: int
    train_path: str
    by: str


@dataclass(frozen=True, kw_only=True)
class SuspectPair:
    """Recordings of two speakers that sound like one: rows `a` < `b` of the manifest, and their cosine."""

    a: int
    b: int
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """What makes error rates too good, or labels doubtful; `checked` is False where the training corpus is unknown."""

    checked: bool
    shared_speakers: tuple[str, ...] = ()
    """Names of test speakers that were trained on."""
    calibration_speakers: tuple[str, ...] = ()
    """Names of test speakers that calibration or back-end learned from."""
    shared_recordings: tuple[SharedRecording, ...] = ()
    suspect_pairs: tuple[SuspectPair, ...] = ()
    """The most alike pairs of two speakers, nearest first, that are nearer than 99 % of one speaker's pairs."""
    num_suspect_pairs: int = 0
    """All of them; `suspect_pairs` holds the first few."""
    num_compared: int = 0
    """Recordings that were compared, each with all others; of very many not all."""
    two_voices: tuple[TwoVoices, ...] = ()
    """Names of test speakers that two people seem to go by."""


@brief()
@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """An evaluation: n recordings, m trials.

    Attributes
    ----------
    system : the system as it was named, and `system_path` its folder
    data : the corpus as it was named
    report : the folder that everything is written to
    command : the command line that does this evaluation again
    started : when it began, ISO 8601 with the offset from UTC
    timings_s : seconds by step ("embedding", "scoring", "measuring", ...), in the order they ran
    versions : of xvectors, torch, numpy and python, now; `trained_with` those of the training
    recipe : the tables of the system's recipe, as in system.toml; its seed is recipe["training"]["seed"]
    training : facts about the training: num_speakers, epoch (the kept one), hours, where they are known
    backend : the back-end's name; `backend_table` and `calibration_table` are what calibration.toml says of both

    manifest : the n recordings that were embedded, row for row as `embeddings`
    embeddings : float32 [n, D], as the network gives them
    duration_s : float64 [n] seconds that were embedded, NaN unknown
    snr_db : float64 [n] estimated signal-to-noise ratio, NaN where it was not estimated
    left_out : recordings that could not be used, and why, a line each; those that training's scan left out among them
    left_out_known : whether it is known which recordings the scan left out

    trials : m pairs of rows of the manifest, and their truth
    trials_source : "all pairs", "5,000,000 of ... pairs, seed 0", or the file
    trial_findings : what was wrong with the list, a line each
    scores : float32 [m], of the back-end
    llrs : float64 [m] natural-log likelihood ratios, None for a system without calibration
    roc : of `llrs` where there are any, else of `scores`
    threshold : the one that decisions are made at, on the scale of `roc`: accept >= threshold
    threshold_source : in words, where it comes from
    operating_points : on the scale of `roc`, thresholds with intervals over speakers
    figures : by key: eer (the plain one), rocch_eer (on the convex hull), min_dcf, actual_dcf, cllr, min_cllr,
        calibration_loss, auc, far, frr (the last two at `threshold`); tpr_at_fpr_0.01, tpr_at_fpr_0.001 where the
        trials support them; rank_1, rank_5 (see `rank_figures`). actual_dcf, cllr and calibration_loss are there
        only for LLRs
    cost : prior and costs of min_dcf and actual_dcf
    """

    system: str
    system_path: Path
    data: str
    report: Path
    command: str
    started: str
    timings_s: Mapping[str, float]
    versions: Mapping[str, str]
    trained_with: Mapping[str, str]
    recipe: Mapping[str, Any]
    training: Mapping[str, Any]
    backend: str
    backend_table: Mapping[str, Any] = field(default_factory=dict)
    calibration_table: Mapping[str, Any] = field(default_factory=dict)

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
    roc: ROC
    threshold: float
    threshold_source: str
    operating_points: tuple[OperatingPoint, ...]
    figures: Mapping[str, Figure]
    cost: LeastCost
    leakage: Leakage
    warnings: tuple[str, ...] = ()
    """What a reader must know before the figures, a sentence each."""

    @property
    def decisive(self) -> NDArray[Any]:
        """[m] what decisions are made on: LLRs where there are any, else scores."""
        return self.scores if self.llrs is None else self.llrs

    def errors_at(self, threshold: float) -> tuple[int, int]:
        """How many target trials are rejected, and non-target trials accepted."""
        frr, far = self.roc.rates_at(threshold)
        return round(frr * self.roc.num_target), round(far * self.roc.num_nontarget)

    @property
    def is_calibrated(self) -> bool:
        return self.llrs is not None

"""A small evaluation of simulated speakers, for the tests of the evaluation and of the report."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import length_normalize
from xvectors.corpus import Manifest
from xvectors.evaluation import Evaluation
from xvectors.evaluation.curves import measure_curves
from xvectors.evaluation.leakage import Leakage
from xvectors.evaluation.measures import Measure
from xvectors.evaluation.mistakes import DecidedTrials, find_mistakes
from xvectors.evaluation.shift import EARLIER_VERSION, ConditionShift, by_degree, risk_coverage
from xvectors.evaluation.slice_dimensions import trial_dimensions
from xvectors.evaluation.slices import measure_slices
from xvectors.evaluation.speaker_map import map_speakers
from xvectors.evaluation.verdict import Commands, reach_verdict
from xvectors.metrics import ROC, Interval, LeastCost, operating_points
from xvectors.trials import all_pairs


def evaluation(
    *,
    speakers: int = 12,
    each: int = 6,
    calibrated: bool = True,
    known: bool = True,
    mapped: bool = False,
    names: tuple[str, ...] = (),
    root: Path = Path("/nowhere"),
    llrs: NDArray[np.float64] | None = None,
    threshold: float | None = None,
    **changed: Any,
) -> Evaluation:
    """`known`: whether gender, age, session and the columns `microphone` and `accent` are.

    `mapped`: whether the speaker map is computed, which takes longer than all else.
    `llrs` [trials] and `threshold` replace those of the simulated voices.
    """
    rng = np.random.default_rng(3)
    rows = []
    for s in range(speakers):
        for u in range(each):
            row = {"path": f"s{s:02d}/u{u}.wav", "speaker": names[s] if s < len(names) else f"s{s:02d}"}
            if known:
                row |= {
                    "gender": "fm"[s % 2],
                    "age": str(8 + 30 * (s // 2 % 2)),
                    "session": f"s{s}-{u // 3}",
                    "microphone": ("headset", "phone")[u % 2],
                    "accent": ("north", "south")[s // 3 % 2],
                }
            rows.append(row)
    manifest = Manifest.from_rows(rows, root=root)
    voices = rng.standard_normal((speakers, 16))
    embeddings = (np.repeat(voices, each, axis=0) + rng.standard_normal((speakers * each, 16))).astype(np.float32)
    trials = all_pairs(manifest.speaker_index)
    unit = length_normalize(embeddings)
    scores = (unit @ unit.T)[trials.enroll, trials.test].astype(np.float32)
    if calibrated and llrs is None:
        llrs = 8.0 * scores.astype(np.float64) - 3.0
    decisive = scores if llrs is None else llrs
    roc = ROC.from_scores(decisive[trials.target], decisive[~trials.target])
    eer = roc.eer()
    measures = {
        "eer": Measure(
            name="Equal error rate",
            value=eer.eer,
            unit="share",
            interval=Interval(value=eer.eer, low=0.0312, high=0.2346, confidence=0.95, num_speakers=speakers),
        )
    }
    if threshold is None:
        threshold = math.log(9.0) if calibrated else eer.threshold
    for key, name, rate in zip(
        ("frr", "far"), ("false rejections", "false acceptances"), roc.rates_at(threshold), strict=True
    ):
        ends = Interval(value=rate, low=rate / 2, high=2 * rate, confidence=0.95, num_speakers=speakers)
        measures[key] = Measure(name=name, value=rate, unit="share", interval=ends)
    if calibrated:
        measures["cllr"] = Measure(name="Cllr", value=roc.cllr(), unit="bits")
        measures["min_cllr"] = Measure(name="minCllr", value=roc.min_cllr(), unit="bits")
        lost = roc.calibration_loss()
        measures["calibration_loss"] = Measure(
            name="calibration loss",
            value=lost,
            unit="bits",
            interval=Interval(value=lost, low=0.0123, high=0.4567, confidence=0.95, num_speakers=speakers),
        )
    decided = DecidedTrials(
        trials=trials,
        scores=decisive,
        threshold=threshold,
        speakers=manifest.speakers,
        speaker_index=manifest.speaker_index,
    )
    cost = LeastCost(0.1)
    names_of_rows = [manifest.speakers[at] for at in manifest.speaker_index]
    duration_s = rng.uniform(0.5, 9.0, len(manifest))
    snr_db = rng.uniform(0.0, 40.0, len(manifest)) if known else np.full(len(manifest), math.nan)
    values: dict[str, Any] = {
        "system": "exp/xv",
        "system_path": Path("exp/xv"),
        "data": "corpus.csv",
        "report": Path("exp/xv/report"),
        "command": "xvectors evaluate exp/xv",
        "started": "2026-01-02T03:04:05+00:00",
        "timings_s": {"embedding": 12.5},
        "versions": {"xvectors": "0.1.0"},
        "trained_with": {},
        "recipe": {"training": {"seed": 77}},
        "training": {"num_speakers": 100, "hours": 1.8497513888888888},
        "backend": "cosine",
        "manifest": manifest,
        "embeddings": embeddings,
        "duration_s": duration_s,
        "snr_db": snr_db,
        "trials": trials,
        "trials_source": "all pairs",
        "scores": scores,
        "llrs": llrs,
        "threshold": threshold,
        "threshold_source": "the prior",
        "operating_points": tuple(operating_points(roc)),
        "measures": measures,
        "equal_error": eer,
        "cost": cost,
        "curves": measure_curves(
            roc, decisive, trials.target, threshold=threshold, cost=cost, are_llrs=llrs is not None
        ),
        "slices": measure_slices(
            trial_dimensions(manifest, duration_s, snr_db, trials),
            scores=decisive,
            target=trials.target,
            enroll_speaker=manifest.speaker_index[trials.enroll],
            test_speaker=manifest.speaker_index[trials.test],
            threshold=threshold,
            cost=None if llrs is None else cost,
            num_draws=100,
        ),
        "mistakes": find_mistakes(decided),
        "speaker_map": map_speakers(embeddings, names_of_rows, manifest.gender) if mapped else None,
        "leakage": Leakage(checked=True),
        "no_shift": EARLIER_VERSION if calibrated else "",
        "verdict": reach_verdict(
            decided,
            measures,
            is_calibrated=llrs is not None,
            commands=Commands.for_system(changed.get("system", "exp/xv")),
        ),
    }
    return Evaluation(**(values | changed))


def with_shift(measured: Evaluation) -> Evaluation:
    """The evaluation if the first half of its recordings had a shift of 0, and the others of 2, the last one of 9."""
    assert measured.llrs is not None
    num_recordings = len(measured.manifest)
    shift = np.where(np.arange(num_recordings) < num_recordings // 2, 0.0, 2.0)
    shift[-1] = 9.0
    return replace(
        measured,
        shift=ConditionShift(
            num_usual=num_recordings // 2,
            num_shifted=num_recordings - num_recordings // 2,
            num_untested=1,
            num_unknown=0,
            unusual=(("a high pitch, as of a raised voice", num_recordings - num_recordings // 2), ("<b>", 1)),
            degrees=by_degree(shift, measured.trials, measured.llrs),
            coverage=risk_coverage(ROC.from_trials(measured.llrs, measured.trials.target), (-3.0, 7.0)),
        ),
        no_shift="",
        llr_bounds=(-3.0, 7.0),
    )

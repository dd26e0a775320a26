"""A small evaluation of simulated speakers, for the tests of slices and page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from xvectors.backends import length_normalize
from xvectors.corpus import Manifest
from xvectors.evaluation.measured import Figure, Leakage, Measured
from xvectors.metrics import ROC, Interval, LeastCost, operating_points
from xvectors.trials import all_pairs


def evaluation(
    *,
    speakers: int = 12,
    each: int = 6,
    calibrated: bool = True,
    known: bool = True,
    names: tuple[str, ...] = (),
    root: Path = Path("/nowhere"),
    **changed: Any,
) -> Measured:
    """`known`: whether gender, age, session and the columns `microphone` and `accent` are."""
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
    llrs = 8.0 * scores.astype(np.float64) - 3.0 if calibrated else None
    decisive = scores if llrs is None else llrs
    roc = ROC.from_scores(decisive[trials.target], decisive[~trials.target])
    eer = roc.eer()
    figures = {
        "eer": Figure(
            name="Equal error rate",
            value=eer.eer,
            unit="share",
            interval=Interval(value=eer.eer, low=0.0312, high=0.2346, confidence=0.95, num_speakers=speakers),
        )
    }
    threshold = math.log(9.0) if calibrated else eer.threshold
    for key, name, rate in zip(
        ("frr", "far"), ("false rejections", "false acceptances"), roc.rates_at(threshold), strict=True
    ):
        ends = Interval(value=rate, low=rate / 2, high=2 * rate, confidence=0.95, num_speakers=speakers)
        figures[key] = Figure(name=name, value=rate, unit="share", interval=ends)
    if calibrated:
        figures["cllr"] = Figure(name="Cllr", value=roc.cllr(), unit="bits")
        figures["min_cllr"] = Figure(name="minCllr", value=roc.min_cllr(), unit="bits")
        lost = roc.calibration_loss()
        figures["calibration_loss"] = Figure(
            name="calibration loss",
            value=lost,
            unit="bits",
            interval=Interval(value=lost, low=0.0123, high=0.4567, confidence=0.95, num_speakers=speakers),
        )
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
        "duration_s": rng.uniform(0.5, 9.0, len(manifest)),
        "snr_db": rng.uniform(0.0, 40.0, len(manifest)) if known else np.full(len(manifest), math.nan),
        "trials": trials,
        "trials_source": "all pairs",
        "scores": scores,
        "llrs": llrs,
        "roc": roc,
        "threshold": threshold,
        "threshold_source": "the prior",
        "operating_points": tuple(operating_points(roc)),
        "figures": figures,
        "cost": LeastCost(0.1),
        "leakage": Leakage(checked=True),
    }
    return Measured(**(values | changed))

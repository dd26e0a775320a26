"""Evaluate embeddings that came from anywhere, and write the report. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from xvectors.evaluation.embeddings import DEFAULT_COST, LeastCost, measure_embeddings
from xvectors.evaluation.result import Evaluation
from xvectors.files import exclusive
from xvectors.report.writing import write_report


def evaluate_embeddings(
    embeddings: str | Path,
    labels: str | Path | None = None,
    *,
    system: str | Path | None = None,
    trials: str | Path | None = None,
    cost: LeastCost = DEFAULT_COST,
    out: str | Path | None = None,
    audio: bool = True,
) -> Evaluation:
    """Score pairs of embeddings, and write the report: index.html and the files that programs read.

    Parameters and errors are those of `measure_embeddings`; `audio` puts excerpts into the report, where the labels
    name recordings that are found.
    """
    evaluation = measure_embeddings(embeddings, labels, system=system, trials=trials, cost=cost, out=out)
    report = evaluation.report
    with exclusive(report / ".lock", of=str(report)):
        write_report(evaluation, audio=audio)
    return evaluation

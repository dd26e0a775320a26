"""Write the files of a report: index.html, metrics.json, scores.csv and scores.png."""

from __future__ import annotations

from xvectors.evaluation.measuring import save_scores
from xvectors.evaluation.result import Evaluation
from xvectors.report import style
from xvectors.report.outputs import write_metrics
from xvectors.report.page import write_page
from xvectors.report.pictures import densities_figure


def write_report(evaluation: Evaluation, *, audio: bool) -> None:
    """Write all files into the evaluation's folder, each atomically; `audio` is that of `write_page`."""
    report = evaluation.report
    write_page(evaluation, report / "index.html", audio=audio)
    write_metrics(report / "metrics.json", evaluation)
    save_scores(evaluation)
    style.save(densities_figure(evaluation), report / "scores.png")

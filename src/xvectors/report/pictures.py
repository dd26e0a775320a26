"""Draw the pictures of an evaluation for its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.shift import RiskCoverage
from xvectors.report import style
from xvectors.report.coverage_plot import coverage_figure, coverage_tips
from xvectors.report.error_plots import MarkedPoint, ape_figure, bin_tips, det_figure, reliability_figure, score_figure
from xvectors.report.formats import clean, score, shortened
from xvectors.report.inline_svg import inline_svg
from xvectors.report.speaker_maps import marker_groups, name_gid, number_speakers, speaker_figure
from xvectors.report.training_plots import training_figure
from xvectors.text import count


@dataclass(frozen=True)
class Picture:
    """An SVG element and the sentence below it."""

    svg: str
    caption: str


def draw_pictures(evaluation: Evaluation) -> dict[str, Picture | None]:
    """Draw error rates, scores, calibration and training; None where there is nothing to draw."""
    curves = evaluation.curves
    pictures: dict[str, Picture | None] = {"det": _det(evaluation), "scores": _scores(evaluation)}
    if curves.reliability is not None and curves.ape is not None:
        found = curves.reliability
        pictures["reliability"] = Picture(
            inline_svg(reliability_figure(found), "reliability", "Reliability", tips=bin_tips(found)),
            "Reliability: below the dotted line the system is too sure that two recordings are of one speaker, above "
            "it not sure enough.",
        )
        _, c_miss, c_fa = evaluation.cost.settings
        costs = "" if c_miss == c_fa == 1 else f", c_miss {c_miss:g}, c_fa {c_fa:g}"
        drawn = ape_figure(
            curves.ape, log_odds=curves.prior_log_odds, label=f"p_target {evaluation.cost.p_target:g}{costs}"
        )
        pictures["ape"] = Picture(
            inline_svg(drawn, "ape", "Applied probability of error"),
            "Applied probability of error: calibration loses the gap between the two curves.",
        )
    if evaluation.shift is not None:
        pictures["coverage"] = _coverage(evaluation.shift.coverage)
    pictures["training"] = _training(evaluation)
    return pictures


def _det(evaluation: Evaluation) -> Picture:
    points = [
        MarkedPoint(str(number), point.far, point.frr)
        for number, point in enumerate(evaluation.operating_points, start=1)
        if point.far is not None and point.frr is not None
    ]
    far = evaluation.mistakes.num_false_accepts / evaluation.trials.num_nontarget
    frr = evaluation.mistakes.num_misses / evaluation.trials.num_target
    points.append(MarkedPoint("D", far, frr, is_in_use=True))
    drawn = det_figure({"this system": evaluation.curves.det}, points)
    caption = "Detection error trade-off on normal-deviate axes: the farther to the lower left, the better."
    if not np.any((evaluation.curves.det.far > 0) & (evaluation.curves.det.frr > 0)):
        caption += " No threshold makes errors of both kinds on these trials, so that there is no curve to see."
    return Picture(inline_svg(drawn, "det", "Detection error trade-off"), caption)


def densities_figure(evaluation: Evaluation) -> Figure:
    """Return the densities of target and non-target scores with the threshold in use."""
    label = f"threshold {score(evaluation.threshold, evaluation.is_calibrated)}"
    scale = "LLR (natural log)" if evaluation.is_calibrated else f"score ({evaluation.backend})"
    return score_figure(evaluation.curves.densities, label, scale=clean(scale))


def _scores(evaluation: Evaluation) -> Picture:
    return Picture(
        inline_svg(densities_figure(evaluation), "scores", "Scores of target and non-target trials"),
        "Scores: trials to the right of the threshold are accepted.",
    )


def _coverage(found: RiskCoverage) -> Picture:
    caption = (
        "Answers and errors: the higher the probability that an answer needs, the fewer answers there are, and the "
        "fewer of them should be wrong. All trials, whatever their shift."
    )
    if not found.both_possible.all():
        last = 100 * found.probability[found.both_possible].max()
        caption += f" The curves end at {last:g} %: beyond, the bounds of the LLRs do not allow both answers."
    svg = inline_svg(coverage_figure(found), "coverage", "Answers and errors", tips=coverage_tips(found))
    return Picture(svg, caption)


def _training(evaluation: Evaluation) -> Picture | None:
    if not evaluation.history:
        return None
    drawn = training_figure(
        evaluation.history,
        num_speakers=evaluation.training.get("num_speakers"),
        kept_epoch=evaluation.training.get("epoch"),
    )
    caption = "Loss and accuracy by epoch, on the training data and on recordings kept apart for validation."
    return Picture(inline_svg(drawn, "curves", "Training curves"), caption)


def draw_maps(evaluation: Evaluation) -> dict[str, Any] | None:
    """Draw the embeddings by t-SNE and by principal components; None with nothing to map."""
    found = evaluation.speaker_map
    if found is None:
        return None
    names = [clean(found.speakers[speaker]) for speaker in found.speaker_index]
    ids = evaluation.manifest.id
    speakers, numbers = number_speakers(names)
    texts = {name_gid(number): shortened(name) for number, name in enumerate(speakers)}
    tips = {
        gid: [f"{names[at]}: {ids[int(found.rows[at])]}" for at in rows.tolist()]
        for gid, rows in marker_groups(numbers, found.gender.astype(np.int64)).items()
    }
    pictures = {}
    for key, title, points, caption in (
        ("tsne", "t-SNE", found.tsne, "neighbors are alike; distances between far groups mean nothing."),
        (
            "principal",
            "Principal components",
            found.principal,
            "the two directions in which the embeddings differ most; markers as in the other map.",
        ),
    ):
        drawn = speaker_figure(points, names, found.gender.tolist(), title=title, legend=key == "tsne")
        label = f"{title} of {count(len(found.speakers), 'speaker')}"
        pictures[key] = Picture(inline_svg(drawn, key, label, tips=tips, texts=texts), f"{title}: {caption}")
    return {
        **pictures,
        "is_large": len(found.speakers) > style.NUM_LOOKS,
        "num_looks": style.NUM_LOOKS,
    }

"""Picture of the answers that a system gives against those that are wrong, by the probability that an answer needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from xvectors.evaluation.shift import MIN_PROBABILITY, RiskCoverage
from xvectors.report import style
from xvectors.report.style import label_axes, legend_below, new_figure

LEAST_WIDTH = 0.02
"""Narrowest range of the share answered that is drawn."""


class _Curve(NamedTuple):
    gid: str
    label: str
    color: str
    probability: NDArray[np.float64]
    answered: NDArray[np.float64]
    wrong: NDArray[np.float64]


def coverage_figure(found: RiskCoverage) -> Figure:
    """Draw the share of answers that are wrong over the share of trials that get an answer.

    The curves end where the bounds of the LLRs do not allow both answers.
    """
    figure, (axes,) = new_figure(5.2, 3.9, legend_rows=2)
    handles: list[Artist] = []
    labels: list[str] = []
    leftmost, highest = 1.0, 0.01
    for curve in _curves(found):
        handles += axes.plot(
            curve.answered, curve.wrong, "o-", ms=4.5, lw=1.8, color=curve.color, mec=style.PAPER, mew=0.6,
            clip_on=False, gid=curve.gid,
        )  # fmt: skip
        labels.append(curve.label)
        in_use = curve.probability == MIN_PROBABILITY
        axes.plot(
            curve.answered[in_use], curve.wrong[in_use], "D", ms=7, mfc=curve.color, mec=style.INK, mew=1.2,
            clip_on=False, zorder=3,
        )  # fmt: skip
        leftmost = min(leftmost, float(curve.answered.min(initial=1.0)))
        highest = max(highest, float(curve.wrong.max(initial=0.0)))
    width = max(1.0 - leftmost, LEAST_WIDTH)
    axes.set(xlim=(max(0.0, 1.0 - 1.05 * width), 1.0 + 0.02 * width), ylim=(0, 1.15 * highest))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(style.percent_tick)
    label_axes(axes, "trials that get an answer", "answers that are wrong")
    handles.append(Line2D([], [], ls="", marker="D", ms=7, mfc=style.PAPER, mec=style.INK, mew=1.2))
    legend_below(figure, handles, [*labels, f"probability of {100 * MIN_PROBABILITY:g} %, as in use"], columns=2)
    return figure


def coverage_tips(found: RiskCoverage) -> dict[str, list[str]]:
    """Return the numbers behind each marker of `coverage_figure`, by the gid of the markers' line."""
    return {
        curve.gid: [
            f"probability of {100 * probability:g} %: {answered:.2%} answered, {wrong:.2%} of the answers wrong"
            for probability, answered, wrong in zip(curve.probability, curve.answered, curve.wrong, strict=True)
        ]
        for curve in _curves(found)
    }


def _curves(found: RiskCoverage) -> Iterator[_Curve]:
    """Yield the curves of both kinds of trials, where there are answers and both are possible."""
    for gid, label, color, answered, wrong in (
        ("coverage-one", "one speaker", style.TARGET, found.answered_target, found.wrong_target),
        ("coverage-two", "two speakers", style.NONTARGET, found.answered_nontarget, found.wrong_nontarget),
    ):
        some = np.isfinite(wrong) & found.both_possible
        yield _Curve(gid, label, color, found.probability[some], answered[some], wrong[some])

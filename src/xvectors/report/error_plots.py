"""Pictures of error rates: DET curves, densities of scores, reliability, and error rates over priors.

DET axes follow Martin et al. (Eurospeech 1997), the error rate over priors Brümmer and du Preez (Computer Speech and
Language 2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from xvectors.errors import ConfigError
from xvectors.evaluation.curves import APE, DET, Reliability, ScoreDensities, score_densities
from xvectors.report import style
from xvectors.report.style import drawable, label_axes, legend_below, new_figure
from xvectors.text import count

DET_TICKS = (0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
DET_ENDS = (0.6, 0.8, 0.95, 0.99)
"""Where the axes end: at the first that holds every marked point."""
MIN_RATE = 1e-5
MIN_IN_BIN = 10  # trials; the marker of a smaller bin is hollow


@dataclass(frozen=True)
class MarkedPoint:
    """A point on a DET plot; the threshold in use gets a marker of its own."""

    label: str
    far: float
    frr: float
    is_in_use: bool = False


def det_plot(curves: Mapping[str, DET], path: Path | str, *, title: str = "Detection error trade-off") -> Path:
    """Draw the DET curve of each system, its EER marked, and return `path`.

    Parameters
    ----------
    curves
        The curve by the system's name.
    path
        The file to write; its suffix, .png, .pdf or .svg, names the format.

    Raises
    ------
    ConfigError
        There is no curve, or the suffix is unknown.
    StorageError
        The file cannot be written.
    """
    return style.save(det_figure(curves, title=title), path)


def det_figure(curves: Mapping[str, DET], points: Sequence[MarkedPoint] = (), *, title: str = "") -> Figure:
    """Return the figure of `det_plot`, with the points marked if there are any, else the EERs.

    The axes begin where the trials cannot tell a rate from 0, at half an error.
    """
    if not curves:
        raise ConfigError("no curves to draw: give at least one system")
    systems = list(curves.values())
    lows = [
        float(np.clip(0.5 / max(numbers), MIN_RATE, 0.008))
        for numbers in ([one.num_nontarget for one in systems], [one.num_target for one in systems])
    ]
    rates = [rate for point in points for rate in (point.far, point.frr)] or [one.eer for one in systems]
    end = next((end for end in DET_ENDS if end >= max(rates)), DET_ENDS[-1])
    keys = len(systems) + 2 * bool(points)
    columns = 2 if points else 1
    figure, (axes,) = new_figure(5.2, 4.7, legend_rows=-(-keys // columns), top=0.4 if title else 0.15)
    axes.set(xlim=ndtri([lows[0], end]), ylim=ndtri([lows[1], end]))
    for axis, low in zip((axes.xaxis, axes.yaxis), lows, strict=True):
        ticks = [tick for tick in DET_TICKS if low <= tick <= end]
        axis.set_ticks(ndtri(ticks), labels=[f"{100 * tick:g}" for tick in ticks])
    axes.axline((0, 0), slope=1, color=style.MUTED, lw=0.9, ls=":", zorder=1)
    handles: list[Artist] = []
    labels = [f"{drawable(name)}: EER {one.eer:.2%}" for name, one in curves.items()]
    for number, one in enumerate(systems):
        x, y = (
            ndtri(np.clip(rate, low / 10, 1 - low / 10)) for rate, low in zip((one.far, one.frr), lows, strict=True)
        )
        color = style.TARGET if len(systems) == 1 else style.PALETTE[number % len(style.PALETTE)]
        line = style.LINE_STYLES[number % len(style.LINE_STYLES)]
        handles += axes.step(x, y, where="post", color=color, lw=1.8, ls=line)
        if not points:
            at = ndtri(np.clip(one.eer, 1e-9, 1 - 1e-9))
            axes.plot(at, at, "o", ms=6, color=color)
    if points:
        _mark(axes, points)
        handles += [_dot(style.POINT, "o"), _dot(style.INK, "D")]
        labels += ["operating points of the table", "D: the threshold in use"]
    label_axes(axes, "false acceptance rate, %", "false rejection rate, %")
    axes.set_title(title, loc="left", fontsize=style.TITLE, color=style.INK, parse_math=False)
    legend_below(figure, handles, labels, columns=columns)
    return figure


def _mark(axes: Axes, points: Sequence[MarkedPoint]) -> None:
    """Mark the points, those of rates of 0 and 1 on the edges.

    Points that nearly coincide share a label, above and to the right, where no curve passes.
    """
    placed: list[tuple[list[str], NDArray[np.float64]]] = []
    for point in points:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        place = np.clip(ndtri([point.far, point.frr]), [left, bottom], [right, top])
        color, marker = (style.INK, "D") if point.is_in_use else (style.POINT, "o")
        axes.plot(*place, marker, ms=6.5, mfc=color, mec=style.PAPER, mew=0.8, clip_on=False, zorder=3)
        pixels = axes.transData.transform(place)
        near = [labels for labels, other in placed if np.abs(other - pixels).max() < 14]
        if near:
            near[0].append(point.label)
        else:
            placed.append(([point.label], pixels))
    top_pixel = axes.transAxes.transform((1, 1))[1]
    for labels, pixels in placed:
        above = 4 if pixels[1] < top_pixel - 14 else -14  # below the edge, not cut off by it
        axes.annotate(
            ", ".join(labels), tuple(axes.transData.inverted().transform(pixels)), xytext=(5, above),
            textcoords="offset points", fontsize=style.FONT, fontweight="bold", color=style.INK,
        )  # fmt: skip


def score_histogram(
    target_scores: ArrayLike,
    nontarget_scores: ArrayLike,
    threshold: float,
    eer: float,
    path: Path | str,
    *,
    scale: str = "score",
) -> Path:
    """Draw the densities of target and non-target scores, and the threshold of the equal error rate.

    Parameters
    ----------
    target_scores, nontarget_scores
        Finite scores, ``[targets]`` and ``[non-targets]``.
    threshold
        Where the line stands.
    eer
        The equal error rate, from 0 to 1.
    path
        The file to write; its suffix, .png, .pdf or .svg, names the format.
    scale
        What the scores are.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        There are no scores of a kind, they are not one-dimensional, or they or the threshold are not finite.
    ConfigError
        The suffix is unknown.
    StorageError
        The file cannot be written; an earlier one is intact.
    """
    found = score_densities(target_scores, nontarget_scores, threshold)
    return style.save(score_figure(found, f"EER {eer:.2%} at {threshold:.3g}", scale=scale), path)


def score_figure(found: ScoreDensities, label: str, *, scale: str = "score") -> Figure:
    """Return the figure of `score_histogram`, with `label` at the threshold's key."""
    figure, (axes,) = new_figure(5.2, 3.9, legend_rows=2)
    handles: list[Artist] = []
    labels: list[str] = []
    for name, density, number, color in (
        ("target", found.target, found.num_target, style.TARGET),
        ("non-target", found.nontarget, found.num_nontarget, style.NONTARGET),
    ):
        axes.stairs(density, found.edges, fill=True, color=color, alpha=0.25)
        axes.stairs(density, found.edges, color=color, lw=1.6)
        handles.append(Patch(facecolor=color, alpha=0.6))
        labels.append(count(number, f"{name} trial"))
    handles.append(axes.axvline(found.threshold, color=style.INK, lw=1.4, ls=(0, (4, 3))))
    labels.append(label)
    axes.set_xlim(found.edges[0], found.edges[-1])
    axes.set_ylim(bottom=0)
    label_axes(axes, scale, "density")
    legend_below(figure, handles, labels, columns=2)
    return figure


def bin_tips(found: Reliability) -> dict[str, list[str]]:
    """Return the numbers of trials behind each marker of `reliability_figure`, by the gid of the markers' line."""
    numbers = list(zip(found.num_target.tolist(), found.num_nontarget.tolist(), strict=True))
    return {
        gid: [
            f"{count(a, 'target trial')}, {count(b, 'non-target trial')}"
            for a, b in numbers
            if (a + b < MIN_IN_BIN) == small
        ]
        for gid, small in (("full-bins", False), ("small-bins", True))
    }


def reliability_figure(found: Reliability) -> Figure:
    """Draw how often a stated probability is right, at equal priors."""
    figure, (axes,) = new_figure(5.2, 3.9, legend_rows=2)
    diagonal = axes.axline((0, 0), slope=1, color=style.MUTED, lw=1, ls=":")
    (line,) = axes.plot(found.predicted, found.observed, color=style.TARGET, lw=1.8)
    hollow = found.num_target + found.num_nontarget < MIN_IN_BIN
    for gid, chosen, fill in (("full-bins", ~hollow, style.TARGET), ("small-bins", hollow, style.PAPER)):
        axes.plot(
            found.predicted[chosen], found.observed[chosen], "o", ms=6, mfc=fill, mec=style.TARGET, mew=1.2,
            clip_on=False, gid=gid,
        )  # fmt: skip
    for axis, limits in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        axis.set_major_formatter(style.percent_tick)
        limits(-0.02, 1.02)
    label_axes(axes, "stated probability of one speaker", "observed share")
    legend_below(
        figure,
        [line, _dot(style.PAPER, "o", edge=style.TARGET), diagonal],
        ["a tenth of the trials each, at equal priors", f"fewer than {MIN_IN_BIN} trials", "perfectly calibrated"],
        columns=2,
    )
    return figure


def ape_figure(found: APE, *, log_odds: float, label: str) -> Figure:
    """Draw the error rate of Bayes decisions over priors; `label` names the prior at `log_odds`."""
    figure, (axes,) = new_figure(5.2, 3.9, legend_rows=2)
    (actual,) = axes.plot(found.log_odds, found.actual, color=style.TARGET, lw=1.8)
    (best,) = axes.plot(found.log_odds, found.minimum, color=style.NONTARGET, lw=1.8, ls=(0, (5, 2)))
    (default,) = axes.plot(found.log_odds, found.default, color=style.MUTED, lw=1, ls=":")
    prior = axes.axvline(log_odds, color=style.INK, lw=1.2, ls=(0, (4, 3)))
    axes.set_xlim(found.log_odds[0], found.log_odds[-1])
    axes.set_ylim(0, 1.15 * max(float(found.actual.max()), float(found.minimum.max()), 1e-3))
    axes.yaxis.set_major_formatter(style.percent_tick)
    label_axes(axes, "prior log-odds of a target trial (natural log)", "error rate")
    legend_below(
        figure,
        [actual, best, default, prior],
        ["with these LLRs (area: Cllr)", "at the best threshold (area: minCllr)", "without a system", label],
        columns=2,
    )
    return figure


def _dot(color: str, marker: str, edge: str = style.PAPER) -> Line2D:
    return Line2D([], [], ls="", marker=marker, ms=6.5, mfc=color, mec=edge)

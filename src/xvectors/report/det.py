"""Draw the detection error trade-off of several systems on normal-deviate axes (Martin et al., Eurospeech 1997)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from xvectors.errors import ConfigError
from xvectors.evaluation.curves import DET
from xvectors.files import atomic_write
from xvectors.report import colors
from xvectors.report.colors import FONT, SMALL, TITLE, new_figure, outside_legend

DPI = 150
TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
STYLES = ("-", "--", "-.", ":")
"""Beside the colors, so that curves are told apart in print too."""


def det_plot(curves: Mapping[str, DET], path: Path | str, *, title: str = "Detection error trade-off") -> Path:
    """Draw the DET curves, the EER of each marked, and return `path`.

    Raises ConfigError without curves or for a suffix other than .png, .pdf and .svg, StorageError where the file cannot
    be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{path}: plots are written as .png, .pdf or .svg; end the name with one of these")
    figure = det_figure(curves, title=title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path


def det_figure(curves: Mapping[str, DET], *, title: str = "Detection error trade-off") -> Figure:
    """The figure of `det_plot`. The axes reach as low as the trials can tell: half an error."""
    if not curves:
        raise ConfigError("no curves to draw: give at least one system")
    figure, (axes,) = new_figure(6.4, 6.4 + 0.25 * len(curves))
    least_far = min(0.5 / det.num_nontarget for det in curves.values())
    least_frr = min(0.5 / det.num_target for det in curves.values())
    low_far, low_frr = (float(np.clip(least, TICKS[0] / 2, 0.01)) for least in (least_far, least_frr))
    handles, labels = [], []
    for number, (name, det) in enumerate(curves.items()):
        x = ndtri(np.clip(det.far, low_far / 10, 1 - low_far / 10))
        y = ndtri(np.clip(det.frr, low_frr / 10, 1 - low_frr / 10))
        color = colors.SPEAKERS[number % len(colors.SPEAKERS)]
        (line,) = axes.step(x, y, where="post", color=color, lw=1.8, ls=STYLES[number % len(STYLES)])
        at = ndtri(np.clip(det.eer, 1e-9, 1 - 1e-9))
        axes.plot(at, at, "o", ms=6, color=color)
        handles.append(line)
        labels.append(f"{name}: EER {det.eer:.2%}")
    high = 0.6 if max(det.eer for det in curves.values()) < 0.5 else 0.95
    for axis, low, limits in ((axes.xaxis, low_far, axes.set_xlim), (axes.yaxis, low_frr, axes.set_ylim)):
        ticks = [tick for tick in TICKS if low <= tick <= high]
        axis.set_ticks(ndtri(ticks), labels=[f"{100 * tick:g}" for tick in ticks])
        limits(ndtri(low), ndtri(high))
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel("false acceptances, %", fontsize=FONT, color=colors.INK)
    axes.set_ylabel("false rejections, %", fontsize=FONT, color=colors.INK)
    axes.set_title(title, loc="left", fontsize=TITLE, color=colors.INK)
    outside_legend(figure, handles, labels, "outside lower left")
    return figure

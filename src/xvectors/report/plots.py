"""The report's plots. In: a training history, embeddings, scores. Out: PNG, PDF or SVG, by the name's suffix.
For each plot one function builds a Figure and one writes it. Neither pyplot nor rcParams is touched."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.evaluation.curves import ScoreDensities
from xvectors.files import atomic_write
from xvectors.report import colors
from xvectors.report.colors import FONT, SMALL, TITLE, dot, drawable, new_figure, outside_legend, short, write_names
from xvectors.text import count

DPI = 150
MAX_TITLE = 72  # characters a line

History = Sequence[Mapping[str, float | str | None]]


def training_curves(
    history: History, path: Path | str, *, num_speakers: int | None = None, kept_epoch: int | None = None
) -> Path:
    """Draw loss and accuracy (and val_eer, where there is one) by epoch.

    Args:
        history: a row an epoch with `epoch`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy` and
            perhaps `val_eer`; accuracies and EER from 0 to 1. Values that are absent, None, empty or not
            finite are skipped.
        path: the file to write; its suffix, .png, .pdf or .svg, names the format.
        num_speakers: classes of the training; draws the chance level.
        kept_epoch: the epoch whose weights were kept; it is marked.

    Returns:
        path.

    Raises:
        CheckpointError: no rows, a row without an epoch, something that is no number.
        ConfigError: an unknown suffix.
        StorageError: the file cannot be written; what stood there is intact.
    """
    return _write(training_figure(history, num_speakers=num_speakers, kept_epoch=kept_epoch), path)


def training_figure(history: History, *, num_speakers: int | None = None, kept_epoch: int | None = None) -> Figure:
    """The figure of `training_curves`."""
    if not history:
        raise CheckpointError("the training history is empty: train for at least one epoch")
    epochs = _column(history, "epoch")
    if np.isnan(epochs).any():
        raise CheckpointError(f"row {int(np.isnan(epochs).argmax())} of the training history has no epoch")
    kept = None if kept_epoch is None else next(iter(np.flatnonzero(epochs == kept_epoch).tolist()), None)

    panels = [("Loss", "loss"), ("Accuracy", "accuracy")]
    if np.isfinite(_column(history, "val_eer")).any():
        panels.append(("Equal error rate", "eer"))
    figure, axes_row = new_figure(5.2 * len(panels), 4.2, columns=len(panels))
    ends_of: list[list[_End]] = []
    for axes, (title, metric) in zip(axes_row, panels, strict=True):
        ends: list[_End] = []
        for side, name, color in (
            ("train", "train", colors.TRAIN),
            ("val", "held-out speakers" if metric == "eer" else "validation", colors.VALIDATION),
        ):
            values = _column(history, f"{side}_{metric}")
            there = np.isfinite(values)
            if there.any():
                marker = "o" if there.sum() <= 30 else ""
                axes.plot(epochs[there], values[there], color=color, lw=1.8, marker=marker, ms=4, label=name)
                ends.append(_End(f"{name} {_value(metric, values[there][-1])}", values[there][-1], color))
        if metric == "accuracy" and num_speakers:
            axes.axhline(1 / num_speakers, color=colors.MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
            ends.append(_End(f"chance {_value(metric, 1 / num_speakers)}", 1 / num_speakers, colors.MUTED))
        if kept is not None:
            axes.axvline(epochs[kept], color=colors.MUTED, lw=1, ls=":", zorder=1)
            value = _column(history, f"val_{metric}")[kept]
            if np.isfinite(value):
                note = f"kept epoch {epochs[kept]:g}: {_value(metric, value)}"
                axes.plot(epochs[kept], value, "o", ms=10, mfc="none", mec=colors.VALIDATION, mew=1.6)
                axes.set_title(note, loc="right", fontsize=SMALL, color=colors.VALIDATION)
        axes.set_title(title, loc="left", fontsize=TITLE, color=colors.INK)
        axes.set_xlabel("epoch", fontsize=FONT, color=colors.INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        margin = max(0.5, 0.03 * float(np.ptp(epochs)))
        axes.set_xlim(float(epochs.min()) - margin, float(epochs.max()) + margin)
        if metric != "loss":
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        ends_of.append(ends)
    figure.draw_without_rendering()
    for axes, ends in zip(axes_row, ends_of, strict=True):
        _label_ends(axes, float(epochs.max()), ends)
    return figure


def speaker_map(
    points: ArrayLike,
    speakers: Sequence[object],
    genders: Sequence[int],
    path: Path | str,
    *,
    title: str = "Speakers",
) -> Path:
    """Draw points of the plane: a color a speaker, a marker a gender.

    Up to 20 speakers stand in a legend. With more, whose colors repeat at a distance, names are written by
    the middle of each speaker's points: as many as fit, those of more points first; a note says how many.

    Args:
        points: [n, 2], such as from `tsne`.
        speakers: [n] names, or numbers.
        genders: [n] 0 male, 1 female, -1 unknown.
        path: the file to write; its suffix, .png, .pdf or .svg, names the format.

    Returns:
        path.

    Raises:
        ShapeError: no points, not finite, not [n, 2], or lengths that differ; an unknown gender code.
        ConfigError: an unknown suffix.
        StorageError: the file cannot be written; what stood there is intact.
    """
    return _write(speaker_figure(points, speakers, genders, title=title), path)


def speaker_figure(
    points: ArrayLike, speakers: Sequence[object], genders: Sequence[int], *, title: str = "Speakers"
) -> Figure:
    """The figure of `speaker_map`."""
    xy, gender = np.asarray(points, dtype=np.float64), np.asarray(genders)
    _check_map(xy, speakers, gender)
    name_of = [str(name) for name in speakers]
    names = sorted(set(name_of), key=_natural)
    place = {name: index for index, name in enumerate(names)}
    speaker = np.array([place[name] for name in name_of])
    centers = np.array([np.median(xy[speaker == index], axis=0) for index in range(len(names))])
    palette = np.array(colors.SPEAKERS)[colors.speaker_colors(centers)]

    figure, (axes,) = new_figure(10.0, 8.0)
    size = float(np.clip(400 / math.sqrt(len(xy)), 12, 60))
    for code, (label, marker) in reversed(colors.GENDERS.items()):
        rows = gender == code
        if rows.any():
            axes.scatter(
                xy[rows, 0],
                xy[rows, 1],
                s=size,
                c=palette[speaker[rows]],
                marker=marker,
                alpha=0.85,
                linewidths=0.3,
                edgecolors="white",
                label=label,
            )
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.04)
    axes.grid(False)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.spines[["top", "right"]].set_visible(True)

    heading = textwrap.fill(drawable(title), MAX_TITLE)
    axes.set_title(heading, loc="left", fontsize=TITLE, color=colors.INK, parse_math=False)

    present = [code for code in colors.GENDERS if (gender == code).any()]
    handles = [dot(colors.MUTED, colors.GENDERS[code][1]) for code in present]
    labels = [f"{colors.GENDERS[code][0]}: {count(len(set(speaker[gender == code])), 'speaker')}" for code in present]
    if len(names) <= len(colors.SPEAKERS):
        handles.append(dot("none", ""))
        labels.append("")
        for index, name in enumerate(names):
            code = Counter(gender[speaker == index].tolist()).most_common(1)[0][0]
            handles.append(dot(palette[index], colors.GENDERS[code][1]))
            labels.append(short(name))
        outside_legend(figure, handles, labels, "outside right upper")
        return figure
    outside_legend(figure, handles, labels, "outside lower left", columns=len(present))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    written = write_names(figure, axes, names, xy, speaker, centers, [colors.darker(color) for color in palette])
    if written < len(names):
        note = f"names of {written} of {len(names)} speakers fit"
        axes.set_title(note, loc="right", fontsize=SMALL, color=colors.MUTED)
    return figure


def score_histogram(densities: ScoreDensities, eer: float, path: Path | str, *, scale: str = "score") -> Path:
    """Draw the densities of target and non-target scores, the threshold, and the equal error rate, a share.

    Args:
        path: the file to write; its suffix, .png, .pdf or .svg, names the format.
        scale: what the scores are.

    Returns:
        path.

    Raises:
        ConfigError: an unknown suffix.
        StorageError: the file cannot be written; what stood there is intact.
    """
    return _write(score_figure(densities, eer, scale=scale), path)


def score_figure(densities: ScoreDensities, eer: float, *, scale: str = "score") -> Figure:
    """The figure of `score_histogram`."""
    figure, (axes,) = new_figure(8.0, 4.8)
    handles: list[Artist] = []
    labels: list[str] = []
    for name, density, number, color in (
        ("target", densities.target, densities.num_target, colors.TARGET),
        ("non-target", densities.nontarget, densities.num_nontarget, colors.NONTARGET),
    ):
        axes.stairs(density, densities.edges, fill=True, color=color, alpha=0.25)
        axes.stairs(density, densities.edges, color=color, lw=1.6)
        handles.append(Patch(facecolor=color, alpha=0.6))
        labels.append(f"{name}: {count(number, 'trial')}")
    handles.append(axes.axvline(densities.threshold, color=colors.INK, lw=1.4, ls=(0, (4, 3))))
    labels.append(f"threshold {densities.threshold:.3g} (EER {eer:.2%})")
    axes.set_xlim(densities.edges[0], densities.edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(scale, fontsize=FONT, color=colors.INK)
    axes.set_ylabel("density", fontsize=FONT, color=colors.INK)
    outside_legend(figure, handles, labels, "outside upper left", columns=3)
    return figure


@dataclass(frozen=True)
class _End:
    """A curve's name, written right of its last value."""

    text: str
    y: float
    color: str


def _label_ends(axes: Axes, x: float, ends: list[_End]) -> None:
    """Write the names right of the panel at their heights, moved apart where they would overlap.

    The figure must have been laid out: heights are taken from the panel's place on it.
    """
    ends = sorted(ends, key=lambda end: end.y)
    points_a_pixel = 72 / axes.figure.dpi
    wanted = [float(axes.transData.transform((x, end.y))[1]) * points_a_pixel for end in ends]
    placed: list[float] = []
    for height in wanted:
        placed.append(max(height, placed[-1] + 1.3 * SMALL) if placed else height)
    back = (sum(placed) - sum(wanted)) / max(1, len(ends))
    for end, height, place in zip(ends, wanted, placed, strict=True):
        axes.annotate(
            end.text,
            (1.0, end.y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, place - back - height),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=end.color,
            annotation_clip=False,
        )


def _column(history: History, key: str) -> NDArray[np.float64]:
    """A column as numbers [epochs]; NaN where the value is absent or not finite."""
    numbers = np.full(len(history), np.nan)
    for row, values in enumerate(history):
        value = values.get(key)
        if value is None or value == "":
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"row {row} of the training history: {key} is {value!r}, no number") from error
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _value(metric: str, value: float) -> str:
    return f"{value:.3f}" if metric == "loss" else f"{value:.2%}"


def _check_map(points: NDArray[np.float64], speakers: Sequence[object], genders: NDArray[np.int64]) -> None:
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ShapeError(f"points have the shape {list(points.shape)}: give [n, 2], at least one point")
    if not len(points) == len(speakers) == len(genders):
        raise ShapeError(f"{len(points)} points, {len(speakers)} speakers and {len(genders)} genders: give one each")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ShapeError(f"point {row} is not finite: leave it out")
    strange = ~np.isin(genders, list(colors.GENDERS))
    if strange.any():
        row = int(strange.argmax())
        raise ShapeError(f"gender {row} is {genders[row]}: give 0 (male), 1 (female) or -1 (unknown)")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts s2 before s10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _write(figure: Figure, path: Path | str) -> Path:
    path = Path(path)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{path}: plots are written as .png, .pdf or .svg; end the name with one of these")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path

"""Pictures of a training: loss, accuracy and the held-out speakers' equal error rate by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from xvectors.errors import CheckpointError
from xvectors.report import style
from xvectors.report.style import SMALL, label_axes, new_figure

MAX_MARKED = 30  # epochs whose values get a marker
PANEL, LEFT, RIGHT = 4.0, 0.6, 1.3  # inches: a panel and its margins

History = Sequence[Mapping[str, float | str | None]]


def training_curves(
    history: History, path: Path | str, *, num_speakers: int | None = None, kept_epoch: int | None = None
) -> Path:
    """Draw loss, accuracy and, where there is one, `val_eer` by epoch.

    Parameters
    ----------
    history
        A row for each epoch with `epoch`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy` and perhaps
        `val_eer`; accuracies and EER from 0 to 1. Values that are missing, None, empty or not finite are skipped.
    path
        The file to write; its suffix, .png, .pdf or .svg, names the format.
    num_speakers
        Classes of the training; draws the chance level.
    kept_epoch
        The epoch whose weights were kept; it is marked.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    CheckpointError
        There are no rows, a row has no epoch, or a value is not a number.
    ConfigError
        The suffix is unknown.
    StorageError
        The file cannot be written; an earlier one is intact.
    """
    return style.save(training_figure(history, num_speakers=num_speakers, kept_epoch=kept_epoch), path)


def training_figure(history: History, *, num_speakers: int | None = None, kept_epoch: int | None = None) -> Figure:
    """Return the figure of `training_curves`."""
    if not history:
        raise CheckpointError("the training history is empty: train for at least one epoch")
    epochs = _column(history, "epoch")
    if np.isnan(epochs).any():
        raise CheckpointError(f"row {int(np.isnan(epochs).argmax())} of the training history has no epoch")
    kept = None if kept_epoch is None else next(iter(np.flatnonzero(epochs == kept_epoch).tolist()), None)

    panels = [("Loss", "loss"), ("Accuracy", "accuracy")]
    if np.isfinite(_column(history, "val_eer")).any():
        panels.append(("EER", "eer"))
    figure, row = new_figure(PANEL * len(panels), 3.2, columns=len(panels), left=LEFT, right=RIGHT, top=0.4)
    for axes, (title, metric) in zip(row, panels, strict=True):
        ends: list[_End] = []
        for side, name, color in (
            ("train", "train", style.MUTED),
            ("val", "held-out" if metric == "eer" else "validation", style.TARGET),
        ):
            values = _column(history, f"{side}_{metric}")
            there = np.isfinite(values)
            if there.any():
                marker = "o" if there.sum() <= MAX_MARKED else ""
                axes.plot(epochs[there], values[there], color=color, lw=1.8, marker=marker, ms=4, label=name)
                ends.append(_End(f"{name} {_value(metric, values[there][-1])}", values[there][-1], color))
        if metric == "accuracy" and num_speakers:
            axes.axhline(1 / num_speakers, color=style.MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
            ends.append(_End(f"chance {_value(metric, 1 / num_speakers)}", 1 / num_speakers, style.MUTED))
        if kept is not None:
            axes.axvline(epochs[kept], color=style.MUTED, lw=1, ls=":", zorder=1)
            value = _column(history, f"val_{metric}")[kept]
            if np.isfinite(value):
                note = f"kept epoch {epochs[kept]:g}: {_value(metric, value)}"
                axes.plot(epochs[kept], value, "o", ms=10, mfc="none", mec=style.TARGET, mew=1.6)
                axes.set_title(
                    note,
                    loc="right",
                    fontsize=SMALL,
                    color=style.TARGET,
                    x=(PANEL - LEFT) / (PANEL - LEFT - RIGHT) - 0.05,
                )
        axes.set_title(title, loc="left", fontsize=style.TITLE, color=style.INK)
        label_axes(axes, "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        margin = max(0.5, 0.03 * float(np.ptp(epochs)))
        axes.set_xlim(float(epochs.min()) - margin, float(epochs.max()) + margin)
        if metric != "loss":
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(style.percent_tick)
        _label_ends(axes, float(epochs.max()), ends)
    return figure


@dataclass(frozen=True)
class _End:
    """The label to the right of a curve's last value."""

    text: str
    y: float
    color: str


def _label_ends(axes: Axes, x: float, ends: list[_End]) -> None:
    """Write the labels to the right of the panel at their heights, moved apart where they would overlap."""
    ends = sorted(ends, key=lambda end: end.y)
    wanted = [float(axes.transData.transform((x, end.y))[1]) for end in ends]
    placed: list[float] = []
    for height in wanted:
        placed.append(max(height, placed[-1] + 1.3 * SMALL) if placed else height)
    back = (sum(placed) - sum(wanted)) / max(1, len(ends))
    for end, height, place in zip(ends, wanted, placed, strict=True):
        axes.annotate(
            end.text, (1.0, end.y), xycoords=axes.get_yaxis_transform(), xytext=(4, place - back - height),
            textcoords="offset points", va="center", fontsize=SMALL, color=end.color, annotation_clip=False,
        )  # fmt: skip


def _column(history: History, key: str) -> NDArray[np.float64]:
    """Return a column as numbers ``[epochs]``, NaN where the value is missing or not finite."""
    numbers = np.full(len(history), np.nan)
    for row, values in enumerate(history):
        value = values.get(key)
        if value is None or value == "":
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"row {row} of the training history: {key} is {value!r}, not a number") from error
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _value(metric: str, value: float) -> str:
    return f"{value:.3f}" if metric == "loss" else f"{value:.2%}"

"""The look of the report's plots. In: sizes, labels, where speakers stand. Out: colors, frames, legends.

The speakers' colors were searched for offline, for white and for dark paper alone: of all colors in steps of 15 of
255 whose contrast to the paper is at least 3 (WCAG 2.1, 1.4.11; on white at most 13, which leaves out near-blacks),
twenty whose least distance in CIELAB is greatest, distances under protanopia and deuteranopia (Machado et al., 2009)
weighing 2.2 times those of normal vision. Farthest-point choices from many beginnings, then the nearest pair broken up
as long as that helped. The least distances are 33, 16 and 15 on white (normal, protanopic, deuteranopic vision) and 37,
17 and 17 on dark paper; contrasts 3.0 and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from xvectors.report.labels import Box, free_place, moved
from xvectors.report.markup import shortened

FONT, SMALL, TITLE = 10, 9, 12  # points

INK = "#222222"
MUTED = "#6b6b6b"
GRID = "#e4e4e4"
PAPER = "#ffffff"
DARK_PAPER = "#15171a"

TRAIN = "#6b6b6b"
VALIDATION = "#0078b4"
TARGET = "#0078b4"
NONTARGET = "#d25a00"

SPEAKERS = (
    *(
        "#4ba51e",
        "#0f00ff",
        "#690f2d",
        "#4b87f0",
        "#2da596",
        "#001ea5",
        "#003c5a",
        "#b42db4",
        "#ff4b87",
        "#69695a",
    ),
    *(
        "#ff4b00",
        "#c3875a",
        "#00692d",
        "#692d00",
        "#7896c3",
        "#002d78",
        "#960fe1",
        "#964b87",
        "#b41e2d",
        "#ff00f0",
    ),
)
"""On white paper, in order of dissimilarity: the first few differ most."""

DARK_SPEAKERS = (
    *(
        "#96f000",
        "#782dff",
        "#1e96c3",
        "#d20f00",
        "#c3ffb4",
        "#ff96b4",
        "#5a694b",
        "#c39600",
        "#785a87",
        "#e196ff",
    ),
    *(
        "#f01e69",
        "#ff00ff",
        "#e1784b",
        "#ffff69",
        "#5af0ff",
        "#4bf078",
        "#00a587",
        "#f02db4",
        "#f0f0e1",
        "#0087f0",
    ),
)
"""The same on DARK_PAPER."""

GENDERS = {1: ("female", "o"), 0: ("male", "s"), -1: ("gender unknown", "^")}
"""Gender code -> name and matplotlib marker."""


def speaker_colors(centers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of SPEAKERS each speaker gets, so that speakers of one color stand far apart.

    Args:
        centers: [speakers, 2] where each stands on the map.

    Returns:
        [speakers] places in SPEAKERS: 0, 1, 2 ... as far as the colors last; from there on, each speaker in
        turn takes the color whose nearest bearer is farthest away.
    """
    chosen = np.arange(len(centers))
    nearest_bearer = np.full((len(SPEAKERS), len(centers)), np.inf)  # color c to speaker s, squared
    for speaker, center in enumerate(centers):
        if speaker >= len(SPEAKERS):
            chosen[speaker] = np.argmax(nearest_bearer[:, speaker])
        distances = ((centers - center) ** 2).sum(axis=1)
        row = nearest_bearer[chosen[speaker]]
        np.minimum(row, distances, out=row)
    return chosen


def new_figure(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, drawn by Agg, with its row of axes."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes_row = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for axes in axes_row:
        axes.set_facecolor(PAPER)
        axes.set_axisbelow(True)
        axes.grid(True, color=GRID, lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom", "top", "right"]].set_color(MUTED)
        axes.tick_params(labelsize=SMALL, colors=MUTED, labelcolor=INK)
    return figure, axes_row


Place = Literal["outside right upper", "outside lower left", "outside upper left"]


def outside_legend(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], place: Place, *, columns: int = 1
) -> None:
    """A legend outside the axes, which the layout makes room for."""
    numbers = [str(number) for number in range(len(labels))]
    legend = figure.legend(handles, numbers, loc=place, ncols=columns, frameon=False)
    # Set afterwards: as labels, names that start with an underscore would be left out.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False, fontsize=SMALL, color=INK)


def write_names(
    figure: Figure,
    axes: Axes,
    names: list[str],
    points: NDArray[np.float64],
    speaker: NDArray[np.int64],
    centers: NDArray[np.float64],
    inks: list[str],
) -> int:
    """Write names near their speakers' centers, most points first, where they fit and hide few points.

    Args:
        figure: laid out, its layout engine off, because names are placed by pixels.
        names: [speakers].
        points: [n, 2] in the axes' data units.
        speaker: [n] places in `names`.
        centers: [speakers, 2].
        inks: [speakers] colors of the names.

    Returns:
        How many found a place.
    """
    frame: Box = axes.get_window_extent().extents
    points = axes.transData.transform(points)
    points_a_pixel = 72 / figure.dpi
    taken: list[Box] = []
    for index in np.argsort(-np.bincount(speaker), kind="stable"):
        text = axes.annotate(
            short(names[index]),
            centers[index],
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=inks[index],
            parse_math=False,
            path_effects=[withStroke(linewidth=2, foreground=PAPER, alpha=0.8)],
        )
        box: Box = text.get_window_extent().extents
        shift = free_place(box, frame, taken, points)
        if shift is None:
            text.remove()
            continue
        text.set_position((shift[0] * points_a_pixel, shift[1] * points_a_pixel))
        taken.append(moved(box, shift))
    return len(taken)


def dot(color: str, marker: str) -> Line2D:
    """A legend's marker."""
    return Line2D([], [], color=color, marker=marker, ls="", ms=7)


def short(name: str) -> str:
    """A speaker's name that fits on a plot."""
    return drawable(shortened(name))


def drawable(text: str) -> str:
    """The text in one line, with a replacement character for what the font has no glyph for."""
    known = _glyphs()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def darker(color: str) -> str:
    """The color at 60 % of its light, dark enough for text on white."""
    return "#" + "".join(f"{int(color[place : place + 2], 16) * 3 // 5:02x}" for place in (1, 3, 5))

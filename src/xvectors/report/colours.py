"""The look of the report's plots. In: sizes, labels, where speakers stand. Out: colours, frames, legends.
The colours were found by farthest-point search in Oklab under normal, protanopic and deuteranopic vision."""

from __future__ import annotations

import math
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
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from xvectors.report.markup import shortened

FONT, SMALL, TITLE = 10, 9, 12  # points

INK = "#222222"
MUTED = "#6b6b6b"
GRID = "#e4e4e4"
PAPER = "#ffffff"

TRAIN = "#6b6b6b"
VALIDATION = "#0078b4"
TARGET = "#0078b4"
NONTARGET = "#d25a00"

SPEAKERS = (
    *(
        "#0078b4",
        "#d25a00",
        "#ff96ff",
        "#96d200",
        "#1e4b00",
        "#0000c3",
        "#963c69",
        "#b469ff",
        "#ff7887",
        "#3cc3c3",
    ),
    *(
        "#003c78",
        "#c3960f",
        "#8796d2",
        "#5a2d4b",
        "#4b00ff",
        "#3c875a",
        "#ff0f78",
        "#f0b487",
        "#d21eb4",
        "#695a2d",
    ),
)
"""In order of dissimilarity: the first few differ most."""

PLACES = (
    *((0.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.0, 1.5), (0.0, -1.5), (0.5, 1.0), (-0.5, 1.0), (0.5, -1.0)),
    *((-0.5, -1.0), (0.65, 0.0), (-0.65, 0.0), (0.8, 0.5), (-0.8, 0.5), (0.8, -0.5), (-0.8, -0.5)),
)
"""Where a name may stand, in its own widths and heights from the middle of its speaker's points."""

MOST_HIDDEN = 6
"""Points that a name may cover, at most; where it would cover more it is left out."""

GENDERS = {1: ("female", "o"), 0: ("male", "s"), -1: ("gender unknown", "^")}
"""Gender code -> name and matplotlib marker."""


def speaker_colours(centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of SPEAKERS each speaker gets, so that speakers of one colour stand far apart.

    Args:
        centres: [speakers, 2] where each stands on the map.

    Returns:
        [speakers] places in SPEAKERS: 0, 1, 2 ... as far as the colours last; from there on, each speaker in
        turn takes the colour whose nearest bearer is farthest away.
    """
    chosen = np.arange(len(centres))
    nearest_bearer = np.full((len(SPEAKERS), len(centres)), np.inf)  # colour c to speaker s, squared
    for speaker, centre in enumerate(centres):
        if speaker >= len(SPEAKERS):
            chosen[speaker] = np.argmax(nearest_bearer[:, speaker])
        distances = ((centres - centre) ** 2).sum(axis=1)
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
    centres: NDArray[np.float64],
    inks: list[str],
) -> int:
    """Write names near their speakers' centres, most points first, where they fit and hide few points.

    Args:
        figure: laid out, its layout engine off, because names are placed by pixels.
        names: [speakers].
        points: [n, 2] in the axes' data units.
        speaker: [n] places in `names`.
        centres: [speakers, 2].
        inks: [speakers] colours of the names.

    Returns:
        How many found a place.
    """
    frame = axes.get_window_extent()
    points = axes.transData.transform(points)
    points_a_pixel = 72 / figure.dpi
    taken = np.empty((0, 4))
    for index in np.argsort(-np.bincount(speaker), kind="stable"):
        text = axes.annotate(
            short(names[index]),
            centres[index],
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=inks[index],
            parse_math=False,
            path_effects=[withStroke(linewidth=2, foreground=PAPER, alpha=0.8)],
        )
        box = text.get_window_extent()
        shift = _free_place(box, frame, taken, points)
        if shift is None:
            text.remove()
            continue
        text.set_position((shift[0] * points_a_pixel, shift[1] * points_a_pixel))
        taken = np.vstack([taken, box.translated(*shift).extents])
    return len(taken)


def _free_place(
    box: Bbox, frame: Bbox, taken: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[float, float] | None:
    """How far to move a box, in pixels, to stand inside the frame, clear of boxes taken and on few points.

    A step of the box's height away weighs as much as half a point hidden. None where no place does.
    """
    best, least = None, math.inf
    for across, along in PLACES:
        shift = (across * box.width, along * box.height)
        x0, y0, x1, y1 = box.translated(*shift).extents
        if x0 < frame.x0 or x1 > frame.x1 or y0 < frame.y0 or y1 > frame.y1:
            continue
        if ((taken[:, 0] < x1) & (taken[:, 2] > x0) & (taken[:, 1] < y1) & (taken[:, 3] > y0)).any():
            continue
        x, y = points.T
        hidden = np.count_nonzero((x > x0 - 2) & (x < x1 + 2) & (y > y0 - 2) & (y < y1 + 2))
        if hidden > MOST_HIDDEN:
            continue
        cost = hidden + 0.5 * math.hypot(*shift) / box.height
        if cost < least:
            best, least = shift, cost
    return best


def dot(colour: str, marker: str) -> Line2D:
    """A legend's marker."""
    return Line2D([], [], color=colour, marker=marker, ls="", ms=7)


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


def darker(colour: str) -> str:
    """The colour at 60 % of its light, dark enough for text on white."""
    return "#" + "".join(f"{int(colour[place : place + 2], 16) * 3 // 5:02x}" for place in (1, 3, 5))

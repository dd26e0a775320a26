"""How the report's pictures look: colors, markers, frames and legends, and how a picture is saved.

Colors of roles (ink, grid, target scores ...) become CSS variables on the page, see `xvectors.report.inline_svg`.
Speakers and systems get matplotlib's `petroff10`, chosen for color-blind readers (Petroff, arXiv 2107.02270).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from xvectors.errors import ConfigError
from xvectors.files import atomic_write
from xvectors.report.formats import shortened

FONT, SMALL, TITLE = 10, 9, 11  # points
POINTS_AN_INCH = 72
DPI = 200  # of PNG files
SUFFIXES = (".png", ".pdf", ".svg")
LEGEND_ROW = 0.195  # inches

INK, MUTED, GRID, PAPER = "#1c1e21", "#5f6368", "#d9dce0", "#ffffff"
TARGET, NONTARGET, POINT = "#0078b4", "#c45200", "#963c69"

PALETTE = tuple(to_hex(color) for color in mpl.color_sequences["petroff10"])
LINE_STYLES = ("-", "--", "-.", ":")
NUM_LOOKS = 2 * len(PALETTE)
"""Speakers that can be told apart on a map: every color without and with an outline."""
GENDERS = {1: ("female", "o"), 0: ("male", "s"), -1: ("gender unknown", "^")}
"""Gender code -> name and marker."""


_AXES: dict[Any, Any] = {
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in (
        ("color", MUTED), ("labelcolor", INK), ("labelsize", SMALL), ("major.size", 3.0),
    )},
}  # fmt: skip


def marker_look(number: int) -> dict[str, Any]:
    """Return the `Line2D` settings of a speaker's marker; numbers beyond `NUM_LOOKS` repeat."""
    number %= NUM_LOOKS
    outlined = number >= len(PALETTE)
    return {
        "markerfacecolor": PALETTE[number % len(PALETTE)],
        "markeredgecolor": INK if outlined else PAPER,
        "markeredgewidth": 1.3 if outlined else 0.5,
    }


def new_figure(
    width: float,
    height: float,
    *,
    columns: int = 1,
    legend_rows: int = 0,
    left: float = 0.8,
    right: float = 0.15,
    top: float = 0.15,
    bottom: float = 0.5,
) -> tuple[Figure, list[Axes]]:
    """Create a figure with a row of axes; sizes and margins are in inches, `right` is that of each axes.

    `height` does not count the rows of the legend, for which the figure grows at its lower edge.
    """
    below = legend_rows * LEGEND_ROW + (0.1 if legend_rows else 0.0)
    height += below
    each = width / columns
    boxes = [
        ((column * each + left) / width, (bottom + below) / height, (each - left - right) / width)
        for column in range(columns)
    ]
    with mpl.rc_context(_AXES):  # and not set on the axes, which would make ticks that are thrown away
        figure = Figure(figsize=(width, height), dpi=POINTS_AN_INCH, facecolor=PAPER)
        row = [figure.add_axes((x, y, w, 1 - y - top / height)) for x, y, w in boxes]
    return figure, row


def label_axes(axes: Axes, x: str, y: str = "") -> None:
    """Name the axes."""
    axes.set_xlabel(drawable(x), fontsize=FONT, color=INK, parse_math=False)
    axes.set_ylabel(y, fontsize=FONT, color=INK)


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], *, columns: int = 1) -> list[Text]:
    """Add a legend at the lower edge, in the rows that `new_figure` made room for; return its texts."""
    numbers = [str(number) for number in range(len(labels))]
    legend = figure.legend(
        handles, numbers, loc="lower left", ncols=columns, frameon=False, fontsize=SMALL, borderaxespad=0.3,
        labelspacing=0.35, handletextpad=0.6, columnspacing=1.4,
    )  # fmt: skip
    # Set afterwards, because labels that start with an underscore are left out.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False, color=INK)
    return legend.get_texts()


def save(figure: Figure, path: Path | str) -> Path:
    """Write the figure in the format that the suffix names, atomically.

    Raises
    ------
    ConfigError
        The suffix is not .png, .pdf or .svg.
    StorageError
        The file cannot be written; an earlier one is intact.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: plots are written as .png, .pdf or .svg; end the name with one of these")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path


def percent_tick(share: float, position: float) -> str:
    """Label a tick at a share as percent."""
    return f"{100 * share:g} %"


def short(name: str) -> str:
    """Shorten a speaker's name so that it fits on a plot."""
    return drawable(shortened(name))


def drawable(text: str) -> str:
    """Return the text in one line, with a replacement character for what matplotlib's font has no glyph for."""
    known = _glyphs()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())

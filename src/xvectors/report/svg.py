"""A plot as inline SVG whose colors are the page's, light or dark. In: data and axes. Out: markup.
Classes, not colors, stand in the markup; page.css gives them their look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.report.labels import Box
from xvectors.report.markup import escaped

LETTER = 6.2  # mean width of a letter at the plots' 12 px
LINE = 14.0  # height of a line of text

Tick = tuple[float, str]


@dataclass(kw_only=True)
class Panel:
    """A frame with two linear axes; what is drawn is clipped to it.

    `x_range` and `y_range` are in data units; ticks are (place, text).
    """

    title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    width: float = 480.0
    height: float = 360.0
    left: float = 62.0
    right: float = 16.0
    top: float = 12.0
    bottom: float = 46.0
    marks: list[str] = field(default_factory=list)

    def x(self, values: ArrayLike) -> NDArray[np.float64]:
        """Pixels of data."""
        low, high = self.x_range
        return self.left + (np.asarray(values, float) - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, values: ArrayLike) -> NDArray[np.float64]:
        low, high = self.y_range
        inner = self.height - self.top - self.bottom
        return self.height - self.bottom - (np.asarray(values, float) - low) / (high - low) * inner

    @property
    def frame(self) -> Box:
        """In pixels."""
        return self.left, self.top, self.width - self.right, self.height - self.bottom

    def line(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        if not np.size(x):
            return  # the DET curve of a system without errors lies outside every frame
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in _thinned(self.x(x), self.y(y)))
        self.marks.append(f'<polyline class="line {kind}" points="{points}"/>')

    def area(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        """Filled down to the x axis, its upper edge drawn."""
        across, up = self.x(x), self.y(y)
        floor = float(self.y(self.y_range[0]))
        points = [(across[0], floor), *zip(across, up, strict=True), (across[-1], floor)]
        self.marks.append(f'<polygon class="area {kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        self.line(x, y, kind)

    def dot(self, x: float, y: float, kind: str, *, radius: float = 4.5, shape: str = "o", tip: str = "") -> None:
        """A marker: o, s (square), ^ (triangle), D (diamond). `tip` shows on hovering."""
        across, up = float(self.x(x)), float(self.y(y))
        inside = f"<title>{escaped(tip)}</title>" if tip else ""
        self.marks.append(marker(across, up, radius, shape, f"dot {kind}", inside))

    def text(self, x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> None:
        """At pixels."""
        self.marks.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>')

    def svg(self) -> str:
        left, top, right, bottom = self.frame
        frame = [f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>']
        for value, text in self.x_ticks:
            at = float(self.x(value))
            frame.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
            frame.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
        for value, text in self.y_ticks:
            at = float(self.y(value))
            frame.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
            frame.append(f'<text class="tick" x="{left - 7}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
        if self.x_label:
            middle = (left + right) / 2
            frame.append(
                f'<text x="{middle}" y="{self.height - 8}" text-anchor="middle">{escaped(self.x_label)}</text>'
            )
        if self.y_label:
            middle = (top + bottom) / 2
            frame.append(
                f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
                f"{escaped(self.y_label)}</text>"
            )
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escaped(self.title)}">'
            f"{''.join(frame)}{''.join(self.marks)}</svg>"
        )


def marker(x: float, y: float, radius: float, shape: str, kind: str, inside: str = "") -> str:
    """A marker at pixels."""
    if shape == "o":
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{inside}</circle>'
    r = radius
    corners = {
        "s": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "^": [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        "D": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }[shape]
    points = " ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in corners)
    return f'<polygon class="{kind}" points="{points}">{inside}</polygon>'


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """A list of keys below a plot; each entry is a class, with a shape after a blank, and a text."""
    items = []
    for kind, text in entries:
        name, _, shape = kind.partition(" ")
        if shape == "line":
            key = f'<line class="line {name}" x1="0" x2="22" y1="7" y2="7"/>'
        elif shape == "area":
            key = f'<rect class="area {name}" x="1" y="1" width="20" height="12"/>'
        else:
            key = marker(11, 7, 5, shape or "o", f"dot {name}")
        items.append(f'<li><svg class="key" viewBox="0 0 22 14" aria-hidden="true">{key}</svg>{escaped(text)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def nice_ticks(low: float, high: float, about: int = 6) -> list[Tick]:
    """Round places from low to high."""
    rough = (high - low) / about
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999))
    first = np.ceil(low / step - 1e-9)
    places = (first + np.arange(int(np.floor(high / step - first + 1e-9)) + 1)) * step
    return [(float(place), f"{place + 0.0:.10g}".replace("-", "\N{MINUS SIGN}")) for place in places]


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points that differ by a tenth of a pixel."""
    points = np.round(np.stack([x, y], axis=1), 1)
    keep = np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))
    return [(float(a), float(b)) for a, b in points[keep]]

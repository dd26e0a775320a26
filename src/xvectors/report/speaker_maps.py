"""Maps of speakers: each recording's embedding as a point of the plane, by speaker and gender."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ShapeError
from xvectors.report import style
from xvectors.report.style import GENDERS, drawable, legend_below, marker_look, new_figure, short
from xvectors.text import count

MAX_TITLE = 60  # characters in a line
NAME_FONT = 8  # points
LETTER, LINE = 0.62 * NAME_FONT, 1.35 * NAME_FONT  # width of a letter and height of a line, in points
MAX_POINTS_TRIED = 10  # of a speaker, to write its name beside
MAX_WRITTEN = 200  # speakers whose names are written; of more, hardly any would fit
NAME_PLACES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Where a name may stand: above, below, right or left of a point, or at its corners."""


def speaker_map(
    points: ArrayLike,
    speakers: Sequence[object],
    genders: Sequence[int],
    path: Path | str,
    *,
    title: str = "Speakers",
) -> Path:
    """Draw points of the plane, with a color for each speaker and a marker for each gender.

    A legend names up to 20 speakers; the second ten have outlined markers. With more speakers, whose looks repeat,
    names stand beside the points where they cover none, and a note says how many. More than 200 have no names.

    Parameters
    ----------
    points
        ``[n, 2]``, such as from `tsne`.
    speakers
        ``[n]`` names or numbers.
    genders
        ``[n]``: 0 male, 1 female, -1 unknown.
    path
        The file to write; its suffix, .png, .pdf or .svg, names the format.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ShapeError
        There are no points, they are not finite or not ``[n, 2]``, the lengths differ, or a gender code is unknown.
    ConfigError
        The suffix is unknown.
    StorageError
        The file cannot be written; an earlier one is intact.
    """
    return style.save(speaker_figure(points, speakers, genders, title=title), path)


def speaker_figure(
    points: ArrayLike,
    speakers: Sequence[object],
    genders: Sequence[int],
    *,
    title: str = "Speakers",
    legend: bool = True,
) -> Figure:
    """Return the figure of `speaker_map`, if need be without its legend.

    The gids of its markers are those of `marker_groups`, the gid of a name is that of `name_gid`.
    """
    xy, gender = np.asarray(points, dtype=np.float64), np.asarray(genders)
    _check(xy, speakers, gender)
    names, speaker = number_speakers([str(name) for name in speakers])
    is_few = len(names) <= style.NUM_LOOKS
    present = [code for code in GENDERS if (gender == code).any()]
    keys = [
        (_key(GENDERS[code][1]), f"{GENDERS[code][0]}: {count(len(set(speaker[gender == code])), 'speaker')}")
        for code in present
    ]
    if is_few:
        keys += [
            (_key(GENDERS[Counter(gender[speaker == at].tolist()).most_common(1)[0][0]][1], at), short(name))
            for at, name in enumerate(names)
        ]
    width, height = (5.6, 5.2) if is_few else (10.0, 8.0)
    longest = max(len(label) for _, label in keys)
    columns = max(1, min(len(keys), int(72 * width / (6 * longest + 30))))
    legend_rows = -(-len(keys) // columns) if legend else 0
    figure, (axes,) = new_figure(width, height, legend_rows=legend_rows, left=0.1, right=0.1, bottom=0.1, top=0.4)
    size = float(np.clip(90 / np.sqrt(len(xy)), 3.5, 7.0))
    for gid, rows in marker_groups(speaker, gender).items():
        marker = GENDERS[int(gender[rows[0]])][1]
        axes.plot(
            *xy[rows].T, ls="", marker=marker, ms=size, gid=gid, clip_on=False, **marker_look(int(speaker[rows[0]]))
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.04)
    axes.set(xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(True)
    heading = textwrap.fill(drawable(title), MAX_TITLE)
    axes.set_title(heading, loc="left", fontsize=style.TITLE, color=style.INK, parse_math=False)
    if legend:
        texts = legend_below(figure, [key for key, _ in keys], [label for _, label in keys], columns=columns)
        for at, text in enumerate(texts[len(present) :]):
            text.set_gid(name_gid(at))
    if len(names) > MAX_WRITTEN:
        note = f"{len(names):,} speakers: too many to write their names"
        axes.set_title(note, loc="right", fontsize=style.SMALL, color=style.MUTED)
    elif not is_few:
        written = _write_names(axes, [short(name) for name in names], xy, speaker, size / 2)
        if written < len(names):
            note = f"names of {written} of {len(names)} speakers fit"
            axes.set_title(note, loc="right", fontsize=style.SMALL, color=style.MUTED)
    return figure


def marker_groups(speaker: NDArray[np.int64], gender: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return the rows that share a look, by the gid of their line in the figure."""
    groups = {}
    for look in range(style.NUM_LOOKS):
        for code in GENDERS:
            rows = np.flatnonzero((speaker % style.NUM_LOOKS == look) & (gender == code))
            if len(rows):
                groups[f"points-{look}-{code}"] = rows
    return groups


def name_gid(number: int) -> str:
    """Return the gid of a speaker's name in the figure, by the speaker's number."""
    return f"name-{number}"


def number_speakers(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different names as people sort them, and the place of each."""
    different = sorted(set(names), key=_natural)
    place = {name: index for index, name in enumerate(different)}
    return different, np.array([place[name] for name in names])


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts s2 before s10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _key(marker: str, speaker: int | None = None) -> Line2D:
    """Return a legend's marker, without a speaker a gray one."""
    look = {"mfc": style.MUTED, "mec": style.MUTED} if speaker is None else marker_look(speaker)
    return Line2D([], [], ls="", marker=marker, ms=7, **look)


def _write_names(
    axes: Axes, names: Sequence[str], xy: NDArray[np.float64], speaker: NDArray[np.int64], radius: float
) -> int:
    """Write each name beside a point of its speaker, where it covers no point and no other speaker's is nearer.

    Speakers with more points come first. Returns how many names fit; `radius` is that of the markers, in points.
    """
    axes.apply_aspect()
    to_points = axes.transData  # the figure has 72 dots an inch, so that its pixels are points
    dots, frame = to_points.transform(xy), axes.bbox
    taken = np.empty((0, 4))
    for index in np.argsort(-np.bincount(speaker), kind="stable"):
        half = np.array([LETTER * len(names[index]) / 2 + 2, LINE / 2])
        own = dots[speaker == index]
        from_middle = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        near = own[np.argsort(from_middle, kind="stable")[:MAX_POINTS_TRIED]]
        for center in (dot + np.array(place) * (half + radius + 2) for dot in near for place in NAME_PLACES):
            low, high = center - half, center + half
            if (low < frame.min).any() or (high > frame.max).any():
                continue
            if ((taken[:, :2] < high) & (taken[:, 2:] > low)).all(axis=1).any():
                continue
            distance = np.linalg.norm(np.maximum(low - dots, dots - high).clip(min=0), axis=1)
            if distance.min() <= radius or speaker[distance.argmin()] != index:
                continue
            taken = np.vstack([taken, [*low, *high]])
            x, y = to_points.inverted().transform(center)
            axes.text(
                x, y, names[index], ha="center", va="center",
                fontsize=NAME_FONT, color=style.INK, parse_math=False, gid=name_gid(int(index)),
            )  # fmt: skip
            break
    return len(taken)


def _check(points: NDArray[np.float64], speakers: Sequence[object], genders: NDArray[np.int64]) -> None:
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ShapeError(f"points have the shape {list(points.shape)}: give [n, 2], at least one point")
    if not len(points) == len(speakers) == len(genders):
        raise ShapeError(f"{len(points)} points, {len(speakers)} speakers and {len(genders)} genders: give one each")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ShapeError(f"point {row} is not finite: leave it out")
    strange = ~np.isin(genders, list(GENDERS))
    if strange.any():
        row = int(strange.argmax())
        raise ShapeError(f"gender {row} is {genders[row]}: give 0 (male), 1 (female) or -1 (unknown)")

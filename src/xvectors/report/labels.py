"""Where labels stand on a plot, so that they can be read and hide little. In: boxes, points and a frame, all in pixels.
Out: how far to move a box."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

PLACES = (
    *((0.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.0, 1.5), (0.0, -1.5), (0.5, 1.0), (-0.5, 1.0), (0.5, -1.0)),
    *((-0.5, -1.0), (0.65, 0.0), (-0.65, 0.0), (0.8, 0.5), (-0.8, 0.5), (0.8, -0.5), (-0.8, -0.5)),
)
"""Where a label may stand, in its own widths and heights from where it belongs."""

MOST_HIDDEN = 6
"""Points that a name may cover, at most; where it would cover more it is left out."""

Box = tuple[float, float, float, float]
"""Left, low, right, high."""


def free_place(
    box: Box, frame: Box, taken: ArrayLike, points: ArrayLike, *, most_hidden: float = MOST_HIDDEN, room: float = 2.0
) -> tuple[float, float] | None:
    """How far to move a box to stand inside the frame, clear of the boxes taken [k, 4] and on few points [n, 2].

    A step of the box's height away weighs as much as half a point hidden; a point within `room` of the box is hidden.
    None where no place does.
    """
    x0, y0, x1, y1 = box
    others: NDArray[np.float64] = np.asarray(taken, dtype=np.float64).reshape(-1, 4)
    x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
    best, least = None, math.inf
    for across, along in PLACES:
        shift = (across * (x1 - x0), along * (y1 - y0))
        left, low, right, high = x0 + shift[0], y0 + shift[1], x1 + shift[0], y1 + shift[1]
        if left < frame[0] or right > frame[2] or low < frame[1] or high > frame[3]:
            continue
        over = (others[:, 0] < right) & (others[:, 2] > left) & (others[:, 1] < high) & (others[:, 3] > low)
        if over.any():
            continue
        hidden = np.count_nonzero((x > left - room) & (x < right + room) & (y > low - room) & (y < high + room))
        if hidden > most_hidden:
            continue
        cost = hidden + 0.5 * math.hypot(*shift) / (y1 - y0)
        if cost < least:
            best, least = shift, cost
    return best


def moved(box: Box, shift: tuple[float, float]) -> Box:
    """The box, that far away."""
    return box[0] + shift[0], box[1] + shift[1], box[2] + shift[0], box[3] + shift[1]

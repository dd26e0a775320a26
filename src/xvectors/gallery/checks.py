"""What a voiceprint must be to be kept, whether it is enrolled or imported."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.products import Rows
from xvectors.errors import ShapeError

MOST_AUDIO_BYTES = 500_000_000
"""SQLite holds a value of up to 10^9 bytes."""
LENGTHS = (1e-15, 1e15)
"""Between these an embedding's length can be squared in float32 without a loss."""


def checked(embeddings: ArrayLike, duration_s: ArrayLike) -> tuple[Rows, NDArray[np.float64]]:
    """Embeddings float32 [n, D], n above 0, and durations [n], fit to be kept. ShapeError for others."""
    rows, seconds = np.asarray(embeddings), np.asarray(duration_s, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "iuf":
        raise ShapeError(
            f"embeddings of type {rows.dtype} and shape {list(rows.shape)}: give real numbers, [recordings, dimensions]"
        )
    rows = rows.astype(np.float32)
    check_embedding(rows)
    if seconds.shape != (len(rows),) or not (np.isfinite(seconds) & (seconds > 0)).all():
        raise ShapeError(f"durations {seconds.tolist()} for {len(rows)} embeddings: give seconds above 0, one each")
    return rows, seconds


def check_embedding(rows: Rows) -> None:
    """ShapeError for rows [n, D] of which one is not finite, all zeros, or of a length that no network gives."""
    if not np.isfinite(rows).all() or not rows.any(axis=1).all():
        raise ShapeError("an embedding is all zeros, or holds values that are not finite; look at its recording")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if lengths.min() < LENGTHS[0] or lengths.max() > LENGTHS[1]:
        raise ShapeError(f"an embedding has the length {lengths.max():.0e}, which no network gives; embed it again")


def check_duration(duration_s: object) -> float:
    """Seconds above 0, as a float. ShapeError for anything else."""
    if isinstance(duration_s, float | int) and np.isfinite(duration_s) and duration_s > 0:
        return float(duration_s)
    raise ShapeError(f"its duration is {duration_s!r:.40}, and must be seconds above 0")

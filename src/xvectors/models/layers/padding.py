"""Padded batches: where each recording ends, what layers see beyond it, and a BatchNorm that leaves the padding out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError
from xvectors.text import short_repr


@short_repr("counts", "frames")
class Padding:
    """Where the recordings of a padded batch end.

    Parameters
    ----------
    counts
        int [batch], on the CPU: number of frames of each recording.
    frames
        Number of frames of the batch.
    device
        Device of the batch.

    Raises
    ------
    ShapeError
        A count is below 1 or above `frames`.
    """

    def __init__(self, counts: Tensor, frames: int, device: torch.device | str = "cpu") -> None:
        outside = [count for count in counts.tolist() if not 1 <= count <= frames]
        if outside:
            raise ShapeError(f"frame counts must lie between 1 and {frames}, got {outside[0]}")
        self.counts, self.frames, self.device = counts, frames, torch.device(device)

    @cached_property
    def behind(self) -> Tensor:
        """bool [batch, frames]: True past the end of a recording."""
        return (torch.arange(self.frames) >= self.counts.unsqueeze(1)).to(self.device)

    @cached_property
    def rows(self) -> Tensor:
        """Indices of the frames that are not padding, among the batch * frames."""
        # found on the CPU: `nonzero` on a GPU waits for all work under way there
        own = torch.arange(self.frames) < self.counts.unsqueeze(1)
        return own.flatten().nonzero().squeeze(1).to(self.device)

    def mean(self, x: Tensor) -> Tensor:
        """Average `x` [batch, frames, channels], zero in the padding, over each recording's frames, in float32."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return x.sum(dim=1, dtype=wide) / self.counts.unsqueeze(1).to(x.device, wide)

    def zero(self, x: Tensor) -> Tensor:
        """Return `x` [batch, frames, ...] with zeros in the padding."""
        return x.masked_fill(self._mask(x), 0.0)

    def clear(self, x: Tensor) -> Tensor:
        """Write zeros into the padding of `x` [batch, frames, ...]; the fastest way where no gradient is needed."""
        if x.device.type != "cpu":
            return x.masked_fill_(self._mask(x), 0.0)
        for row, count in zip(x, self.counts.tolist(), strict=True):
            row[count:] = 0.0
        return x

    def _mask(self, x: Tensor) -> Tensor:
        return self.behind.view(*self.behind.shape, *[1] * (x.dim() - 2))

    def shortened(self, span: int) -> Padding:
        """Return the ends after a layer that needs `span` frames of context and adds no padding."""
        return Padding(self.counts - span, self.frames - span, self.device) if span else self

    def strided(self, stride: int) -> Padding:
        """Return the ends after a layer that keeps one frame in `stride`, the first included."""
        return Padding(-(-self.counts // stride), -(-self.frames // stride), self.device)


def extended(x: Tensor, before: int, after: int, edges: str, padding: Padding | None) -> Tensor:
    """Continue `x` [batch, frames, channels], zero in the padding, by frames before its start and after each end.

    Parameters
    ----------
    edges
        What the new frames are: `zeros`, or those beside the ends in reverse order (`reflect`), which needs recordings
        of more frames than are added on a side. The first and last frames are not repeated.
    """
    if not (before or after):
        return x
    if edges == "zeros":
        return functional.pad(x, (0, 0, before, after))
    if padding is None:
        head, tail = x[:, 1 : before + 1].flip(1), x[:, x.shape[1] - 1 - after : x.shape[1] - 1].flip(1)
        return torch.cat((head, x, tail), dim=1)
    own = padding.counts.unsqueeze(1)
    index = torch.arange(-before, padding.frames + after).abs()
    index = torch.where(index < own, index, 2 * (own - 1) - index).clamp(0, padding.frames - 1)
    return x.gather(1, index.to(x.device).unsqueeze(2).expand(-1, -1, x.shape[2]))


def check_edges(owner: nn.Module, edges: object, known: Sequence[str]) -> None:
    """Raise ConfigError, naming `owner`'s class, for another value of `edges` than the known ones."""
    if edges not in known:
        raise ConfigError(f"{type(owner).__name__}: edges is {edges!r}; it must be one of {', '.join(known)}")


class FrameNorm(nn.BatchNorm1d):
    """BatchNorm over [batch, frames, ..., channels] that ignores the padding, and sets it to zero.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", ICML 2015.
    """

    def forward(self, input: Tensor, padding: Padding | None = None) -> Tensor:
        # Rows of channels, because the order [batch, channels, frames] would cost a copy each way. Under autocast the
        # rows stay in half precision, and torch keeps the statistics in float32.
        if padding is None or not self.training:
            normalized = super().forward(input.reshape(-1, self.num_features)).view(input.shape)
            return normalized if padding is None else padding.zero(normalized)
        frames = input.flatten(0, 1)
        own = frames.index_select(0, padding.rows)
        normalized = super().forward(own.reshape(-1, self.num_features)).view(own.shape)
        return torch.zeros_like(frames).index_copy(0, padding.rows, normalized).view(input.shape)


class RectifiedNorm(FrameNorm):
    """A `FrameNorm` and a ReLU after it. What it returns goes to one layer only, so that the two can be folded."""

    def forward(self, input: Tensor, padding: Padding | None = None) -> Tensor:
        return torch.relu_(super().forward(input, padding))

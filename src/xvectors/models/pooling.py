"""Statistics over a recording's own frames. In: frames [batch, frames, channels], some of them padding, and how many
are each recording's own. Out: one vector each (the poolings), or normalized frames (FrameNorm).

Each pooling cites its paper; all leave out what lies past a recording's end, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.models.backbone import Backbone
from xvectors.text import nearest

HALF = (torch.bfloat16, torch.float16)


class Padding:
    """Where the recordings of a padded batch end: `counts` [batch], on the CPU, in a batch of `frames` frames."""

    def __init__(self, counts: Tensor, frames: int, device: torch.device) -> None:
        self.counts, self.frames, self.device = counts, frames, device

    @cached_property
    def behind(self) -> Tensor:
        """True [batch, frames] past a recording's end."""
        return (torch.arange(self.frames) >= self.counts.unsqueeze(1)).to(self.device)

    @cached_property
    def rows(self) -> Tensor:
        """Indices of the own frames among the batch * frames."""
        # found on the CPU: `nonzero` on a GPU would wait for all that is under way there
        own = torch.arange(self.frames) < self.counts.unsqueeze(1)
        return own.flatten().nonzero().squeeze(1).to(self.device)

    def mean(self, x: Tensor) -> Tensor:
        """Mean of `x` [batch, frames, channels], zero in the padding, over the own frames; at least float32."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return x.sum(dim=1, dtype=wide) / self.counts.unsqueeze(1).to(x.device, wide)

    def zero(self, x: Tensor) -> Tensor:
        """`x` [batch, frames, ...] with zeros past each end, as a convolution's own padding would have them."""
        return x.masked_fill(self._mask(x), 0.0)

    def clear(self, x: Tensor) -> Tensor:
        """`zero` in place, for networks in use: most of a sorted batch is no padding, and is left alone."""
        if x.device.type != "cpu":
            return x.masked_fill_(self._mask(x), 0.0)
        for row, count in zip(x, self.counts.tolist(), strict=True):
            row[count:] = 0.0
        return x

    def _mask(self, x: Tensor) -> Tensor:
        return self.behind.view(*self.behind.shape, *[1] * (x.dim() - 2))

    def shortened(self, span: int) -> Padding:
        """The ends after a layer that takes `span` frames of context without padding."""
        return Padding(self.counts - span, self.frames - span, self.device) if span else self

    def strided(self, stride: int) -> Padding:
        """The same ends where one frame in `stride` is kept, the first included."""
        return Padding(-(-self.counts // stride), -(-self.frames // stride), self.device)


def check_sizes(owner: nn.Module, **sizes: object) -> None:
    """Raise ConfigError, naming `owner`'s class, for the first of `sizes` that is no whole number from 1 up."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{type(owner).__name__}: {name} is {value!r}; it must be a whole number, at least 1")


def find_padding(model: Backbone, x: Tensor, lengths: Tensor | None) -> Padding | None:
    """Check a batch [batch, frames, input_dim] and its frame counts; None where every recording fills it.

    For networks with BatchNorm, which in training need two recordings. Raises ShapeError for another rank or size,
    lengths that do not fit, or too small a batch; TooShortError for fewer frames than `model.context_frames`.
    """
    name, needed = type(model).__name__, model.context_frames
    if x.dim() != 3 or x.shape[2] != model.input_dim:
        raise ShapeError(f"{name}: expected [batch, frames, {model.input_dim}], got {list(x.shape)}")
    batch, frames, _ = x.shape
    too_short = f"frames, but the network's context needs at least {needed}; leave them out"
    if frames < needed:
        raise TooShortError(f"{name}: the recordings have {frames} {too_short}")
    if model.training and batch < 2:
        raise ShapeError(f"{name}: a training batch of {batch} has no batch statistics; give at least 2 recordings")
    if lengths is None:
        return None
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ShapeError(
            f"{name}: lengths must be {batch} whole numbers, one a recording, "
            f"got {list(lengths.shape)} of {lengths.dtype}"
        )
    counts = lengths.tolist()
    for index, count in enumerate(counts):
        if count > frames:
            raise ShapeError(f"{name}: lengths[{index}] is {count}, but the features hold {frames} frames")
        if count < needed:
            raise TooShortError(f"{name}: recording {index} of the batch has {count} {too_short}")
    return None if min(counts, default=frames) == frames else Padding(torch.tensor(counts), frames, x.device)


class FrameNorm(nn.BatchNorm1d):
    """BatchNorm over [batch, frames, ..., channels]; frames of the padding have no part in it and come out as zeros.

    Ioffe and Szegedy, "Batch normalization", ICML 2015.
    """

    def forward(self, input: Tensor, padding: Padding | None = None) -> Tensor:
        # Rows of channels, not [batch, channels, frames]: that order would cost a reordering each way.
        if padding is None or not self.training:
            normalized = super().forward(input.reshape(-1, self.num_features)).view(input.shape)
            return normalized if padding is None else padding.zero(normalized)
        frames = input.flatten(0, 1)
        own = frames.index_select(0, padding.rows)
        normalized = super().forward(own.reshape(-1, self.num_features)).view(own.shape)
        return torch.zeros_like(frames).index_copy(0, padding.rows, normalized).view(input.shape)


class _Counted(NamedTuple):
    x: Tensor
    """[batch, frames, channels], at least float32, zero in the padding."""
    behind: Tensor | None
    """True [batch, frames, 1] in the padding."""
    num_own: Tensor | int
    """Own frames, [batch, 1] or one number."""


class Pooling(nn.Module):
    """What the poolings share: the call `pooling(x, num_frames=None)`, its checks and `out_dim`.

    `x` is [batch, frames, channels] and the result [batch, out_dim(channels)]. `num_frames` [batch] counts each
    recording's own frames, all by default. Half-precision input is pooled and returned in float32. Raises
    ShapeError for another rank or size, no frames, or counts that do not fit.
    """

    def out_dim(self, channels: int) -> int:
        """Width of the result for frames of `channels`: a mean and a deviation of each."""
        return 2 * channels

    def _counted(self, x: Tensor, num_frames: Tensor | None, channels: int | None = None) -> _Counted:
        name = type(self).__name__
        if x.dim() != 3 or x.shape[1] < 1 or channels not in (None, x.shape[2]):
            raise ShapeError(f"{name}: expected [batch, frames, {channels or 'channels'}], got {list(x.shape)}")
        if x.dtype in HALF:
            x = x.float()
        if num_frames is None:
            return _Counted(x, None, x.shape[1])
        if num_frames.shape != (x.shape[0],):
            raise ShapeError(f"{name}: expected {x.shape[0]} frame counts, got {list(num_frames.shape)}")
        outside = [n for n in num_frames.tolist() if not 1 <= n <= x.shape[1]]
        if outside:
            raise ShapeError(f"{name}: frame counts must lie between 1 and {x.shape[1]}, got {outside[0]}")
        num_frames = num_frames.to(x.device)
        behind = (torch.arange(x.shape[1], device=x.device) >= num_frames.unsqueeze(1)).unsqueeze(2)
        return _Counted(x.masked_fill(behind, 0.0), behind, num_frames.to(x.dtype).unsqueeze(1))


class MeanPooling(Pooling):
    """Mean over time: the temporal average of d-vectors.

    Variani, Lei, McDermott, Lopez Moreno and Gonzalez-Dominguez, "Deep neural networks for small footprint
    text-dependent speaker verification", ICASSP 2014.
    """

    def out_dim(self, channels: int) -> int:
        return channels

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Map [batch, frames, channels] to the means [batch, channels]."""
        x, _, count = self._counted(x, num_frames)
        return x.sum(dim=1) / count


class StatisticsPooling(Pooling):
    """Mean and standard deviation over time.

    The deviation is the population's, divided by the number of frames T and not T - 1, as in the paper and in
    Kaldi, so that one frame has one too. Its variance is at least `variance_floor`, and where it would be
    less, the gradient is 0: none is ever NaN. Raises ConfigError for a floor that is not above 0.

    Snyder, Garcia-Romero, Povey and Khudanpur, "Deep neural network embeddings for text-independent speaker
    verification", Interspeech 2017.
    """

    def __init__(self, variance_floor: float = 1e-10) -> None:
        super().__init__()
        self.variance_floor = _checked_floor(variance_floor)

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the means, then the deviations."""
        x, behind, count = self._counted(x, num_frames)
        # The mean goes before the squares are taken: the difference of two large sums would lose the
        # deviation of channels far from 0. A norm is one pass less than square, mean and root, and its
        # gradient at 0 is 0.
        mean = x.sum(dim=1) / count
        centered = x - mean.unsqueeze(1)
        if behind is not None:
            centered = centered.masked_fill(behind, 0.0)
        deviation = torch.linalg.vector_norm(centered, dim=1) / count**0.5
        return torch.cat((mean, deviation.clamp(min=self.variance_floor**0.5)), dim=1)


class AttentivePooling(Pooling):
    """Mean and standard deviation over time, each frame weighted by softmax(v . tanh(W h + b)).

    The paper's constant beside v is left out: the softmax over time does not see it. Under autocast the two affine
    maps run in half precision; weights, mean and deviation do not.

    Okabe, Koshinaka and Shinoda, "Attentive statistics pooling for deep speaker embedding", Interspeech 2018.
    """

    def __init__(self, channels: int, attention_dim: int = 128, variance_floor: float = 1e-10) -> None:
        super().__init__()
        check_sizes(self, channels=channels, attention_dim=attention_dim)
        self.variance_floor = _checked_floor(variance_floor)
        self.hidden = nn.Linear(channels, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the weighted means, then the deviations."""
        counted = self._counted(x, num_frames, self.hidden.in_features)
        scores = self.score(torch.tanh(self.hidden(counted.x)))
        return _weighted_moments(counted.x, _softmax(scores, counted), self.variance_floor)


class MultiHeadAttentivePooling(Pooling):
    """Weighted mean over time of `heads` slices of the channels, each weighing the frames by a query of its own.

    A frame's weight in a slice of d channels is softmax(u . h / sqrt(d)). Raises ConfigError where `heads` does
    not divide the channels.

    India, Safari and Hernando, "Self multi-head attention for speaker recognition", Interspeech 2019.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        check_sizes(self, channels=channels, heads=heads)
        if channels % heads:
            raise ConfigError(f"MultiHeadAttentivePooling: {heads} heads do not divide {channels} channels")
        self.channels, self.heads = channels, heads
        self.query = nn.Parameter(torch.empty(heads, channels // heads))
        nn.init.xavier_uniform_(self.query)

    def out_dim(self, channels: int) -> int:
        return channels

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, channels]: the slices' weighted means."""
        counted = self._counted(x, num_frames, self.channels)
        slices = counted.x.view(*counted.x.shape[:2], *self.query.shape)
        scores = (slices * self.query).sum(dim=3) / self.query.shape[1] ** 0.5
        return (slices * _softmax(scores, counted).unsqueeze(3)).sum(dim=1).flatten(1)


class ChannelContextPooling(Pooling):
    """Mean and standard deviation over time, with weights of each channel's own that know the whole recording.

    A channel's score of a frame is v . tanh(W [h; mean; deviation] + b), with the mean and deviation over all
    frames. Under autocast the affine maps run in half precision; weights, mean and deviation do not. With
    `global_context=False` the score sees the frame alone.

    Desplanques, Thienpondt and Demuynck, "ECAPA-TDNN: emphasized channel attention, propagation and aggregation in
    TDNN based speaker verification", Interspeech 2020, section 3.1.
    """

    def __init__(
        self, channels: int, attention_dim: int = 128, *, global_context: bool = True, variance_floor: float = 1e-10
    ) -> None:
        super().__init__()
        check_sizes(self, channels=channels, attention_dim=attention_dim)
        self.statistics = StatisticsPooling(variance_floor)
        self.hidden = nn.Linear(channels, attention_dim)
        # W's columns for mean and deviation: the same for all frames, so multiplied once a recording
        self.context = nn.Linear(2 * channels, attention_dim, bias=False) if global_context else None
        self.score = nn.Linear(attention_dim, channels, bias=False)

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the weighted means, then the deviations."""
        counted = self._counted(x, num_frames, self.hidden.in_features)
        hidden = self.hidden(counted.x)
        if self.context is not None:
            hidden = hidden + self.context(self.statistics(counted.x, num_frames)).unsqueeze(1)
        scores = self.score(torch.tanh(hidden))
        return _weighted_moments(counted.x, _softmax(scores, counted), self.statistics.variance_floor)


POOLINGS: dict[str, Callable[[int, float], Pooling]] = {
    "mean": lambda channels, floor: MeanPooling(),
    "statistics": lambda channels, floor: StatisticsPooling(floor),
    "attentive": lambda channels, floor: AttentivePooling(channels, variance_floor=floor),
    "multi_head": lambda channels, floor: MultiHeadAttentivePooling(channels),
    "channel_context": lambda channels, floor: ChannelContextPooling(channels, variance_floor=floor),
}


def make_pooling(name: str, channels: int, variance_floor: float = 1e-10) -> Pooling:
    """The pooling called `name` for frames of `channels`; `variance_floor` is for those that take deviations.

    Raises ConfigError for an unknown name, naming the nearest, and for a floor that is not above 0.
    """
    if name not in POOLINGS:
        raise ConfigError(f"unknown pooling {name!r}{nearest(name, POOLINGS)}")
    return POOLINGS[name](channels, _checked_floor(variance_floor))


def _softmax(scores: Tensor, counted: _Counted) -> Tensor:
    """Weights over the own frames, in the precision of the pooled frames."""
    scores = scores.to(counted.x.dtype)
    if counted.behind is not None:
        scores = scores.masked_fill(counted.behind, -torch.inf)
    return scores.softmax(dim=1)


def _weighted_moments(x: Tensor, weights: Tensor, variance_floor: float) -> Tensor:
    mean = (weights * x).sum(dim=1)
    variance = (weights * (x - mean.unsqueeze(1)).square()).sum(dim=1)
    return torch.cat((mean, variance.clamp(min=variance_floor).sqrt()), dim=1)


def _checked_floor(variance_floor: float) -> float:
    if not variance_floor > 0:
        raise ConfigError(f"variance_floor is {variance_floor}; it must be above 0, such as 1e-10")
    return variance_floor

"""Poolings over time: from the frames of a recording to one vector. Each cites its paper, and ignores the padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError
from xvectors.models.backbone import check_sizes
from xvectors.models.layers.padding import FrameNorm, Padding
from xvectors.text import nearest

HALF = (torch.bfloat16, torch.float16)


class _Counted(NamedTuple):
    x: Tensor
    """[batch, frames, channels], at least float32, zero in the padding."""
    behind: Tensor | None
    """bool [batch, frames, 1]: True in the padding."""
    num_own: Tensor | int
    """Number of frames of each recording, [batch, 1] or one number."""


class Pooling(nn.Module):
    """Base of the poolings: `pooling(x, padding=None)` maps [batch, frames, channels] to [batch, out_dim(channels)].

    Half-precision input is pooled and returned in float32.

    Raises
    ------
    ShapeError
        `x` has another rank or size, or no frames, or `padding` is that of another batch.
    """

    def out_dim(self, channels: int) -> int:
        """Return the width of the result, by default a mean and a deviation per channel."""
        return 2 * channels

    def _counted(self, x: Tensor, padding: Padding | None, channels: int | None = None) -> _Counted:
        name = type(self).__name__
        if x.dim() != 3 or x.shape[1] < 1 or channels not in (None, x.shape[2]):
            raise ShapeError(f"{name}: expected [batch, frames, {channels or 'channels'}], got {list(x.shape)}")
        if x.dtype in HALF:
            x = x.float()
        if padding is None:
            return _Counted(x, None, x.shape[1])
        if (len(padding.counts), padding.frames) != x.shape[:2]:
            raise ShapeError(
                f"{name}: got {list(x.shape)} with the padding of {len(padding.counts)} recordings of "
                f"{padding.frames} frames"
            )
        num_own = padding.counts.to(x.device, x.dtype).unsqueeze(1)
        return _Counted(padding.zero(x), padding.behind.unsqueeze(2), num_own)


class MeanPooling(Pooling):
    """Mean over time, the temporal average of d-vectors.

    References
    ----------
    Variani, Lei, McDermott, Lopez Moreno and Gonzalez-Dominguez, "Deep neural networks for small footprint
    text-dependent speaker verification", ICASSP 2014.
    """

    def out_dim(self, channels: int) -> int:
        return channels

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        """Map [batch, frames, channels] to the means [batch, channels]."""
        x, _, count = self._counted(x, padding)
        return x.sum(dim=1) / count


class StatisticsPooling(Pooling):
    """Mean and standard deviation over time.

    Parameters
    ----------
    variance_floor
        Lower bound of the variance. Below it the deviation has no gradient, so that the gradient is always finite.
    unbiased
        Divide the squared deviations by T - 1, one less than the number of frames, as 3D-Speaker and WeSpeaker do. By
        default by T, as in the paper and in Kaldi, so that a single frame has a deviation too.
    variance_offset
        Added to the variance before the root is taken.

    Raises
    ------
    ConfigError
        The floor is not above 0, or the offset is negative.

    References
    ----------
    Snyder, Garcia-Romero, Povey and Khudanpur, "Deep neural network embeddings for text-independent speaker
    verification", Interspeech 2017.
    """

    def __init__(self, variance_floor: float = 1e-10, *, unbiased: bool = False, variance_offset: float = 0.0) -> None:
        super().__init__()
        self.variance_floor = _checked_floor(variance_floor)
        if not variance_offset >= 0:
            raise ConfigError(f"variance_offset is {variance_offset}; it must be at least 0, such as 1e-7")
        self.unbiased, self.variance_offset = unbiased, variance_offset

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the means, then the deviations."""
        x, behind, count = self._counted(x, padding)
        # Subtract the mean before squaring: the difference of two large sums would lose the deviation of channels far
        # from 0. A norm takes one pass less than square, mean and root, and its gradient at 0 is 0.
        mean = x.sum(dim=1) / count
        centered = x - mean.unsqueeze(1)
        if behind is not None:
            centered = centered.masked_fill(behind, 0.0)
        divisor = _one_less(count) if self.unbiased else count
        deviation = torch.linalg.vector_norm(centered, dim=1) / divisor**0.5
        deviation = deviation.clamp(min=self.variance_floor**0.5)
        if self.variance_offset:
            deviation = (deviation.square() + self.variance_offset).sqrt()
        return torch.cat((mean, deviation), dim=1)


class AttentivePooling(Pooling):
    """Mean and standard deviation over time, with frames weighted by softmax(v . tanh(W h + b)).

    Notes
    -----
    The paper adds a constant to each score, which the softmax over time cancels. Under autocast the two affine maps run
    in half precision; weights, mean and deviation do not.

    References
    ----------
    Okabe, Koshinaka and Shinoda, "Attentive statistics pooling for deep speaker embedding", Interspeech 2018.
    """

    def __init__(self, channels: int, attention_dim: int = 128, variance_floor: float = 1e-10) -> None:
        super().__init__()
        check_sizes(self, channels=channels, attention_dim=attention_dim)
        self.variance_floor = _checked_floor(variance_floor)
        self.hidden = nn.Linear(channels, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the weighted means, then the deviations."""
        counted = self._counted(x, padding, self.hidden.in_features)
        scores = self.score(torch.tanh(self.hidden(counted.x)))
        return _weighted_moments(counted.x, _softmax(scores, counted), self.variance_floor)


class MultiHeadAttentivePooling(Pooling):
    """Weighted mean over time, where each of `heads` slices of the channels weighs the frames by its own query.

    Raises
    ------
    ConfigError
        `heads` does not divide the channels.

    Notes
    -----
    The weight of a frame in a slice of d channels is softmax(u . h / sqrt(d)).

    References
    ----------
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

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, channels]: the slices' weighted means."""
        counted = self._counted(x, padding, self.channels)
        slices = counted.x.view(*counted.x.shape[:2], *self.query.shape)
        scores = (slices * self.query).sum(dim=3) / self.query.shape[1] ** 0.5
        return (slices * _softmax(scores, counted).unsqueeze(3)).sum(dim=1).flatten(1)


class ChannelContextPooling(Pooling):
    """Mean and standard deviation over time, with weights per channel that depend on the whole recording.

    Parameters
    ----------
    channels
        Channels of a frame.
    attention_dim
        Width of the attention's hidden layer.
    global_context
        Whether a score depends on the recording's mean and deviation, or on the frame alone.
    variance_floor
        Lower bound of the variance.
    statistics
        What computes the mean and deviation that scores depend on, by default with `variance_floor`.
    normalized
        Whether ReLU and a BatchNorm precede the tanh, as in SpeechBrain.
    squashed
        Whether there is a tanh; WeSpeaker's SimAM-ResNets have none.

    Notes
    -----
    A channel's score of a frame is v . tanh(W [h; mean; deviation] + b). Under autocast the affine maps run in half
    precision; weights, mean and deviation do not.

    References
    ----------
    Desplanques, Thienpondt and Demuynck, "ECAPA-TDNN: emphasized channel attention, propagation and aggregation in
    TDNN based speaker verification", Interspeech 2020, section 3.1.
    """

    def __init__(
        self,
        channels: int,
        attention_dim: int = 128,
        *,
        global_context: bool = True,
        variance_floor: float = 1e-10,
        statistics: StatisticsPooling | None = None,
        normalized: bool = False,
        squashed: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(self, channels=channels, attention_dim=attention_dim)
        self.variance_floor, self.squashed = _checked_floor(variance_floor), squashed
        self.statistics = StatisticsPooling(variance_floor) if statistics is None else statistics
        self.hidden = nn.Linear(channels, attention_dim)
        # W's columns for mean and deviation, which are the same for all frames: multiplied once per recording
        self.context = nn.Linear(2 * channels, attention_dim, bias=False) if global_context else None
        self.hidden_norm = FrameNorm(attention_dim) if normalized else None
        self.score = nn.Linear(attention_dim, channels, bias=False)

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the weighted means, then the deviations."""
        counted = self._counted(x, padding, self.hidden.in_features)
        hidden = self.hidden(counted.x)
        if self.context is not None:
            hidden = hidden + self.context(self.statistics(counted.x, padding)).unsqueeze(1)
        if self.hidden_norm is not None:
            hidden = self.hidden_norm(functional.relu(hidden), padding)
        scores = self.score(torch.tanh(hidden) if self.squashed else hidden)
        return _weighted_moments(counted.x, _softmax(scores, counted), self.variance_floor)


POOLINGS: dict[str, Callable[[int, float], Pooling]] = {
    "mean": lambda channels, floor: MeanPooling(),
    "statistics": lambda channels, floor: StatisticsPooling(floor),
    "unbiased_statistics": lambda channels, floor: StatisticsPooling(floor, unbiased=True),
    "tstp": lambda channels, floor: StatisticsPooling(floor, unbiased=True, variance_offset=1e-7),
    "attentive": lambda channels, floor: AttentivePooling(channels, variance_floor=floor),
    "multi_head": lambda channels, floor: MultiHeadAttentivePooling(channels),
    "channel_context": lambda channels, floor: ChannelContextPooling(channels, variance_floor=floor),
    "channel": lambda channels, floor: ChannelContextPooling(channels, variance_floor=floor, global_context=False),
    "astp": lambda channels, floor: ChannelContextPooling(
        channels, variance_floor=floor, statistics=StatisticsPooling(unbiased=True, variance_offset=1e-7)
    ),
    "normalized_channel_context": lambda channels, floor: ChannelContextPooling(
        channels, variance_floor=floor, normalized=True
    ),
    "asp": lambda channels, floor: ChannelContextPooling(
        channels, variance_floor=floor, global_context=False, normalized=True, squashed=False
    ),
}
"""`unbiased_statistics` is 3D-Speaker's and `tstp` WeSpeaker's form of statistics pooling."""


def make_pooling(name: str, channels: int, variance_floor: float = 1e-10) -> Pooling:
    """Build a pooling by name.

    Parameters
    ----------
    name
        A key of `POOLINGS`.
    channels
        Channels of a frame.
    variance_floor
        Lower bound of the variance, in poolings that compute a deviation.

    Raises
    ------
    ConfigError
        The name is unknown, or the floor is not above 0.
    """
    if name not in POOLINGS:
        raise ConfigError(f"unknown pooling {name!r}{nearest(name, POOLINGS)}")
    return POOLINGS[name](channels, _checked_floor(variance_floor))


def _softmax(scores: Tensor, counted: _Counted) -> Tensor:
    """Weights over the frames that are not padding, in the precision of the pooled frames."""
    scores = scores.to(counted.x.dtype)
    if counted.behind is not None:
        scores = scores.masked_fill(counted.behind, -torch.inf)
    return scores.softmax(dim=1)


def _weighted_moments(x: Tensor, weights: Tensor, variance_floor: float) -> Tensor:
    mean = (weights * x).sum(dim=1)
    variance = (weights * (x - mean.unsqueeze(1)).square()).sum(dim=1)
    return torch.cat((mean, variance.clamp(min=variance_floor).sqrt()), dim=1)


def _one_less(count: Tensor | int) -> Tensor | int:
    return count.sub(1).clamp(min=1) if isinstance(count, Tensor) else max(count - 1, 1)


def _checked_floor(variance_floor: float) -> float:
    if not variance_floor > 0:
        raise ConfigError(f"variance_floor is {variance_floor}; it must be above 0, such as 1e-10")
    return variance_floor

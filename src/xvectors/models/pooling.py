"""Pooling over time. In: frames [batch, frames, channels] of recordings of any length; out: one vector each.

Snyder, Garcia-Romero, Povey and Khudanpur, "Deep neural network embeddings for text-independent speaker
verification", Interspeech 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xvectors.errors import ConfigError, ShapeError


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over time.

    The deviation is the population's, divided by the number of frames T and not T - 1, as in the paper and in
    Kaldi, so that one frame has one too. Its variance is at least `variance_floor`, and where it would be
    less, the gradient is 0: none is ever NaN. Raises ConfigError for a floor that is not above 0.
    """

    def __init__(self, variance_floor: float = 1e-10) -> None:
        super().__init__()
        if not variance_floor > 0:
            raise ConfigError(f"variance_floor is {variance_floor}; it must be above 0, such as 1e-10")
        self.variance_floor = variance_floor

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Map [batch, frames, channels] to [batch, 2 * channels]: the means, then the deviations.

        `num_frames` [batch] counts each recording's own frames, all by default; what lies past them has no
        influence, whatever it holds. Half-precision input is pooled and returned in float32. Raises
        ShapeError for another rank, no frames, or counts that do not fit.
        """
        if x.dim() != 3 or x.shape[1] < 1:
            raise ShapeError(f"StatisticsPooling: expected [batch, frames, channels], got {list(x.shape)}")
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.float()
        # The mean goes before the squares are taken: the difference of two large sums would lose the
        # deviation of channels far from 0. A norm is one pass less than square, mean and root, and its
        # gradient at 0 is 0.
        if num_frames is None:
            mean = x.mean(dim=1, keepdim=True)
            count: Tensor | int = x.shape[1]
            centred = x - mean
        else:
            if num_frames.shape != (x.shape[0],):
                raise ShapeError(f"StatisticsPooling: expected {x.shape[0]} frame counts, got {list(num_frames.shape)}")
            outside = [n for n in num_frames.tolist() if not 1 <= n <= x.shape[1]]
            if outside:
                raise ShapeError(
                    f"StatisticsPooling: frame counts must lie between 1 and {x.shape[1]}, got {outside[0]}"
                )
            num_frames = num_frames.to(x.device)
            padding = (torch.arange(x.shape[1], device=x.device) >= num_frames.unsqueeze(1)).unsqueeze(2)
            count = num_frames.to(x.dtype).unsqueeze(1)
            mean = x.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / count.unsqueeze(2)
            centred = (x - mean).masked_fill(padding, 0.0)
        deviation = torch.linalg.vector_norm(centred, dim=1) / count**0.5
        return torch.cat((mean.squeeze(1), deviation.clamp(min=self.variance_floor**0.5)), dim=1)

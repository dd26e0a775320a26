"""Steps over a whole recording: its level, pre-emphasis and range, and the mean of its features.

`lengths` and `num_frames` [batch] count the samples or frames of each recording of a padded batch; None where there is
no padding. A padded recording has the same result as alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LEVEL_DBFS = -30.0
"""Level to which `normalize_level` scales recordings. Read speech is recorded at -35 to -15 dBFS; among -18 to -30 dBFS
this level is best for weights trained without the setting (docs/explanation/robustness.md)."""
MIN_STD = 1e-6
"""Recordings with a smaller standard deviation, -120 dBFS, are not amplified further."""


def leveled(waveforms: Tensor, lengths: Tensor | None, *, increase_only: bool = False) -> Tensor:
    """Scale each waveform of [batch, samples] so that the standard deviation of its samples is LEVEL_DBFS.

    With `increase_only`, the root mean square takes the place of the standard deviation, and louder waveforms are left
    as they are.
    """
    if increase_only:
        own = waveforms if lengths is None else waveforms.masked_fill(padding_of(waveforms, lengths), 0.0)
        power = own.square().sum(dim=1, keepdim=True) / (waveforms.shape[1] if lengths is None else lengths[:, None])
        return waveforms * (10 ** (LEVEL_DBFS / 20) / power.clamp(min=MIN_STD**2).sqrt()).clamp(min=1.0)
    if lengths is None:
        variance = waveforms.var(dim=1, correction=0, keepdim=True)
    else:
        count, padding = lengths.unsqueeze(1), padding_of(waveforms, lengths)
        own = waveforms.masked_fill(padding, 0.0)
        centered = (own - own.sum(dim=1, keepdim=True) / count).masked_fill(padding, 0.0)
        variance = centered.square().sum(dim=1, keepdim=True) / count
    return waveforms * (10 ** (LEVEL_DBFS / 20) / variance.clamp(min=MIN_STD**2).sqrt())


def without_dc(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Subtract the mean of its own samples from each waveform of [batch, samples]."""
    if lengths is None:
        return waveforms - waveforms.mean(dim=1, keepdim=True)
    own = waveforms.masked_fill(padding_of(waveforms, lengths), 0.0)
    return waveforms - own.sum(dim=1, keepdim=True) / lengths.unsqueeze(1)


def preemphasized(waveforms: Tensor, coefficient: float) -> Tensor:
    """Return x[t] - coefficient * x[t - 1], where the sample before the first is taken to be the second."""
    before = torch.cat((waveforms[:, 1:2], waveforms[:, :-1]), dim=1)
    return torch.sub(waveforms, before, alpha=coefficient)


def limit_range(features: Tensor, num_frames: Tensor | None, range_db: float) -> Tensor:
    """Raise values more than `range_db` below the largest of their recording, in [batch, frames, mels]."""
    own = features
    if num_frames is not None:
        own = features.masked_fill(padding_of(features, num_frames).unsqueeze(2), -torch.inf)
    return torch.maximum(features, own.amax(dim=(1, 2), keepdim=True) - range_db)


def mean_normalize(features: Tensor, num_frames: Tensor | None = None, *, window_frames: int = 0) -> Tensor:
    """Subtract the mean of each mel over the frames of a recording (cepstral mean normalization, CMN).

    Parameters
    ----------
    features
        Floating point [batch, frames, mels].
    num_frames
        int [batch]: number of frames of each recording; all by default. Frames after them are excluded from the mean
        and become exactly 0.
    window_frames
        Take the mean over this many frames around each frame, as Kaldi's `apply-cmvn-sliding --center=true` does: at
        the ends, over the first or last frames. 0 takes it over the recording.
    """
    if num_frames is None:
        mean = _sliding_mean(features, None, window_frames) if window_frames else features.mean(dim=1, keepdim=True)
        return features - mean
    padding = padding_of(features, num_frames).unsqueeze(2)
    own = features.masked_fill(padding, 0.0)
    if window_frames:
        mean = _sliding_mean(own, num_frames, window_frames)
    else:
        mean = own.sum(dim=1, keepdim=True) / num_frames.to(features.device).view(-1, 1, 1)
    return (own - mean).masked_fill(padding, 0.0)


def _sliding_mean(features: Tensor, num_frames: Tensor | None, window: int) -> Tensor:
    """Return the mean around each frame of features [batch, frames, mels] that are 0 in the padding."""
    frames, device = features.shape[1], features.device
    beyond = functional.pad(features.transpose(1, 2), (0, window - 1))
    means = functional.avg_pool1d(beyond, window, stride=1).transpose(1, 2)  # of the windows that begin at each frame
    count = torch.full((1, 1), frames, device=device) if num_frames is None else num_frames.to(device).unsqueeze(1)
    start = (torch.arange(frames, device=device) - window // 2).clamp(min=0)
    start = torch.minimum(start, (count - window).clamp(min=0))
    around = means.gather(1, start.unsqueeze(2).expand(features.shape))
    return around * (window / count.clamp(max=window).to(features)).unsqueeze(2)  # a short recording is one window


def padding_of(batch: Tensor, lengths: Tensor) -> Tensor:
    """Return bool [batch, positions]: which positions of the second axis lie after the end of their recording."""
    return torch.arange(batch.shape[1], device=batch.device) >= lengths.to(batch.device).unsqueeze(1)

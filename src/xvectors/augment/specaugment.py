"""SpecAugment: masks over log-mel features (Park et al., Interspeech 2019), without time warping.

This is the only module of the package that needs torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xvectors.config import AugmentConfig
from xvectors.errors import ShapeError


class SpecAugment:
    """Replace random spans of frames and mels by the mean of each mel over the recording.

    A recording is masked with probability `settings.spec_augment_prob`: `time_masks` spans of 0 to
    `time_mask_max_share` of its frames, and `frequency_masks` spans of 0 to `frequency_mask_max_share` of its mels.
    Spans may overlap. After mean normalization the mean is 0.
    """

    def __init__(self, settings: AugmentConfig) -> None:
        self.settings = settings

    def __call__(
        self, features: Tensor, generator: torch.Generator, *, part: slice = slice(None), of: int | None = None
    ) -> Tensor:
        """Mask floating-point features [batch, frames, mels] on any device; `generator` draws on its own device.

        Features that are only a `part` of a batch get the masks that they would get in the whole batch, which has `of`
        recordings.

        Returns a new tensor of the same shape, dtype and device. Raises ShapeError for other shapes.
        """
        if features.ndim != 3 or not features.is_floating_point():
            raise ShapeError(
                f"features must be floating point [batch, frames, mels], not {features.dtype} {list(features.shape)}"
            )
        settings = self.settings
        batch, frames, mels = features.shape
        if not frames:
            return features.clone()
        whole = batch if of is None else of
        drawn = torch.rand(whole, 1, generator=generator, device=generator.device) < settings.spec_augment_prob
        times = _masks(whole, frames, settings.time_masks, settings.time_mask_max_share, generator)
        frequencies = _masks(whole, mels, settings.frequency_masks, settings.frequency_mask_max_share, generator)
        hidden = ((times & drawn)[:, :, None] | (frequencies & drawn)[:, None, :])[part][:batch]
        return torch.where(hidden.to(features.device), features.mean(dim=1, keepdim=True), features)


def _masks(batch: int, size: int, count: int, max_share: float, generator: torch.Generator) -> Tensor:
    """Return bool [batch, size] with `count` spans of True, each of 0 to int(max_share * size) values."""
    draws = torch.rand(2, batch, count, 1, generator=generator, device=generator.device)
    widths = (draws[0] * (int(max_share * size) + 1)).long()
    starts = (draws[1] * (size - widths + 1)).long()
    places = torch.arange(size, device=generator.device)
    return ((places >= starts) & (places < starts + widths)).any(dim=1)

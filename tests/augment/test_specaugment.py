"""SpecAugment: how much is hidden, behind what, and by whose draws."""

from __future__ import annotations

import pytest
import torch

from xvectors.augment.specaugment import SpecAugment
from xvectors.config import AugmentConfig
from xvectors.errors import ShapeError


def make(**settings: float) -> SpecAugment:
    off = {"time_masks": 0, "frequency_masks": 0}
    return SpecAugment(AugmentConfig(**{"spec_augment_prob": 1.0, **off, **settings}))


def features(batch: int, frames: int = 100, mels: int = 40) -> torch.Tensor:
    return torch.randn(batch, frames, mels, generator=torch.Generator().manual_seed(9))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def longest_run(hidden: torch.Tensor) -> int:
    longest = run = 0
    for value in hidden.tolist():
        run = run + 1 if value else 0
        longest = max(longest, run)
    return longest


def test_time_masks_hide_what_they_should() -> None:
    x = features(2000)
    hidden = (make(time_masks=1, time_mask_max_share=0.2)(x, generator()) != x).all(dim=2)
    widths = hidden.sum(dim=1)
    # Uniform over 0..20 frames: mean 10, every width, one span each.
    assert widths.float().mean().item() == pytest.approx(10, abs=0.5)
    assert set(widths.tolist()) == set(range(21))
    assert all(longest_run(row) == width for row, width in zip(hidden[:100], widths[:100].tolist(), strict=True))
    # Frames at the ends are as open to masks as a span inside the recording lets them be.
    assert hidden[:, 0].any()
    assert hidden[:, -1].any()
    assert hidden.float().mean(dim=0)[30:70].mean().item() == pytest.approx(10 / 90, abs=0.02)


def test_frequency_masks_hide_what_they_should() -> None:
    x = features(2000)
    masked = make(frequency_masks=2, frequency_mask_max_share=0.2)(x, generator()) != x
    hidden = masked.all(dim=1)
    assert torch.equal(masked.any(dim=1), hidden)
    # Two spans of 0..8 of 40 mels: 8 mels where they do not overlap, which takes about 0.5 of them.
    assert hidden.sum(dim=1).float().mean().item() == pytest.approx(7.5, abs=0.3)
    assert hidden.sum(dim=1).max().item() == 16


def test_hidden_is_the_mean_of_the_mel_in_that_recording() -> None:
    x = features(8) + torch.arange(40) + 100 * torch.arange(8)[:, None, None]
    both = make(time_masks=2, frequency_masks=2, time_mask_max_share=0.3)
    masked = both(x, generator())
    expected = x.mean(dim=1, keepdim=True).expand_as(x)
    changed = masked != x
    assert changed.any()
    assert torch.equal(masked[changed], expected[changed])
    assert masked.shape == x.shape
    assert masked.dtype == x.dtype


def test_each_recording_has_masks_of_its_own_and_the_generator_decides() -> None:
    x = features(1).expand(50, -1, -1)
    spec_augment = make(time_masks=2, frequency_masks=2)
    first = spec_augment(x, generator(3))
    assert len({tuple(row.flatten().tolist()) for row in first}) > 45
    assert torch.equal(first, spec_augment(x, generator(3)))
    assert not torch.equal(first, spec_augment(x, generator(4)))


def test_share_of_recordings() -> None:
    x = features(4000, 20, 10)
    changed = make(spec_augment_prob=0.3, frequency_masks=1, frequency_mask_max_share=1.0)(x, generator()) != x
    # A mask of width 0, one of eleven, changes nothing.
    assert changed.any(dim=2).any(dim=1).float().mean().item() == pytest.approx(0.3 * 10 / 11, abs=0.02)
    assert torch.equal(make(spec_augment_prob=0.0, time_masks=2)(x, generator()), x)


@pytest.mark.parametrize("shape", [(0, 10, 5), (2, 0, 5), (2, 1, 1), (3, 7, 2)])
def test_small_batches(shape: tuple[int, int, int]) -> None:
    x = torch.ones(shape, dtype=torch.bfloat16)
    masked = make(time_masks=3, frequency_masks=3, time_mask_max_share=1.0)(x, generator())
    assert torch.equal(masked, x)
    assert masked.dtype == torch.bfloat16


def test_gradients_pass_what_is_not_hidden() -> None:
    x = features(4).requires_grad_()
    masked = make(time_masks=2)(x, generator())
    masked.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_wrong_shapes() -> None:
    message = r"features must be floating point \[batch, frames, mels\], not torch.float32 \[100, 40\]"
    with pytest.raises(ShapeError, match=message):
        make()(torch.zeros(100, 40), generator())
    with pytest.raises(ShapeError, match=r"not torch.int64"):
        make()(torch.zeros(1, 100, 40, dtype=torch.int64), generator())

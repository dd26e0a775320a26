"""The named sizes of ReDimNet and ReDimNet2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

BLOCKS = ("residual", "excited", "next")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a size of ReDimNet consists of; the arguments of `ReDimNet` explain the fields."""

    channels: int
    band_strides: tuple[int, ...]
    frame_strides: tuple[int, ...] = ()
    depths: tuple[int, ...]
    widths: tuple[int, ...] = ()
    reductions: tuple[int, ...]
    block: str = "residual"
    group_width: int = 1
    head_channels: int = 0

    def completed(self) -> Layout:
        """Fill in frame strides of 1, and widths of the stages' own channels."""
        widths, channels = [], self.channels
        for stride in self.band_strides:
            channels *= stride
            widths.append(channels)
        return replace(
            self,
            frame_strides=self.frame_strides or (1,) * len(self.band_strides),
            widths=self.widths or tuple(widths),
        )


FIRST_SIZES: Mapping[str, Layout] = {
    "b0": Layout(
        channels=10,
        band_strides=(1, 2, 1, 2, 1),
        depths=(2, 3, 3, 4, 3),
        widths=(10, 40, 60, 80, 40),
        reductions=(30, 30, 30, 10, 10),
    ),
    "b1": Layout(
        channels=12,
        band_strides=(1, 2, 3, 2, 2),
        depths=(2, 3, 4, 5, 3),
        reductions=(0, 0, 12, 12, 8),
        block="next",
        group_width=8,
    ),
    "b2": Layout(
        channels=16,
        band_strides=(1, 2, 1, 2, 1, 2),
        depths=(2, 2, 3, 4, 4, 4),
        reductions=(12, 12, 12, 8, 8, 4),
        block="next",
        group_width=4,
    ),
    "b3": Layout(
        channels=16,
        band_strides=(1, 2, 1, 2, 1, 2),
        depths=(6, 6, 8, 10, 10, 8),
        widths=(64, 64, 64, 128, 64, 128),
        reductions=(32, 32, 32, 16, 16, 16),
        block="excited",
    ),
    "b4": Layout(
        channels=32,
        band_strides=(1, 2, 1, 2, 1, 2),
        depths=(4, 4, 6, 6, 8, 4),
        widths=(64, 128, 128, 128, 128, 256),
        reductions=(48, 48, 48, 32, 24, 16),
        block="excited",
    ),
    "b5": Layout(
        channels=32,
        band_strides=(1, 2, 1, 2, 1, 2),
        depths=(4, 4, 6, 6, 8, 4),
        widths=(64, 128, 128, 128, 128, 256),
        reductions=(48, 48, 48, 32, 24, 16),
        block="excited",
        group_width=16,
    ),
    "b6": Layout(
        channels=32,
        band_strides=(1, 2, 1, 3, 1, 2),
        depths=(4, 6, 6, 8, 8, 8),
        widths=(128, 128, 128, 192, 192, 384),
        reductions=(32, 32, 24, 24, 16, 16),
        group_width=32,
    ),
}
"""The first generation's, as in WeSpeaker."""

_SECOND = Layout(
    channels=24,
    band_strides=(1, 2, 1, 2, 1, 2),
    frame_strides=(1, 1, 2, 1, 2, 1),
    depths=(2, 3, 4, 5, 4, 3),
    widths=(96, 144, 96, 96, 96, 192),
    reductions=(24, 24, 24, 24, 24, 24),
)
SECOND_SIZES: Mapping[str, Layout] = {
    "b0": replace(
        _SECOND,
        channels=12,
        widths=(24, 24, 24, 48, 48, 96),
        reductions=(36, 36, 36, 36, 18, 18),
        head_channels=64,
    ),
    "b1": replace(_SECOND, channels=16, widths=(32, 32, 32, 64, 64, 128), reductions=(32, 32, 32, 32, 16, 16)),
    "b2": replace(
        _SECOND,
        channels=20,
        band_strides=(1, 2, 1, 3, 1, 2),
        widths=(40, 40, 40, 120, 120, 240),
        reductions=(40, 30, 30, 20, 20, 10),
    ),
    "b3": _SECOND,
    "b4": replace(_SECOND, channels=32, widths=(128, 192, 128, 128, 128, 256)),
    "b5": replace(
        _SECOND,
        channels=48,
        widths=(192, 288, 192, 192, 192, 384),
        reductions=(48, 48, 48, 48, 32, 32),
        head_channels=256,
    ),
    "b6": replace(
        _SECOND,
        channels=64,
        depths=(3, 4, 5, 5, 4, 3),
        widths=(192, 256, 256, 256, 192, 256),
        reductions=(64, 64, 48, 48, 32, 24),
        head_channels=224,
    ),
}
"""The second generation's, as in the authors' training recipes."""

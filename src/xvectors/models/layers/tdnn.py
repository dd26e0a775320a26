"""The time-delay layer: an affine map over frames spliced at given offsets, and a ReLU.

Peddinti, Povey and Khudanpur, "A time delay neural network architecture for efficient modeling of long
temporal contexts", Interspeech 2015.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError, TooShortError


class TDNNLayer(nn.Module):
    """An affine map over frames spliced at the offsets `input_context`, followed by an activation.

    Parameters
    ----------
    input_dim, output_dim
        Sizes of a frame before and after the layer.
    input_context
        Distinct offsets in frames, in any order: `[-2, -1, 0, 1, 2]`, `[-3, 0, 3]`, `[0]`, `[5, -7]`. The attribute
        `context` holds the same tuple.
    bias
        Whether the affine map has a bias.
    activation
        Function or module applied to the output of the affine map; None leaves it as it is.

    Raises
    ------
    ConfigError
        The context is empty or names an offset twice, a size is below 1, or the activation cannot be called.

    Notes
    -----
    The weight `linear.weight` [output_dim, input_dim * len(input_context)] is context-major: its k-th block of
    `input_dim` columns belongs to `input_context[k]`.
    """

    def __init__(
        self,
        input_dim: int,
        input_context: Sequence[int],
        output_dim: int,
        *,
        bias: bool = True,
        activation: Callable[[Tensor], Tensor] | None = functional.relu,
    ) -> None:
        super().__init__()
        offsets = _checked_offsets(input_context)
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim)):
            if value < 1:
                raise ConfigError(f"TDNNLayer: {name} is {value}; it must be at least 1")
        if activation is not None and not callable(activation):
            raise ConfigError(
                f"TDNNLayer: activation must be a function such as torch.relu, or None, not {activation!r}"
            )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.input_context = self.context = offsets
        self.span = max(self.context) - min(self.context)
        self.dilation = _even_step(self.context)
        self.linear = nn.Linear(input_dim * len(offsets), output_dim, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, input_dim] to [batch, frames - span, output_dim].

        Output frame j sees the input frames j - min(context) + c for each c in the context.

        Raises
        ------
        ShapeError
            `x` has another rank or frame size.
        TooShortError
            There are fewer than span + 1 frames.
        """
        if x.dim() != 3 or x.shape[2] != self.input_dim:
            raise ShapeError(f"TDNNLayer: expected [batch, frames, {self.input_dim}], got {list(x.shape)}")
        frames = x.shape[1] - self.span
        if frames < 1:
            raise TooShortError(
                f"TDNNLayer: got {x.shape[1]} frames, but input_context {list(self.context)} needs at least "
                f"{self.span + 1}; give longer recordings"
            )
        affine = self._convolved(x) if self.dilation is not None and x.device.type == "cpu" else self._spliced(x)
        return affine if self.activation is None else self.activation(affine)

    def _spliced(self, x: Tensor) -> Tensor:
        first, frames = min(self.context), x.shape[1] - self.span
        taps = [x[:, c - first : c - first + frames] for c in self.context]
        spliced = taps[0] if len(taps) == 1 else torch.cat(taps, dim=2)
        return functional.linear(spliced, self.linear.weight, self.linear.bias)

    def _convolved(self, x: Tensor) -> Tensor:
        # On a CPU a dilated convolution is faster than splicing, because it does not copy each frame once per tap (see
        # benchmarks/tdnn.py). conv2d takes [batch, frames, channels] as it is, in channels-last order, which conv1d
        # would copy. On a GPU the splice stays: by default cuDNN rounds float32 convolutions to TF32.
        weight = self.linear.weight.view(self.output_dim, 1, len(self.context), self.input_dim)
        image = x.unsqueeze(1).permute(0, 3, 1, 2)
        out = functional.conv2d(image, weight.permute(0, 3, 1, 2), self.linear.bias, dilation=(1, self.dilation or 1))
        return out.permute(0, 2, 3, 1).squeeze(1)


def _checked_offsets(input_context: Any) -> tuple[int, ...]:
    """Return the offsets as whole numbers; raise ConfigError for an impossible context."""
    if not isinstance(input_context, Iterable):
        raise ConfigError(f"TDNNLayer: input_context is {input_context!r}; give a list of offsets, such as [-1, 0, 1]")
    offsets: list[Any] = list(input_context)
    if not offsets:
        raise ConfigError("TDNNLayer: input_context is empty; give at least one offset, such as [0]")
    if any(not isinstance(offset, int | float | numbers.Integral) or offset % 1 for offset in offsets):
        raise ConfigError(f"TDNNLayer: input_context {offsets} must hold whole frames; round its offsets")
    if len(set(offsets)) != len(offsets):
        raise ConfigError(f"TDNNLayer: input_context {offsets} names an offset twice; give each one once")
    return tuple(int(offset) for offset in offsets)


def _even_step(context: tuple[int, ...]) -> int | None:
    """Return the distance between neighbors in a context that rises evenly, or None."""
    steps = {after - before for before, after in pairwise(context)}
    step = steps.pop() if len(steps) == 1 else 0
    return step if step > 0 else None

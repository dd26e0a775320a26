"""Fold the BatchNorms of a trained network into the layers beside them, which makes it faster.

After training a BatchNorm is an affine map, so that the linear layer or convolution before it can take it in. Where a
BatchNorm and a ReLU stand before a linear layer, the affine map goes there, and a clamp remains: with the scale s and
the shift b of a channel, relu(s x + b) = s max(x, -b/s) + b for s > 0, and s min(x, -b/s) + b for s < 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xvectors.models.backbone import Backbone
from xvectors.models.layers.maps import MapConv, convolve
from xvectors.models.layers.padding import Padding, RectifiedNorm

MIN_SCALE = 1e-12
"""Scale of a BatchNorm's channel below which its input does not count."""


def fold_norms(model: Backbone, *, clamped: bool = True) -> Backbone:
    """Fold every BatchNorm of `model` into a layer beside it, or replace it by an affine map.

    The network is changed in place and returned. It computes the same within float32's rounding, but can no longer be
    trained. A pass on the CPU shows which layer feeds which BatchNorm, and which linear layer a rectified one feeds.
    Only neighbors in the same module are folded, because the output of a block may be used elsewhere too. A network
    from outside xvectors is left unchanged: its BatchNorms may act on another axis.

    Without `clamped`, no linear layer takes in the BatchNorm before it. Its inputs then keep their common scale, which
    int8 needs.
    """
    if type(model).__module__.partition(".")[0] != __name__.partition(".")[0]:
        return model.requires_grad_(False).eval()
    made_by: dict[int, tuple[nn.Module, Tensor]] = {}
    before: dict[nn.Module, nn.Module] = {}
    after: dict[nn.Module, nn.Linear] = {}

    def note_output(module: nn.Module, inputs: object, output: Tensor) -> None:
        made_by[id(output)] = module, output  # keep the tensor, or another could get its id

    def note_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made_by:
            other = made_by[id(inputs[0])][0]
            if isinstance(module, nn.BatchNorm1d) and isinstance(other, MapConv | nn.Linear):
                before[module] = other
            elif clamped and isinstance(module, nn.Linear) and isinstance(other, RectifiedNorm):
                after[other] = module

    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)}
    layers = [module for module in model.modules() if isinstance(module, MapConv | nn.Linear)]
    hooks = [module.register_forward_hook(note_output) for module in (*layers, *norms.values())]
    hooks += [module.register_forward_pre_hook(note_input) for module in (*layers, *norms.values())]
    with torch.no_grad():
        model.eval()(torch.zeros(1, model.context_frames + 1, model.input_dim))
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        parent, _, own = name.rpartition(".")
        home = model.get_submodule(parent)
        follower = after.get(norm)
        if beside := [key for key, child in home.named_children() if child is before.get(norm)]:
            setattr(home, beside[0], _folded(norm, before[norm]))
            setattr(home, own, FoldedNorm(rectified=isinstance(norm, RectifiedNorm)))
        elif follower is not None and any(child is follower for child in home.children()):
            setattr(home, own, ClampedNorm(norm, follower))
        else:
            setattr(home, own, AffineNorm(norm, rectified=isinstance(norm, RectifiedNorm)))
    return model.requires_grad_(False).eval()


class FoldedNorm(nn.Module):
    """What remains of a BatchNorm folded into the layer before it: its ReLU, if any, and zeros in the padding."""

    def __init__(self, *, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        if self.rectified:
            x = torch.relu_(x)
        return x if padding is None else padding.clear(x)


class ClampedNorm(nn.Module):
    """What remains of a BatchNorm and a ReLU whose affine map was folded into the linear layer after them: a clamp.

    It leaves the padding as it is.
    """

    lower: Tensor
    upper: Tensor

    @torch.no_grad()
    def __init__(self, norm: nn.BatchNorm1d, layer: nn.Linear) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(norm)
        # A channel without scale is a constant, which goes into the bias. Smaller scales than float32 can divide by
        # are left by weight decay in channels that a network does not use.
        scale = torch.where(scale.abs() < MIN_SCALE, 0.0, scale)
        turn = torch.where(scale == 0, 0.0, -shift / scale)
        self.register_buffer("lower", torch.where(scale < 0, -torch.inf, turn).float())
        self.register_buffer("upper", torch.where(scale > 0, torch.inf, turn).float())
        self.one_sided = bool((scale > 0).all())
        constant = torch.where(scale == 0, shift.relu(), shift)
        weight = layer.weight.double()
        bias = weight @ constant + (0.0 if layer.bias is None else layer.bias.double())
        layer.weight = nn.Parameter((weight * scale).float(), requires_grad=False)
        layer.bias = nn.Parameter(bias.float(), requires_grad=False)

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        return torch.maximum(x, self.lower) if self.one_sided else torch.clamp(x, self.lower, self.upper)


class AffineNorm(nn.Module):
    """A trained BatchNorm over [..., channels], with the ReLU after it if there is one."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm1d, *, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        scale, shift = _scale_and_shift(norm)
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        x = torch.addcmul(self.shift, x, self.scale)
        if self.rectified:
            x = torch.relu_(x)
        return x if padding is None else padding.clear(x)


class BiasedConv(nn.Module):
    """A `MapConv` with the BatchNorm after it folded in, over [batch, frames, bands, channels]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: MapConv, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.stride, self.sides, self.groups = conv.stride, conv.sides, conv.groups
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride, self.sides, self.groups)


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand of a trained BatchNorm, float64 [channels]."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift + norm.bias.detach().double() if norm.affine else shift


@torch.no_grad()
def _folded(norm: nn.BatchNorm1d, layer: nn.Module) -> nn.Module:
    """Return a layer that computes the same as `layer` and the BatchNorm after it."""
    assert isinstance(layer, MapConv | nn.Linear)
    scale, bias = _scale_and_shift(norm)
    weight = (layer.weight.double() * scale.view(-1, *[1] * (layer.weight.dim() - 1))).float()
    if layer.bias is not None:
        bias = bias + layer.bias.double() * scale
    if isinstance(layer, MapConv):
        return BiasedConv(layer, weight, bias.float())
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias.float(), requires_grad=False)
    return layer

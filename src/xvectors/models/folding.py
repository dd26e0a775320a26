"""Fold the BatchNorms of a trained network into the layers before them, which makes it faster.

After training a BatchNorm is an affine map, so a linear layer or a convolution can take it in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.backbone import Backbone
from xvectors.models.layers.maps import MapConv
from xvectors.models.layers.padding import Padding


def fold_norms(model: Backbone) -> Backbone:
    """Fold every BatchNorm of `model` into the convolution or linear layer before it, or replace it by an affine map.

    The network is changed in place and returned. It computes the same within float32's rounding, but can no longer be
    trained. A pass on the CPU shows which layer feeds which BatchNorm; only neighbors in the same module are folded,
    because the output of a block may be used elsewhere too. A network from outside xvectors is left unchanged: its
    BatchNorms may act on another axis.
    """
    if type(model).__module__.partition(".")[0] != __name__.partition(".")[0]:
        return model.requires_grad_(False).eval()
    made_by: dict[int, tuple[nn.Module, Tensor]] = {}
    before: dict[nn.Module, nn.Module] = {}

    def note_output(module: nn.Module, inputs: object, output: Tensor) -> None:
        made_by[id(output)] = module, output  # keep the tensor, or another could get its id

    def note_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made_by:
            before[module] = made_by[id(inputs[0])][0]

    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)}
    layers = [module for module in model.modules() if isinstance(module, MapConv | nn.Linear)]
    hooks = [layer.register_forward_hook(note_output) for layer in layers]
    hooks += [norm.register_forward_pre_hook(note_input) for norm in norms.values()]
    with torch.no_grad():
        model.eval()(torch.zeros(1, model.context_frames + 1, model.input_dim))
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        parent, _, own = name.rpartition(".")
        home = model.get_submodule(parent)
        beside = [key for key, child in home.named_children() if child is before.get(norm)]
        if beside:
            setattr(home, beside[0], _folded(norm, before[norm]))
        setattr(home, own, FoldedNorm() if beside else AffineNorm(norm))
    return model.requires_grad_(False).eval()


class FoldedNorm(nn.Module):
    """A BatchNorm that was folded into the layer before it: it only clears the padding."""

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        return x if padding is None else padding.clear(x)


class AffineNorm(nn.Module):
    """A trained BatchNorm over [..., channels]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(norm)
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        x = x * self.scale + self.shift
        return x if padding is None else padding.clear(x)


class BiasedConv(nn.Module):
    """A `MapConv` with the BatchNorm after it folded in, over [batch, frames, bands, channels]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: MapConv, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        x = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return x.permute(0, 2, 3, 1)


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

"""A network for use alone. In: a trained network; out: the same with every BatchNorm in the weights before it.

After training a BatchNorm is an affine map; where it follows a linear layer or a convolution, the two are one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.backbone import Backbone
from xvectors.models.pooling import Padding
from xvectors.models.resnet import MapConv


def fold_norms(model: Backbone) -> Backbone:
    """Put every BatchNorm of `model` into the convolution or linear layer before it, else an affine map in its place.

    The network is changed, and returned: it computes what it computed after training, within float32's rounding, and
    can be trained no more. Who is given whose output shows in one pass through it, on the CPU. Only neighbors in one
    module count: what a block returns may be used elsewhere, too. A network from outside xvectors is left as it is,
    since its BatchNorms may stand on another axis.
    """
    if type(model).__module__.partition(".")[0] != __name__.partition(".")[0]:
        return model.requires_grad_(False).eval()
    made_by: dict[int, tuple[nn.Module, Tensor]] = {}
    before: dict[nn.Module, nn.Module] = {}

    def note_output(module: nn.Module, inputs: object, output: Tensor) -> None:
        made_by[id(output)] = module, output  # the tensor too: once it is gone, another may get its id

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
    """A BatchNorm that lies in the weights before it: what is left is to clear the padding."""

    def forward(self, x: Tensor, padding: Padding | None = None) -> Tensor:
        return x if padding is None else padding.clear(x)


class AffineNorm(nn.Module):
    """A BatchNorm after training, on [..., channels]."""

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
    """A `MapConv` and the BatchNorm behind it, on [batch, frames, bands, channels]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: MapConv, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride, conv.padding
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, self.stride, self.padding)
        return x.permute(0, 2, 3, 1)


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """What a BatchNorm multiplies with and adds after training, float64 [channels]."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift + norm.bias.detach().double() if norm.affine else shift


@torch.no_grad()
def _folded(norm: nn.BatchNorm1d, layer: nn.Module) -> nn.Module:
    """The layer that computes what `layer` and the BatchNorm behind it compute."""
    assert isinstance(layer, MapConv | nn.Linear)
    scale, bias = _scale_and_shift(norm)
    weight = (layer.weight.double() * scale.view(-1, *[1] * (layer.weight.dim() - 1))).float()
    if isinstance(layer, MapConv):
        return BiasedConv(layer, weight, bias.float())
    if layer.bias is not None:
        bias = bias + layer.bias.double() * scale
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias.float(), requires_grad=False)
    return layer

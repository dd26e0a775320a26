"""ResNets and their relatives: what the importers of several toolkits share."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from xvectors.config import FeaturesConfig
from xvectors.errors import CheckpointError
from xvectors.system.importers.family import Source
from xvectors.system.importers.tensors import Tensors, band_major, stages

STAGES = range(1, 5)
BANDS_STRIDE = 8
"""Filterbanks of the features per band of the last map."""


def depths_of(source: Source, prefix: str = "") -> list[int]:
    """Return the number of blocks in each of the four stages. Raises CheckpointError where one has none."""
    depths = [stages(source, rf"{prefix.replace('.', '[.]')}layer{stage}[.](\d+)[.]") for stage in STAGES]
    if 0 in depths:
        raise CheckpointError(
            f"{source.path}: {prefix}layer{depths.index(0) + 1} has no blocks; a ResNet has four stages"
        )
    return depths


def residual_blocks(tensors: Tensors, depths: list[int], *, shortcut: str) -> int:
    """Copy the first convolution and all residual blocks; return the number of convolutions in a block."""
    tensors.map_conv("conv1", "first")
    tensors.norm("bn1", "first_norm")
    convolutions = 3 if "layer1.0.conv3.weight" in tensors else 2
    names = [f"layer{stage}.{i}" for stage, depth in zip(STAGES, depths, strict=True) for i in range(depth)]
    for index, theirs in enumerate(names):
        ours = f"blocks.{index}"
        for number in range(1, convolutions + 1):
            tensors.map_conv(f"{theirs}.conv{number}", f"{ours}.conv{number}")
            tensors.norm(f"{theirs}.bn{number}", f"{ours}.norm{number}")
        map_shortcut(tensors, f"{theirs}.{shortcut}", ours)
    return convolutions


def map_shortcut(tensors: Tensors, theirs: str, ours: str) -> None:
    """Copy the convolution and BatchNorm of a skip connection, where there is one."""
    if f"{theirs}.0.weight" in tensors:
        tensors.map_conv(f"{theirs}.0", f"{ours}.shortcut")
        tensors.norm(f"{theirs}.1", f"{ours}.shortcut_norm")


def pooled_embedding(tensors: Tensors, theirs: str, channels: int, features: FeaturesConfig) -> FeaturesConfig:
    """Copy the linear layer behind means and deviations of a map of `channels`; return the features with its bands.

    Raises CheckpointError where the layer does not fit such a map.
    """
    weight = tensors.take(f"{theirs}.weight", dims=2)
    if weight.numel() and (not channels or weight.shape[1] % (2 * channels)):
        raise CheckpointError(
            f"{tensors.source.path}: {tensors.prefix}{theirs}.weight takes {weight.shape[1]} values, which are not the "
            f"means and deviations of a map of {channels} channels; its pooling is another"
        )
    tensors.put("embedding.weight", band_major(weight, channels, parts=2))
    tensors.put("embedding.bias", tensors.take(f"{theirs}.bias"))
    if not weight.numel():
        return features
    return replace(features, num_mels=BANDS_STRIDE * (weight.shape[1] // (2 * channels)))


def outputs_of(tensors: Tensors, theirs: str) -> int:
    """Return the number of outputs of a layer, 0 where it is missing."""
    weight: Tensor = tensors.take(f"{theirs}.weight")
    return len(weight)

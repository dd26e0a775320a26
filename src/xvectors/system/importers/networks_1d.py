"""What the importers of ECAPA-TDNN and x-vectors share: sizes, and affine maps that take a place in our layout."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from xvectors.config import FeaturesConfig
from xvectors.config.schema import Value
from xvectors.errors import CheckpointError
from xvectors.models.ecapa import DILATIONS
from xvectors.models.xvector import POOLED_DIM
from xvectors.system.importers.family import Source
from xvectors.system.importers.tensors import Tensors

EPSILON = 1e-5
"""What a BatchNorm of torch adds to the variance."""


def reference_network(source: Source, module: str, name: str, **settings: Any) -> nn.Module:
    """Build another toolkit's own class, where its package is installed, with the weights of a checkpoint."""
    network = getattr(importlib.import_module(module), name)(**settings)
    network.load_state_dict(dict(source.tensors), strict=False)
    return cast(nn.Module, network.eval())


def shift(tensors: Tensors, name: str, bias: Tensor) -> None:
    """Store a BatchNorm that adds `bias` once trained."""
    plain(tensors, name, len(bias))
    tensors.put(f"{name}.bias", bias)


def plain(tensors: Tensors, name: str, channels: int) -> None:
    """Store a BatchNorm that changes nothing once trained."""
    tensors.put(f"{name}.weight", torch.ones(channels))
    tensors.put(f"{name}.bias", torch.zeros(channels))
    tensors.put(f"{name}.running_mean", torch.zeros(channels))
    tensors.put(f"{name}.running_var", torch.full((channels,), 1.0 - EPSILON))


def identity(tensors: Tensors, name: str, width: int) -> None:
    """Store a linear layer that changes nothing, in place of one that a checkpoint does not have."""
    tensors.put(f"{name}.weight", torch.eye(width))
    tensors.put(f"{name}.bias", torch.zeros(width))


def attention(tensors: Tensors, hidden: str, score: str, *, channels: int) -> bool:
    """Copy the attention of channels; return whether it depends on the recording's mean and deviation.

    Their hidden layer takes a frame, the means and the deviations side by side; ours multiplies the last two once per
    recording. The bias of the scores has no effect on a softmax over time.
    """
    weight = tensors.take(f"{hidden}.weight", dims=3).flatten(1)
    tensors.put("pooling.hidden.weight", weight[:, :channels])
    tensors.put("pooling.hidden.bias", tensors.take(f"{hidden}.bias"))
    has_context = weight.shape[1] > channels
    if has_context:
        tensors.put("pooling.context.weight", weight[:, channels:])
    tensors.linear(score, "pooling.score", bias=False)
    tensors.take(f"{score}.bias")
    return has_context


def with_mels(features: FeaturesConfig, first: Tensor) -> FeaturesConfig:
    """Return a toolkit's features with the number of filterbanks that the first layer [channels, mels, taps] takes."""
    return replace(features, num_mels=first.shape[1]) if first.numel() else features


def ecapa_sizes(source: Source, *, first: Tensor, aggregate: Tensor, squeeze: Tensor, parts: int) -> dict[str, Value]:
    """Return the settings of ECAPA-TDNN that follow from the shapes of its weights.

    Parameters
    ----------
    first
        [channels, mels, 5].
    aggregate
        [pooled_dim, 3 * channels, 1].
    squeeze
        [bottleneck_dim, channels, 1] or without the last axis.
    parts
        Number of parts that a Res2Net layer convolves.
    """
    channels = first.shape[0]
    if first.numel() and aggregate.numel() and aggregate.shape[1] != len(DILATIONS) * channels:
        raise CheckpointError(
            f"{source.path}: its aggregation takes {aggregate.shape[1]} channels, where three blocks of {channels} are "
            "expected; ECAPA-TDNN of another depth cannot be imported"
        )
    return {
        "channels": channels,
        "pooled_dim": aggregate.shape[0],
        "bottleneck_dim": squeeze.shape[0],
        "res2net_scale": parts + 1,
        "summed": False,
    }


def xvector_widths(source: Source, width: int, pooled_dim: int) -> dict[str, Value]:
    """Return `size` and `internal_dim` of an x-vector network with these widths."""
    size = pooled_dim / POOLED_DIM
    internal_dim = round(width / size) if size else 0
    if size and (round(internal_dim * size), round(POOLED_DIM * size)) != (width, pooled_dim):
        raise CheckpointError(
            f"{source.path}: its frame layers have {width} and {pooled_dim} channels; our x-vector cannot have both"
        )
    return {"size": size, "internal_dim": internal_dim}

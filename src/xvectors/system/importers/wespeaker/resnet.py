"""WeSpeaker's ResNets, SimAM-ResNets and CAM++, and pyannote's copy of its ResNet-34."""

from __future__ import annotations

import importlib
from dataclasses import replace

from torch import nn

from xvectors.config import ModelConfig
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import WESPEAKER
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.networks_1d import reference_network
from xvectors.system.importers.networks_2d import depths_of, outputs_of, pooled_embedding, residual_blocks
from xvectors.system.importers.tensors import Tensors, band_major
from xvectors.system.importers.threedspeaker.campplus import convert_campplus, is_campplus, is_wespeaker
from xvectors.system.importers.wespeaker.settings import with_settings

README = "WeSpeaker's README for VoxCeleb"
RESNET_FIGURES: dict[tuple[int, ...], str] = {
    (3, 4, 6, 3): "0.723 %, with large-margin fine-tuning and AS-norm: ",
    (6, 16, 48, 3): "0.505 %, with large-margin fine-tuning and AS-norm: ",
    (10, 20, 64, 3): "0.447 %, with large-margin fine-tuning and AS-norm: ",
}
"""EER on VoxCeleb1-O by depths; those of 34 are of basic blocks, the others of bottleneck blocks."""
CAMPPLUS_NOTE = (
    "taken for a model that WeSpeaker trained; if it is one of 3D-Speaker's in a folder of WeSpeaker's, whose features "
    "differ, import it with --family 3dspeaker-campplus"
)
PYANNOTE = "resnet."
"""Prefix of all names in pyannote's checkpoint."""


def _is_resnet(source: Source, prefix: str = "") -> bool:
    names = ("conv1.weight", "layer4.0.conv1.weight", "layer4.0.shortcut.0.weight", "seg_1.weight")
    return has(source, *(prefix + name for name in names)) and not has(source, prefix + "layer1.0.convs.0.weight")


def _convert_resnet(source: Source) -> Imported:
    return with_settings(source, _resnet(source), "TSTP")


def _resnet(source: Source, prefix: str = "", pooling: str = "tstp") -> Imported:
    tensors = Tensors(source, prefix)
    if "seg_2.weight" in tensors:
        raise CheckpointError(
            f"{source.path}: has a second embedding layer (seg_2), as WeSpeaker's ResNets before July 2022; only "
            "networks with one are imported"
        )
    depths = depths_of(source, prefix)
    channels = outputs_of(tensors, "conv1")
    is_deep = residual_blocks(tensors, depths, shortcut="shortcut") == 3
    features = pooled_embedding(tensors, "seg_1", channels * 8 * (4 if is_deep else 1), WESPEAKER)
    figure = RESNET_FIGURES.get(tuple(depths)) if is_deep == (depths != [3, 4, 6, 3]) else None
    return Imported(
        features=features,
        model=ModelConfig(
            name="bottleneck_resnet" if is_deep else "resnet34",
            settings={
                "channels": channels,
                "depths": depths,
                "embedding_dim": outputs_of(tensors, "seg_1"),
                "pooling": pooling,
            },
        ),
        weights=tensors.finish(ignored=("projection.",)),
        figures={"VoxCeleb1-O EER": figure + README} if figure else {},
    )


def _resnet_class(source: Source) -> nn.Module:
    tensors = source.tensors
    module = importlib.import_module("wespeaker.models.resnet")
    is_deep = "layer1.0.conv3.weight" in tensors
    channels = len(tensors["conv1.weight"])
    embedding = tensors["seg_1.weight"]
    return reference_network(
        source,
        "wespeaker.models.resnet",
        "ResNet",
        block=module.Bottleneck if is_deep else module.BasicBlock,
        num_blocks=depths_of(source),
        m_channels=channels,
        feat_dim=embedding.shape[1] // (2 * channels * (4 if is_deep else 1)),
        embed_dim=len(embedding),
    )


def _is_simam(source: Source) -> bool:
    return has(source, "front.conv1.weight", "front.layer4.0.conv1.weight", "pooling.attention.0.weight")


def _convert_simam(source: Source) -> Imported:
    front, rest = Tensors(source, "front."), Tensors(source)
    depths = depths_of(source, "front.")
    channels = outputs_of(front, "conv1")
    residual_blocks(front, depths, shortcut="downsample")
    maps = max(8 * channels, 1)
    rest.put("pooling.hidden.weight", band_major(rest.take("pooling.attention.0.weight", dims=3), maps))
    rest.put("pooling.hidden.bias", rest.take("pooling.attention.0.bias"))
    rest.norm("pooling.attention.2", "pooling.hidden_norm")
    scores = rest.take("pooling.attention.3.weight", dims=3).flatten(1)
    rest.put("pooling.score.weight", band_major(scores.T, maps).T)
    rest.take("pooling.attention.3.bias")  # without effect on a softmax over time
    features = pooled_embedding(rest, "bottleneck", maps, WESPEAKER)
    embedding_dim = outputs_of(rest, "bottleneck")
    weights = front.finish() | rest.finish(ignored=("projection.", "front."))
    is_largest = depths == [6, 16, 24, 3]
    imported = Imported(
        features=features,
        model=ModelConfig(
            name="simam_resnet",
            settings={"channels": channels, "depths": depths, "embedding_dim": embedding_dim, "pooling": "asp"},
        ),
        weights=weights,
        figures={"VoxCeleb1-O EER": f"0.202 %, trained on VoxBlink2 and VoxCeleb2: {README}"} if is_largest else {},
    )
    return with_settings(source, imported, "ASP")


def _simam_class(source: Source) -> nn.Module:
    depth = 100 if depths_of(source, "front.")[1] == 16 else 34
    channels = len(source.tensors["front.conv1.weight"])
    return reference_network(
        source,
        "wespeaker.models.samresnet",
        f"SimAM_ResNet{depth}_ASP",
        in_planes=channels,
        acoustic_dim=source.tensors["bottleneck.weight"].shape[1] // (2 * channels),
        embed_dim=len(source.tensors["bottleneck.weight"]),
    )


def _convert_campplus(source: Source) -> Imported:
    return with_settings(source, replace(convert_campplus(source, WESPEAKER, "tstp"), notes=(CAMPPLUS_NOTE,)), "TSTP")


def _campplus_class(source: Source) -> nn.Module:
    embedding = source.tensors["xvector.dense.linear.weight"]
    return reference_network(
        source, "wespeaker.models.campplus", "CAMPPlus", feat_dim=80, embed_dim=len(embedding), pooling_func="TSTP"
    )


FAMILIES = (
    Family(
        name="wespeaker-resnet",
        title="WeSpeaker ResNet",
        matches=_is_resnet,
        convert=_convert_resnet,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_resnet_class,
    ),
    Family(
        name="wespeaker-simam",
        title="WeSpeaker SimAM-ResNet",
        matches=_is_simam,
        convert=_convert_simam,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_simam_class,
    ),
    Family(
        name="wespeaker-campplus",
        title="WeSpeaker CAM++",
        matches=lambda source: is_campplus(source) and is_wespeaker(source),
        convert=_convert_campplus,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_campplus_class,
    ),
    Family(
        name="pyannote-resnet",
        title="pyannote's WeSpeaker ResNet-34",
        matches=lambda source: _is_resnet(source, PYANNOTE),
        # its deviations have no constant added to the variance
        convert=lambda source: _resnet(source, PYANNOTE, "unbiased_statistics"),
        seen=False,
    ),
)

"""Models of 3D-Speaker (ModelScope): CAM++."""

from __future__ import annotations

import re
from typing import cast

from torch import nn

from xvectors.config import FeaturesConfig, ModelConfig
from xvectors.errors import CheckpointError
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.tensors import Tensors, band_major, stages

FBANK = FeaturesConfig(num_mels=80, mean_normalization=True, normalize_level=False)
"""3D-Speaker's front-end: Kaldi's defaults with 80 filterbanks, less the mean of the recording."""


def is_campplus(source: Source) -> bool:
    """Whether the tensors are those of CAM++, whose names 3D-Speaker and WeSpeaker share."""
    return has(source, "head.conv1.weight", "xvector.tdnn.linear.weight", "xvector.dense.linear.weight")


def is_wespeaker(source: Source) -> bool:
    """Whether a file comes from WeSpeaker: its models lie beside a config.yaml, or keep the training's projection."""
    return "projection.weight" in source.tensors or (source.path.parent / "config.yaml").is_file()


def convert_campplus(source: Source, features: FeaturesConfig, pooling: str) -> Imported:
    """Convert CAM++ of any width and depth. Raises CheckpointError for another network."""
    depths = [stages(source, rf"xvector\.block{block}\.tdnnd(\d+)\.") for block in (1, 2, 3)]
    tensors = Tensors(source)
    embedding = tensors.take("xvector.dense.linear.weight", dims=3)
    first = tensors.take("xvector.tdnn.linear.weight", dims=3)
    maps = tensors.take("head.conv1.weight", dims=4)
    growth = tensors.take("xvector.block1.tdnnd1.cam_layer.linear_local.weight", dims=3)
    if any(depth == 0 for depth in depths) or any(re.match(r"xvector\.block4\.", name) for name in source.tensors):
        raise CheckpointError(f"{source.path}: CAM++ has three blocks of dense layers; this network has others")
    settings: dict[str, bool | int | float | str | list[int]] = {
        "embedding_dim": embedding.shape[0],
        "map_channels": maps.shape[0],
        "channels": first.shape[0],
        "growth": growth.shape[0],
        "depths": depths,
        "pooling": pooling,
    }
    tensors.map_conv("head.conv1", "front.first")
    tensors.norm("head.bn1", "front.first_norm")
    for index in range(4):
        theirs, ours = f"head.layer{index // 2 + 1}.{index % 2}", f"front.blocks.{index}"
        for number in (1, 2):
            tensors.map_conv(f"{theirs}.conv{number}", f"{ours}.conv{number}")
            tensors.norm(f"{theirs}.bn{number}", f"{ours}.norm{number}")
        if index % 2 == 0:
            tensors.map_conv(f"{theirs}.shortcut.0", f"{ours}.shortcut")
            tensors.norm(f"{theirs}.shortcut.1", f"{ours}.shortcut_norm")
    tensors.map_conv("head.conv2", "front.last")
    tensors.norm("head.bn2", "front.last_norm")
    # the flattened map is ordered by channel in theirs and by band in ours
    taps = [band_major(first[:, :, tap], maps.shape[0]) for tap in range(first.shape[2])]
    tensors.put_stacked("first.weight", taps)
    tensors.norm("xvector.tdnn.nonlinear.batchnorm", "first_norm")
    for block, depth in enumerate(depths):
        for layer in range(depth):
            theirs, ours = f"xvector.block{block + 1}.tdnnd{layer + 1}", f"blocks.{block}.layers.{layer}"
            tensors.norm(f"{theirs}.nonlinear1.batchnorm", f"{ours}.input_norm")
            tensors.linear(f"{theirs}.linear1", f"{ours}.bottleneck", bias=False)
            tensors.norm(f"{theirs}.nonlinear2.batchnorm", f"{ours}.norm")
            tensors.tdnn(f"{theirs}.cam_layer.linear_local", f"{ours}.tdnn", bias=False)
            tensors.linear(f"{theirs}.cam_layer.linear1", f"{ours}.squeeze")
            tensors.linear(f"{theirs}.cam_layer.linear2", f"{ours}.excite")
        tensors.norm(f"xvector.transit{block + 1}.nonlinear.batchnorm", f"blocks.{block}.norm")
        tensors.linear(f"xvector.transit{block + 1}.linear", f"blocks.{block}.halve", bias=False)
    tensors.norm("xvector.out_nonlinear.batchnorm", "last_norm")
    tensors.linear("xvector.dense.linear", "embedding", bias=False)
    tensors.norm("xvector.dense.nonlinear.batchnorm", "embedding_norm", affine=False, own_affine=False)
    return Imported(
        features=features,
        model=ModelConfig(name="campplus", settings=settings),
        weights=tensors.finish(ignored=("projection.", "classifier.")),
    )


def _convert(source: Source) -> Imported:
    return convert_campplus(source, FBANK, "unbiased_statistics")


def _reference(source: Source) -> nn.Module:
    from speakerlab.models.campplus.DTDNN import CAMPPlus

    network = CAMPPlus(feat_dim=80, embedding_size=len(source.tensors["xvector.dense.linear.weight"]))
    network.load_state_dict(dict(source.tensors), strict=False)
    return cast(nn.Module, network.eval())


FAMILIES = (
    Family(
        name="3dspeaker-campplus",
        title="3D-Speaker CAM++",
        matches=lambda source: is_campplus(source) and not is_wespeaker(source),
        convert=_convert,
        seen=True,
        reference="speakerlab-slim",
        reference_network=_reference,
    ),
)

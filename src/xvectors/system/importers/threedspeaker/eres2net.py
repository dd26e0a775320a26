"""3D-Speaker's ERes2NetV2."""

from __future__ import annotations

from torch import nn

from xvectors.config import ModelConfig
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import THREE_D_SPEAKER
from xvectors.models.eres2net import FIRST_FUSED_STAGE
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.networks_1d import reference_network
from xvectors.system.importers.networks_2d import STAGES, depths_of, map_shortcut, outputs_of, pooled_embedding
from xvectors.system.importers.tensors import Tensors, stages


def _matches(source: Source) -> bool:
    return has(source, "layer1.0.convs.0.weight", "layer3_ds.weight", "fuse34.local_att.0.weight", "seg_1.weight")


def _convert(source: Source) -> Imported:
    tensors = Tensors(source)
    if "seg_2.weight" in tensors:
        raise CheckpointError(
            f"{source.path}: has a second embedding layer (seg_2); only networks with one are imported"
        )
    depths, sizes = depths_of(source), _sizes(source)
    tensors.map_conv("conv1", "first")
    tensors.norm("bn1", "first_norm")
    for stage, depth in zip(STAGES, depths, strict=True):
        for block in range(depth):
            theirs, ours = f"layer{stage}.{block}", f"stages.{stage - 1}.{block}"
            tensors.map_conv(f"{theirs}.conv1", f"{ours}.split")
            tensors.norm(f"{theirs}.bn1", f"{ours}.split_norm")
            for part in range(sizes["scale"]):
                tensors.map_conv(f"{theirs}.convs.{part}", f"{ours}.convs.{part}")
                tensors.norm(f"{theirs}.bns.{part}", f"{ours}.norms.{part}")
            if stage > FIRST_FUSED_STAGE:
                for part in range(sizes["scale"] - 1):
                    _fusion(tensors, f"{theirs}.fuse_models.{part}", f"{ours}.fusions.{part}")
            tensors.map_conv(f"{theirs}.conv3", f"{ours}.merge")
            tensors.norm(f"{theirs}.bn3", f"{ours}.merge_norm")
            map_shortcut(tensors, f"{theirs}.shortcut", ours)
    tensors.map_conv("layer3_ds", "third_to_fourth")
    _fusion(tensors, "fuse34", "fusion")
    features = pooled_embedding(tensors, "seg_1", 8 * sizes["channels"] * sizes["expansion"], THREE_D_SPEAKER)
    return Imported(
        features=features,
        model=ModelConfig(
            name="eres2netv2",
            settings={
                **sizes,
                "depths": depths,
                "embedding_dim": outputs_of(tensors, "seg_1"),
                "pooling": "unbiased_statistics",
            },
        ),
        weights=tensors.finish(ignored=("classifier.", "projection.")),
    )


def _sizes(source: Source) -> dict[str, int]:
    """Return the settings that follow from the shapes of the first block. Raises CheckpointError without one."""
    try:
        channels = len(source.tensors["conv1.weight"])
        width = len(source.tensors["layer1.0.convs.0.weight"])
        outputs = len(source.tensors["layer1.0.conv3.weight"])
    except KeyError as error:
        raise CheckpointError(f"{source.path}: lacks the tensor {error}") from error
    return {
        "channels": channels,
        "base_width": -(-64 * width // channels),
        "scale": stages(source, r"layer1[.]0[.]convs[.](\d+)[.]"),
        "expansion": outputs // channels,
    }


def _fusion(tensors: Tensors, theirs: str, ours: str) -> None:
    """Copy a fusion; the biases before its BatchNorms go into their means."""
    for conv, norm, name in ((0, 1, "hidden"), (3, 4, "weigh")):
        tensors.map_conv(f"{theirs}.local_att.{conv}", f"{ours}.{name}")
        tensors.norm(f"{theirs}.local_att.{norm}", f"{ours}.{name}_norm")
        bias, key = tensors.take(f"{theirs}.local_att.{conv}.bias"), f"{ours}.{name}_norm.running_mean"
        if bias.shape == tensors.weights[key].shape:
            tensors.put(key, tensors.weights[key] - bias)


def _class(source: Source) -> nn.Module:
    sizes = _sizes(source)
    embedding = source.tensors["seg_1.weight"]
    return reference_network(
        source,
        "speakerlab.models.eres2net.ERes2NetV2",
        "ERes2NetV2",
        num_blocks=depths_of(source),
        m_channels=sizes["channels"],
        feat_dim=embedding.shape[1] // (2 * sizes["channels"] * sizes["expansion"]),
        embedding_size=len(embedding),
        baseWidth=sizes["base_width"],
        scale=sizes["scale"],
        expansion=sizes["expansion"],
    )


FAMILIES = (
    Family(
        name="3dspeaker-eres2netv2",
        title="3D-Speaker ERes2NetV2",
        matches=_matches,
        convert=_convert,
        seen=False,
        reference="speakerlab-slim",
        reference_network=_class,
    ),
)

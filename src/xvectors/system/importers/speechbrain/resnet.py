"""SpeechBrain's ResNet (spkrec-resnet-voxceleb)."""

from __future__ import annotations

from torch import nn

from xvectors.config import ModelConfig
from xvectors.features.toolkits import SPEECHBRAIN
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.networks_1d import reference_network
from xvectors.system.importers.speechbrain.embedding_mean import find_backend
from xvectors.system.importers.tensors import NORM, Tensors, band_major, stages

STAGES = range(1, 5)


def _matches(source: Source) -> bool:
    return has(source, "layer1.0.se.fc.0.weight", "norm_stats.running_mean", "fc_embed.weight")


def _convert(source: Source) -> Imported:
    tensors = Tensors(source)
    depths = [stages(source, rf"layer{stage}\.(\d+)\.") for stage in STAGES]
    channels = tensors.take("conv1.weight", dims=4).shape[0]
    # theirs convolves over [frames, bands], as ours does
    tensors.put("first.weight", tensors.take("conv1.weight", dims=4))
    tensors.norm("bn1", "first_norm")
    names = [f"layer{stage}.{i}" for stage, depth in zip(STAGES, depths, strict=True) for i in range(depth)]
    for index, theirs in enumerate(names):
        ours = f"blocks.{index}"
        for number in (1, 2, 3):
            tensors.norm(f"{theirs}.bn{number}", f"{ours}.norm{number}")
            tensors.put(f"{ours}.conv{number}.weight", tensors.take(f"{theirs}.conv{number}.weight", dims=4))
        if any(name.startswith(f"{theirs}.downsample.") for name in source.tensors):
            tensors.put(f"{ours}.shortcut.weight", tensors.take(f"{theirs}.downsample.0.weight", dims=4))
            tensors.norm(f"{theirs}.downsample.1", f"{ours}.shortcut_norm")
        if theirs.startswith(("layer1.", "layer2.")):
            tensors.linear(f"{theirs}.se.fc.0", f"{ours}.squeeze")
            tensors.linear(f"{theirs}.se.fc.2", f"{ours}.excite")
    # the flattened map is ordered by channel in theirs and by band in ours
    maps = max(2 * channels, 1)
    tensors.put("pooling.hidden.weight", band_major(tensors.take("attention.0.weight", dims=3), maps))
    tensors.put("pooling.hidden.bias", tensors.take("attention.0.bias"))
    tensors.norm("attention.2", "pooling.hidden_norm")
    scores = tensors.take("attention.3.weight", dims=3).flatten(1)
    tensors.put("pooling.score.weight", band_major(scores.T, maps).T)
    tensors.take("attention.3.bias")  # without effect on a softmax over time
    for key in NORM:
        value = tensors.take(f"norm_stats.{key}", dims=1)
        tensors.put(f"pooled_norm.{key}", band_major(value[None], maps, parts=2)[0] if value.numel() else value)
    embedding = tensors.take("fc_embed.weight", dims=2)
    tensors.put("embedding.weight", band_major(embedding, maps, parts=2))
    tensors.put("embedding.bias", tensors.take("fc_embed.bias"))
    tensors.norm("norm_embed", "embedding_norm")
    weights = tensors.finish(ignored=("classifier.",))
    backend, notes = find_backend(source.path, embedding.shape[0])
    return Imported(
        features=SPEECHBRAIN,
        model=ModelConfig(
            name="preact_resnet",
            settings={"channels": channels, "depths": depths, "embedding_dim": embedding.shape[0]},
        ),
        weights=weights,
        backend=backend,
        notes=notes,
    )


def _class(source: Source) -> nn.Module:
    return reference_network(
        source,
        "speechbrain.lobes.models.ResNet",
        "ResNet",
        channels=[len(source.tensors[f"layer{stage}.0.bn2.bias"]) for stage in STAGES],
        block_sizes=[stages(source, rf"layer{stage}\.(\d+)\.") for stage in STAGES],
        lin_neurons=len(source.tensors["fc_embed.bias"]),
    )


FAMILIES = (
    Family(
        name="speechbrain-resnet",
        title="SpeechBrain ResNet",
        matches=_matches,
        convert=_convert,
        seen=False,
        reference="speechbrain",
        reference_network=_class,
    ),
)

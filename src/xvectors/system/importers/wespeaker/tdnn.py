"""WeSpeaker's ECAPA-TDNN and x-vector, and the x-vector of 3D-Speaker, which is the same network."""

from __future__ import annotations

from torch import nn

from xvectors.config import ModelConfig
from xvectors.config.schema import Value
from xvectors.features.toolkits import THREE_D_SPEAKER, WESPEAKER
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.networks_1d import (
    attention,
    ecapa_sizes,
    identity,
    plain,
    reference_network,
    shift,
    with_mels,
    xvector_widths,
)
from xvectors.system.importers.tensors import Tensors, stages
from xvectors.system.importers.wespeaker.settings import with_settings

ECAPA_FIGURES = {
    512: "0.782 %, with large-margin fine-tuning and AS-norm: WeSpeaker's README for VoxCeleb",
    1024: "0.707 %, with large-margin fine-tuning, AS-norm and QMF: WeSpeaker's README for VoxCeleb",
}
"""EER on VoxCeleb1-O by the number of channels, of the networks whose attention depends on the whole recording."""
XVECTOR_FIGURE = "1.59 %, with large-margin fine-tuning and AS-norm: WeSpeaker's README for VoxCeleb"


def _is_ecapa(source: Source) -> bool:
    return has(source, "layer1.conv.weight", "layer2.se_res2block.0.conv.weight", "pool.linear1.weight")


def _convert_ecapa(source: Source) -> Imported:
    tensors = Tensors(source)
    first, aggregate = tensors.take("layer1.conv.weight", dims=3), tensors.take("conv.weight", dims=3)
    parts = stages(source, r"layer2\.se_res2block\.1\.convs\.(\d+)\.")
    squeeze = tensors.take("layer2.se_res2block.3.linear1.weight", dims=2)
    settings = ecapa_sizes(source, first=first, aggregate=aggregate, squeeze=squeeze, parts=parts)
    _conv(tensors, "layer1.conv", "layer1.bn", "first")
    for block in range(3):
        theirs, ours = f"layer{block + 2}.se_res2block", f"blocks.{block}"
        _conv(tensors, f"{theirs}.0.conv", f"{theirs}.0.bn", f"{ours}.before")
        for part in range(parts):
            _conv(tensors, f"{theirs}.1.convs.{part}", f"{theirs}.1.bns.{part}", f"{ours}.parts.{part}")
        _conv(tensors, f"{theirs}.2.conv", f"{theirs}.2.bn", f"{ours}.after")
        # theirs leaves the last part as it is, ours the first
        width = first.shape[0] // (parts + 1)
        for key, value in list(tensors.weights.items()):
            if key.startswith(f"{ours}.before."):
                tensors.put(key, value.roll(width, dims=0))
        mixed = f"{ours}.after.tdnn.linear.weight"
        tensors.put(mixed, tensors.weights[mixed].roll(width, dims=1))
        tensors.linear(f"{theirs}.3.linear1", f"{ours}.squeeze")
        tensors.linear(f"{theirs}.3.linear2", f"{ours}.excite")
    tensors.linear("conv", "aggregate")
    has_context = attention(tensors, "pool.linear1", "pool.linear2", channels=aggregate.shape[0])
    tensors.norm("bn", "pooled_norm")
    embedding = tensors.take("linear.weight", dims=2)
    tensors.linear("linear", "embedding", bias=False)
    bias = tensors.take("linear.bias")
    if "bn2.running_mean" in tensors:
        tensors.norm("bn2", "embedding_norm")
        tensors.put("embedding_norm.running_mean", tensors.weights["embedding_norm.running_mean"] - bias)
    else:
        shift(tensors, "embedding_norm", bias)
    settings |= {
        "embedding_dim": embedding.shape[0],
        "pooling": "astp" if has_context else "channel",
        "variance_floor": 1e-7,
    }
    imported = Imported(
        features=with_mels(WESPEAKER, first),
        model=ModelConfig(name="ecapa", settings=settings),
        weights=tensors.finish(ignored=("projection.",)),
        figures={"VoxCeleb1-O EER": ECAPA_FIGURES[first.shape[0]]}
        if has_context and first.shape[0] in ECAPA_FIGURES
        else {},
    )
    return with_settings(source, imported, "ASTP")


def _conv(tensors: Tensors, conv: str, norm: str, ours: str) -> None:
    tensors.tdnn(conv, f"{ours}.tdnn")
    tensors.norm(norm, f"{ours}.norm")


def _is_xvector(source: Source) -> bool:
    return has(source, "frame_1.conv_1d.weight", "frame_5.bn.running_mean", "seg_1.weight")


def _convert_xvector(source: Source) -> Imported:
    """Convert WeSpeaker's, whose embedding is the output of the second segment layer, or 3D-Speaker's, of the first."""
    tensors = Tensors(source)
    first, last = tensors.take("frame_1.conv_1d.weight", dims=3), tensors.take("frame_5.conv_1d.weight", dims=3)
    for number in range(1, 6):
        tensors.tdnn(f"frame_{number}.conv_1d", f"tdnn{number}")
        tensors.norm(f"frame_{number}.bn", f"bn{number}", affine=False)
    tensors.linear("seg_1", "seg_fc1")
    width = len(tensors.weights["seg_fc1.bias"])
    plain(tensors, "pool_bn", tensors.weights["seg_fc1.weight"].shape[-1])
    plain(tensors, "seg_bn2", width)
    has_second = any(name.startswith("seg_2.") for name in source.tensors)
    if has_second:
        tensors.norm("seg_bn_1", "seg_bn1", affine=False)
        tensors.linear("seg_2", "seg_fc2")
        own: dict[str, Value] = {"embedding_layer": 2, "pooling": "tstp"}
    else:
        plain(tensors, "seg_bn1", width)
        identity(tensors, "seg_fc2", width)
        # where a deviation is 0, theirs is the root of 1e-8
        own = {"pooling": "unbiased_statistics", "variance_floor": 1e-8}
    settings = {
        **xvector_widths(source, first.shape[0], last.shape[0]),
        "embedding_dim": width,
        "batch_norm": True,
        **own,
    }
    imported = Imported(
        features=with_mels(WESPEAKER if has_second else THREE_D_SPEAKER, first),
        model=ModelConfig(name="xvector", settings=settings),
        weights=tensors.finish(ignored=("projection.", "classifier.")),
        figures={"VoxCeleb1-O EER": XVECTOR_FIGURE} if has_second else {},
    )
    return with_settings(source, imported, "TSTP") if has_second else imported


def _ecapa_class(source: Source) -> nn.Module:
    channels, mels, _ = source.tensors["layer1.conv.weight"].shape
    return reference_network(
        source,
        "wespeaker.models.ecapa_tdnn",
        "ECAPA_TDNN",
        channels=channels,
        feat_dim=mels,
        embed_dim=len(source.tensors["linear.bias"]),
        global_context_att=source.tensors["pool.linear1.weight"].shape[1] > len(source.tensors["conv.weight"]),
        emb_bn="bn2.running_mean" in source.tensors,
    )


def _xvector_class(source: Source, module: str, name: str) -> nn.Module:
    width, mels, _ = source.tensors["frame_1.conv_1d.weight"].shape
    pooled_dim, embedding_dim = (len(source.tensors[key]) for key in ("frame_5.conv_1d.bias", "seg_1.bias"))
    return reference_network(
        source, module, name, feat_dim=mels, hid_dim=width, stats_dim=pooled_dim, embed_dim=embedding_dim
    )


FAMILIES = (
    Family(
        name="wespeaker-ecapa",
        title="WeSpeaker ECAPA-TDNN",
        matches=_is_ecapa,
        convert=_convert_ecapa,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_ecapa_class,
    ),
    Family(
        name="wespeaker-xvector",
        title="WeSpeaker x-vector",
        matches=lambda source: _is_xvector(source) and has(source, "seg_2.weight"),
        convert=_convert_xvector,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=lambda source: _xvector_class(source, "wespeaker.models.tdnn", "XVEC"),
    ),
    Family(
        name="3dspeaker-xvector",
        title="3D-Speaker x-vector",
        matches=lambda source: _is_xvector(source) and not has(source, "seg_2.weight"),
        convert=_convert_xvector,
        seen=False,
        reference="speakerlab-slim",
        reference_network=lambda source: _xvector_class(source, "speakerlab.models.xvector.TDNN", "Xvector"),
    ),
)

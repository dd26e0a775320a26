"""SpeechBrain's ECAPA-TDNN and x-vector, and the ECAPA-TDNN of 3D-Speaker, which is the same network.

The network follows from the tensors of `embedding_model.ckpt`. `hyperparams.yaml` is never executed, and read as text
for one setting of the back-end alone.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from xvectors.config import FeaturesConfig, ModelConfig
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import SPEECHBRAIN, THREE_D_SPEAKER
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
from xvectors.system.importers.speechbrain.embedding_mean import find_backend
from xvectors.system.importers.tensors import Tensors, stages

XVECTOR_NOTE = (
    "SpeechBrain adds random numbers of up to 9e-5 to the pooled means, so that its x-vectors of one recording differ "
    "from each other; here they are left out"
)


def _is_ecapa(source: Source) -> bool:
    return has(source, "blocks.0.conv.conv.weight", "asp.tdnn.conv.conv.weight", "fc.conv.weight")


def _is_from_modelscope(source: Source) -> bool:
    """Whether a file lies in a repository of ModelScope, where 3D-Speaker publishes the same network."""
    folder = source.path.parent
    return (folder / "configuration.json").is_file() and not (folder / "hyperparams.yaml").is_file()


def _convert_ecapa(source: Source, features: FeaturesConfig) -> Imported:
    tensors = Tensors(source)
    first, aggregate = tensors.take("blocks.0.conv.conv.weight", dims=3), tensors.take("mfa.conv.conv.weight", dims=3)
    parts = stages(source, r"blocks\.1\.res2net_block\.blocks\.(\d+)\.")
    squeeze = tensors.take("blocks.1.se_block.conv1.conv.weight", dims=3)
    settings = ecapa_sizes(source, first=first, aggregate=aggregate, squeeze=squeeze, parts=parts)
    _tdnn(tensors, "blocks.0", "first")
    for block in range(3):
        theirs, ours = f"blocks.{block + 1}", f"blocks.{block}"
        _tdnn(tensors, f"{theirs}.tdnn1", f"{ours}.before")
        for part in range(parts):
            _tdnn(tensors, f"{theirs}.res2net_block.blocks.{part}", f"{ours}.parts.{part}")
        _tdnn(tensors, f"{theirs}.tdnn2", f"{ours}.after")
        tensors.linear(f"{theirs}.se_block.conv1.conv", f"{ours}.squeeze")
        tensors.linear(f"{theirs}.se_block.conv2.conv", f"{ours}.excite")
    tensors.linear("mfa.conv.conv", "aggregate")
    tensors.norm("mfa.norm.norm", "aggregated_norm")
    has_context = attention(tensors, "asp.tdnn.conv.conv", "asp.conv.conv", channels=aggregate.shape[0])
    if not has_context and not tensors.missing:
        raise CheckpointError(
            f"{source.path}: its attention does not depend on the whole recording (global_context=False), which "
            "SpeechBrain publishes no model of; it cannot be imported"
        )
    tensors.norm("asp.tdnn.norm.norm", "pooling.hidden_norm")
    tensors.norm("asp_bn.norm", "pooled_norm")
    embedding = tensors.take("fc.conv.weight", dims=3)
    tensors.linear("fc.conv", "embedding", bias=False)
    shift(tensors, "embedding_norm", tensors.take("fc.conv.bias"))
    settings |= {
        "embedding_dim": embedding.shape[0],
        "pooling": "normalized_channel_context",
        "variance_floor": 1e-12,
        "edges": "reflect",
        "aggregated_norm": True,
    }
    weights = tensors.finish(ignored=("classifier.",))
    is_own = features is SPEECHBRAIN
    backend, notes = find_backend(source.path, embedding.shape[0]) if is_own else (None, ())
    return Imported(
        features=with_mels(features, first),
        model=ModelConfig(name="ecapa", settings=settings),
        weights=weights,
        backend=backend,
        notes=notes,
        figures={"VoxCeleb1-O EER": "0.80 %, trained on VoxCeleb1 and 2: SpeechBrain's recipe for VoxCeleb"}
        if is_own and first.shape[0] == 1024
        else {},
    )


def _tdnn(tensors: Tensors, theirs: str, ours: str) -> None:
    tensors.tdnn(f"{theirs}.conv.conv", f"{ours}.tdnn")
    tensors.norm(f"{theirs}.norm.norm", f"{ours}.norm")


def _is_xvector(source: Source) -> bool:
    return has(source, "blocks.0.conv.weight", "blocks.14.norm.weight", "blocks.16.w.weight")


def _convert_xvector(source: Source) -> Imported:
    tensors = Tensors(source)
    first, last = tensors.take("blocks.0.conv.weight", dims=3), tensors.take("blocks.12.conv.weight", dims=3)
    for number in range(5):
        tensors.tdnn(f"blocks.{3 * number}.conv", f"tdnn{number + 1}")
        tensors.norm(f"blocks.{3 * number + 2}.norm", f"bn{number + 1}")
    tensors.linear("blocks.16.w", "seg_fc1")
    width, pooled_dim = len(tensors.weights["seg_fc1.bias"]), last.shape[0]
    plain(tensors, "pool_bn", 2 * pooled_dim)
    tensors.weights["pool_bn.running_mean"][pooled_dim:] = -1e-5  # theirs adds this to the deviations
    for name in ("seg_bn1", "seg_bn2"):
        plain(tensors, name, width)
    identity(tensors, "seg_fc2", width)
    settings = {
        **xvector_widths(source, first.shape[0], pooled_dim),
        "embedding_dim": width,
        "batch_norm": True,
        "activation": "leaky_relu",
        "edges": "reflect",
        "pooling": "unbiased_statistics",
        "variance_floor": 1e-20,
    }
    weights = tensors.finish(ignored=("classifier.",))
    backend, notes = find_backend(source.path, width)
    return Imported(
        features=with_mels(SPEECHBRAIN, first),
        model=ModelConfig(name="xvector", settings=settings),
        weights=weights,
        backend=backend,
        figures={"VoxCeleb1-O EER": "3.23 %, with PLDA: SpeechBrain's recipe for VoxCeleb"},
        notes=(XVECTOR_NOTE, *notes),
    )


def _ecapa_class(source: Source, module: str) -> nn.Module:
    channels, mels, _ = source.tensors["blocks.0.conv.conv.weight"].shape
    return reference_network(
        source,
        module,
        "ECAPA_TDNN",
        input_size=mels,
        channels=[channels] * 4 + [len(source.tensors["mfa.conv.conv.bias"])],
        lin_neurons=len(source.tensors["fc.conv.bias"]),
        attention_channels=len(source.tensors["asp.tdnn.conv.conv.bias"]),
        se_channels=len(source.tensors["blocks.1.se_block.conv1.conv.bias"]),
        res2net_scale=stages(source, r"blocks\.1\.res2net_block\.blocks\.(\d+)\.") + 1,
    )


def _xvector_class(source: Source) -> nn.Module:
    width, mels, _ = source.tensors["blocks.0.conv.weight"].shape
    widths = [width] * 4 + [len(source.tensors["blocks.12.conv.bias"])]
    network: Any = reference_network(
        source,
        "speechbrain.lobes.models.Xvector",
        "Xvector",
        in_channels=mels,
        tdnn_channels=widths,
        lin_neurons=len(source.tensors["blocks.16.w.bias"]),
    )
    # without the random numbers, which differ from call to call
    network.blocks[15]._get_gauss_noise = lambda shape, device: torch.zeros(shape, device=device)
    return cast(nn.Module, network)


FAMILIES = (
    Family(
        name="speechbrain-ecapa",
        title="SpeechBrain ECAPA-TDNN",
        matches=lambda source: _is_ecapa(source) and not _is_from_modelscope(source),
        convert=lambda source: _convert_ecapa(source, SPEECHBRAIN),
        seen=False,
        reference="speechbrain",
        reference_network=lambda source: _ecapa_class(source, "speechbrain.lobes.models.ECAPA_TDNN"),
    ),
    Family(
        name="3dspeaker-ecapa",
        title="3D-Speaker ECAPA-TDNN",
        matches=_is_ecapa,
        convert=lambda source: _convert_ecapa(source, THREE_D_SPEAKER),
        seen=False,
        reference="speakerlab-slim",
        reference_network=lambda source: _ecapa_class(source, "speakerlab.models.ecapa_tdnn.ECAPA_TDNN"),
    ),
    Family(
        name="speechbrain-xvector",
        title="SpeechBrain x-vector",
        matches=_is_xvector,
        convert=_convert_xvector,
        seen=False,
        reference="speechbrain",
        reference_network=_xvector_class,
    ),
)

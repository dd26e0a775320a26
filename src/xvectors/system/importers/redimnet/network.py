"""ReDimNet and ReDimNet2, as published by their authors and as WeSpeaker trains them.

The authors' files hold `model_config`, whose settings are read and never passed to code, and `state_dict`. Sizes follow
from the tensors; the configuration says what these do not: the features, and which settings of the network differ.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from xvectors.config import FeaturesConfig
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import REDIMNET, WESPEAKER
from xvectors.system.importers.family import Family, Imported, Source, has
from xvectors.system.importers.networks_1d import reference_network
from xvectors.system.importers.redimnet.features import (
    FRONT_ENDS,
    by_convolutions,
    check_options,
    check_tables,
    with_options,
)
from xvectors.system.importers.redimnet.tensors import BACKBONE, Network, Reader, convert_network
from xvectors.system.importers.wespeaker.settings import Settings, check_pooling, read_beside, with_settings

BLOCKS = {"convnext_like": "next", "basic_resnet": "residual", "basic_resnet_fwse": "excited"}
"""Kinds of convolution blocks, in the configuration and here."""
FIXED: Mapping[str, tuple[object, ...]] = {
    "before_pool_offset": (None, 0),
    "block_1d_type": ("conv+att",),
    "block_2d_type": tuple(BLOCKS),
    "causal": ("none", False, None),
    "fm_weigthing_type": ("NC",),
    "pad_right_samples": (None, 0),
    "pooling_func": ("ASTP",),
    "spec_in_channels": (1,),
    "tf_optimized_arch": (False,),
    "use_freq_pos_enc": (False,),
}
"""Settings of the network that change what it computes and are not seen in the tensors, with the values supported."""
FIRST_EER = {"b0": 1.16, "b1": 0.85, "b2": 0.57, "b3": 0.50, "b4": 0.51, "b5": 0.43, "b6": 0.40}
SECOND_EER = {"b0": 1.04, "b1": 0.78, "b2": 0.57, "b3": 0.42, "b4": 0.37, "b5": 0.33, "b6": 0.29}
"""EER on VoxCeleb1-O in % after large-margin fine-tuning on VoxCeleb2, by size."""


def _check_network(where: str, config: Mapping[str, Any], channels: int) -> None:
    """Raise CheckpointError for settings that change what the network computes and have no tensors."""
    for key, supported in FIXED.items():
        if key in config and config[key] not in supported:
            raise CheckpointError(
                f"{where}.{key} is {config[key]!r}; only {' or '.join(map(repr, supported))} can be imported"
            )
    groups = config.get("agg_gnorm", False)
    if groups not in (None, False, True, channels):
        raise CheckpointError(f"{where}.agg_gnorm is {groups!r}; only {channels} groups can be imported")


def _published(source: Source, *, second: bool) -> Imported:
    """Convert a file of the authors."""
    where, config = f"{source.path}: model_config", source.extras.get("model_config")
    hop_length = config.get("hop_length") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(hop_length, int) or hop_length < 1:
        raise CheckpointError(
            f"{where} does not state hop_length; the shift of the frames and the level of the samples are not in the "
            "tensors, so get the file as its authors published it"
        )
    kind, options = config.get("feat_type", "pt"), config.get("spec_params", {})
    if not isinstance(kind, str) or kind not in FRONT_ENDS:
        raise CheckpointError(f"{where}.feat_type is {kind!r}; known are {', '.join(FRONT_ENDS)}")
    if not isinstance(options, Mapping) or (second and "spec_params" not in config):
        raise CheckpointError(f"{where} does not state spec_params, whose norm_signal has had two defaults")
    check_options(f"{where}.spec_params", options)
    rate = options.get("sample_rate", 16_000)
    if FRONT_ENDS[kind] == "torchaudio":
        features = with_options(REDIMNET, options, rate, hop_length)
    else:
        features = by_convolutions(options, rate, hop_length)
    is_map = bool(config.get("return_2d_output", False))
    imported = convert_network(source, second=second, features=features, embed="linear", is_map=is_map)
    _check_network(where, config, len(source.tensors[f"{BACKBONE}stem.0.weight"]))
    check_tables(source, imported.features, "spec.torchfbank.")
    return replace(imported, figures=_figures(imported, SECOND_EER if second else FIRST_EER, source.path.name))


def _figures(imported: Imported, rates: Mapping[str, float], file_name: str) -> dict[str, str]:
    """Published error rates, of the files that the authors fine-tuned on VoxCeleb2, which their names state."""
    size = str(imported.model.settings.get("size", ""))
    if size not in rates or not file_name.startswith(f"{size}-vox2-") or not file_name.endswith("lm.pt"):
        return {}
    return {"VoxCeleb1-O EER": f"{rates[size]:.2f} %, with large-margin fine-tuning: the authors' repository"}


def _from_wespeaker(source: Source) -> Imported:
    if "seg_2.weight" in source.tensors:
        raise CheckpointError(
            f"{source.path}: has a second embedding layer (seg_2); only networks with one are imported"
        )
    imported = convert_network(source, second=False, features=WESPEAKER, embed="seg_1", is_map=False)
    return with_settings(source, imported, "ASTP")


def _second_from_wespeaker(source: Source) -> Imported:
    settings = read_beside(source)
    if settings is None:
        raise CheckpointError(
            f"{source.path}: the features of WeSpeaker's ReDimNet2 are in its config.yaml, which must lie beside it "
            "(the authors' own files have a model_config instead)"
        )
    features, config = _tfmel(settings), settings.get("model_args", Mapping, {})
    inner = settings.get("model_args.spec", str, "fbank")
    if inner != "fbank":
        raise settings.refused("model_args.spec", inner, "only features by the front end tfmel are imported")
    check_pooling(settings, "ASTP")
    name = settings.get("model", str, "")
    is_map = settings.get("model_args.return_2d_output", bool, name == "ReDimNet2B6")
    imported = convert_network(source, second=True, features=features, embed="linear", is_map=is_map)
    _check_network(f"{settings.path}: model_args", config, len(source.tensors[f"{BACKBONE}stem.0.weight"]))
    check_tables(source, imported.features, "frontend.spec.torchfbank.")
    return imported


def _tfmel(settings: Settings) -> FeaturesConfig:
    """Return the features of WeSpeaker's front end tfmel."""
    front_end = settings.get("dataset_args.frontend", str, "fbank")
    if front_end != "tfmel":
        raise settings.refused("dataset_args.frontend", front_end, "ReDimNet2 is imported with the front end tfmel")
    if settings.get("dataset_args.cmvn", bool, True):
        raise settings.refused("dataset_args.cmvn", True, "tfmel has subtracted the mean already; it must be false")
    options = dict(settings.get("dataset_args.tfmel_args", Mapping, {}))
    hop_length = settings.get("dataset_args.tfmel_args.hop_length", int, 160)
    options.pop("hop_length", None)
    check_options(f"{settings.path}: dataset_args.tfmel_args", options)
    return by_convolutions(options, settings.get("dataset_args.resample_rate", int, 16_000), hop_length)


def _is_network(source: Source, embed: str) -> bool:
    return has(source, f"{BACKBONE}stem.0.weight", "pool.linear1.weight", f"{embed}.weight")


def _is_second(source: Source) -> bool:
    """Whether any stage has fewer frames than the recording."""
    joins = [
        source.tensors.get(f"{BACKBONE}stage{index}{part}.2.weight") for index in range(20) for part in ("", "_pre")
    ]
    return any(join is not None and join.dim() == 4 and join.shape[3] > 1 for join in joins)


def _arguments(network: Network) -> dict[str, Any]:
    """Arguments of WeSpeaker's classes of both generations."""
    setup, own = [], network.channels
    for index, (bands, frames) in enumerate(network.strides):
        own *= bands
        width = network.widths[index]
        before = network.strides[index - 1][1] if index else 1
        expansion = 1 if width == own else (width + 0.01) / own  # which the class rounds down
        setup.append(((bands, frames // before), network.depths[index], expansion, [(3, 3)], network.reductions[index]))
    return {
        "C": network.channels,
        "block_2d_type": next(name for name, block in BLOCKS.items() if block == network.block),
        "group_divisor": network.group_width,
        "stages_setup": [(*stage[:4], stage[4] or None) for stage in setup],
    }


def _first_class(source: Source) -> nn.Module:
    network = Reader(source, second=False).read()
    arguments = _arguments(network)
    arguments["stages_setup"] = [(stage[0][0], *stage[1:]) for stage in arguments["stages_setup"]]
    head = source.tensors.get(f"{BACKBONE}mfa.0.bias")
    return reference_network(
        source,
        "wespeaker.models.redimnet",
        "ReDimNet",
        feat_dim=network.bands,
        out_channels=None if head is None else len(head),
        embed_dim=len(source.tensors["seg_1.bias"]),
        global_context_att=_takes_context(source),
        **arguments,
    )


class _Transposed(nn.Module):
    """WeSpeaker's ReDimNet2, which takes features [batch, mels, frames]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.network(features.transpose(1, 2)))


def _second_class(source: Source) -> nn.Module:
    network = Reader(source, second=True).read()
    head = source.tensors.get(f"{BACKBONE}head.weight")
    config = source.extras.get("model_config", {})
    is_map = config.get("return_2d_output", head is not None and head.dim() == 4)
    with contextlib.redirect_stdout(io.StringIO()):  # the class prints a setting
        theirs = reference_network(
            source,
            "wespeaker.models.redimnet2",
            "ReDimNet2Wrap",
            F=network.bands,
            out_channels=None if head is None else len(head),
            return_2d_output=is_map,
            embed_dim=len(source.tensors["linear.bias"]),
            agg_gnorm=network.has_norms,
            dual_agg=network.sums_maps,
            global_context_att=_takes_context(source),
            **_arguments(network),
        )
    return _Transposed(theirs)


def _takes_context(source: Source) -> bool:
    return source.tensors["pool.linear1.weight"].shape[1] > len(source.tensors["pool.linear2.weight"])


FAMILIES = (
    Family(
        name="redimnet",
        title="ReDimNet",
        matches=lambda source: _is_network(source, "linear") and not _is_second(source),
        convert=lambda source: _published(source, second=False),
        seen=False,
    ),
    Family(
        name="redimnet2",
        title="ReDimNet2",
        matches=lambda source: _is_network(source, "linear") and _is_second(source) and "model_config" in source.extras,
        convert=lambda source: _published(source, second=True),
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_second_class,
    ),
    Family(
        name="wespeaker-redimnet",
        title="WeSpeaker ReDimNet",
        matches=lambda source: _is_network(source, "seg_1"),
        convert=_from_wespeaker,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_first_class,
    ),
    Family(
        name="wespeaker-redimnet2",
        title="WeSpeaker ReDimNet2",
        matches=lambda source: _is_network(source, "linear") and _is_second(source),
        convert=_second_from_wespeaker,
        seen=False,
        reference="wespeaker-unofficial",
        reference_network=_second_class,
    ),
)

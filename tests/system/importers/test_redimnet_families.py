"""ReDimNet and ReDimNet2 of their authors and of WeSpeaker: recognized, with their features, and refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.published import golden, golden_checkpoint, imported, our_outputs
from xvectors.config import Recipe
from xvectors.errors import CheckpointError, XVectorsError
from xvectors.features import Fbank
from xvectors.features.toolkits import REDIMNET, REDIMNET2, REDIMNET_NORM_SIGNAL, WESPEAKER
from xvectors.system.importers import convert
from xvectors.system.importers.family import Family, Source
from xvectors.system.importers.importing import complete
from xvectors.system.importers.redimnet import network as redimnet
from xvectors.system.serialization import make_model

FIRST_CONFIG: dict[str, Any] = {
    "F": 24,
    "block_1d_type": "conv+att",
    "block_2d_type": "basic_resnet_fwse",
    "emb_bn": False,
    "hop_length": 240,
    "pooling_func": "ASTP",
}
"""As findit-studio/coremlit reads it from the published b5-vox2-ft_lm.pt, with the size of the golden network."""


def as_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give WeSpeaker's names those of the authors' files, and put a BatchNorm before the last layer.

    The authors' stages begin with the sum's weights and a change of shape, so their layers are numbered from 2. The
    last layer takes back what the BatchNorm does.
    """
    renamed = {}
    last = max(int(name.split(".")[2]) for name in tensors if name.startswith("backbone.inputs_weights."))
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[1].startswith("stage"):
            parts[2] = str(int(parts[2]) + 2)
        elif parts[1] == "inputs_weights":
            number = int(parts[2])
            parts = ["backbone", "fin_wght1d", "w"] if number == last else ["backbone", f"stage{number}", "0", "w"]
        elif parts[0] == "seg_1":
            parts[0] = "linear"
        renamed[".".join(parts)] = value
    generator = torch.Generator().manual_seed(0)
    width = tensors["seg_1.weight"].shape[1]
    scale, offset, mean, variance = (torch.rand(width, generator=generator) + 0.5 for _ in range(4))
    deviation = (variance + 1e-5).sqrt()
    renamed |= {"bn.weight": scale, "bn.bias": offset, "bn.running_mean": mean, "bn.running_var": variance}
    renamed["linear.weight"] = tensors["seg_1.weight"] * deviation / scale
    renamed["linear.bias"] = tensors["seg_1.bias"] - renamed["linear.weight"] @ (offset - mean * scale / deviation)
    return renamed


def written(path: Path, tensors: Mapping[str, Tensor], **beside: Any) -> Path:
    torch.save({"state_dict": dict(tensors), **beside}, path)
    return path


def test_the_authors_first_generation(tmp_path: Path) -> None:
    known = golden("wespeaker-redimnet-excited")
    tensors = as_published(golden_checkpoint(known))
    converted = convert(written(tmp_path / "b5-vox2-ft_lm.pt", tensors, model_config=FIRST_CONFIG))
    model = converted.imported
    assert converted.family.name == "redimnet"
    assert model.features == replace(REDIMNET, num_mels=24, frame_shift_ms=15.0)
    assert not model.figures  # the network is of no published size
    found = our_outputs(replace(model, features=replace(WESPEAKER, num_mels=24)))
    for ours, expected, scale in zip(found, known["outputs"], known["scale"], strict=True):
        np.testing.assert_allclose(ours[:8], expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("name", "family", "model", "features", "settings"),
    [
        ("wespeaker-redimnet-b1", "wespeaker-redimnet", "redimnet", replace(WESPEAKER, num_mels=72), {"size": "b1"}),
        ("redimnet2-b0", "redimnet2", "redimnet2", REDIMNET2, {"size": "b0", "aggregate_norm": True}),
        (
            "redimnet2-dual",
            "redimnet2",
            "redimnet2",
            replace(REDIMNET2, num_mels=24),
            {
                "band_strides": [1, 2, 3],
                "frame_strides": [1, 2, 2],
                "widths": [16, 16, 24],
                "reductions": [8, 0, 16],
                "group_width": 2,
                "sum_maps": True,
            },
        ),
        (
            "wespeaker-redimnet2",
            "wespeaker-redimnet2",
            "redimnet2",
            replace(REDIMNET2, num_mels=24),
            {"head_channels": 16, "head_per_band": False},
        ),
    ],
)
def test_sizes_follow_from_the_tensors(
    name: str, family: str, model: str, features: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    known = golden(name)
    beside = {"model_config": known["model_config"]} if "model_config" in known else {}
    (tmp_path / "config.yaml").write_text(known.get("settings", ""))
    found = convert(written(tmp_path / "a.pt", golden_checkpoint(known), **beside))
    assert (found.family.name, found.imported.model.name) == (family, model)
    assert found.imported.features == features
    assert settings.items() <= dict(found.imported.model.settings).items()


@pytest.mark.parametrize(
    ("config", "features"),
    [
        ({}, replace(REDIMNET, frame_shift_ms=15.0)),
        ({"hop_length": 160, "spec_params": {"norm_signal": True}}, REDIMNET_NORM_SIGNAL),
        (
            {"spec_params": {"do_preemph": False, "f_max": 8000}},
            replace(REDIMNET, frame_shift_ms=15.0, preemphasis=0.0, high_frequency_hz=8000.0),
        ),
        ({"feat_type": "tf", "hop_length": 160, "spec_params": {"norm_signal": True}}, REDIMNET2),
    ],
)
def test_features_follow_from_the_configuration(config: dict[str, Any], features: Any, tmp_path: Path) -> None:
    tensors = as_published(golden_checkpoint(golden("wespeaker-redimnet-excited")))
    path = written(tmp_path / "a.pt", tensors, model_config={**FIRST_CONFIG, **config})
    assert convert(path).imported.features == replace(features, num_mels=24)


def tables(features: Any) -> dict[str, Tensor]:
    """The tables that the authors' front ends keep in a checkpoint."""
    fbank = Fbank(**asdict(features))
    if features.power_floor:
        time = torch.arange(400) * torch.arange(256).unsqueeze(1)
        kernel = fbank.window * (2 * torch.pi * time / 512).cos()
        return {"real_kernel_pt": kernel.unsqueeze(1), "melbanks_pt": fbank.filters[:256].T.unsqueeze(2)}
    return {"spectrogram.window": fbank.window, "mel_scale.fb": fbank.filters[::2]}


@pytest.mark.parametrize(("kind", "features"), [("pt", REDIMNET), ("tf", REDIMNET2)])
def test_the_tables_of_the_features_are_compared(kind: str, features: Any, tmp_path: Path) -> None:
    tensors = as_published(golden_checkpoint(golden("wespeaker-redimnet-excited")))
    kept = {f"spec.torchfbank.2.{key}": value for key, value in tables(replace(features, num_mels=24)).items()}
    kept["spec.torchfbank.1.flipped_filter"] = torch.tensor([[[-0.97, 1.0]]])
    config = {**FIRST_CONFIG, "hop_length": 160, "feat_type": kind}
    convert(written(tmp_path / "a.pt", tensors | kept, model_config=config))
    for name in kept:
        changed = {**tensors, **kept, name: kept[name] + 1e-3}
        with pytest.raises(CheckpointError, match=rf"{name} is not what its configuration says"):
            convert(written(tmp_path / "a.pt", changed, model_config=config))


def loaded(family: Family, source: Source) -> None:
    model = family.convert(source)
    complete(make_model(Recipe(name="imported", features=model.features, model=model.model), 0), model.weights, "a.pt")


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "family"),
    [("wespeaker-redimnet-excited", "wespeaker-redimnet"), ("redimnet2-dual", "redimnet2")],
)
def test_any_missing_tensor_is_named_and_any_other_shape_is_refused(name: str, family: str, step: int) -> None:
    known = golden(name)
    (chosen,) = (each for each in redimnet.FAMILIES if each.name == family)
    tensors = golden_checkpoint(known)
    whole = Source(path=Path("a.pt"), tensors=tensors, extras={"model_config": known.get("model_config")})
    without_effect = (".k_proj.bias", ".linear2.bias", "stage0_pre.0.w", "inputs_weights.0")
    for key in list(tensors)[::step]:
        rest = {other: value for other, value in tensors.items() if other != key}
        with pytest.raises(CheckpointError, match=rf"a\.pt: .*{re.escape(key)}(,|$|;| |\.)"):
            chosen.convert(replace(whole, tensors=rest))
        if not key.endswith(without_effect):
            larger = torch.zeros([size + 1 for size in tensors[key].shape])
            with pytest.raises(XVectorsError):
                loaded(chosen, replace(whole, tensors={**rest, key: larger}))


def test_missing_tensors_are_named_together(tmp_path: Path) -> None:
    tensors = golden_checkpoint(golden("wespeaker-redimnet-excited"))
    for name in ("backbone.stage0.5.tcm.4.attention.q_proj.bias", "backbone.mfa.1.running_var", "pool.linear2.weight"):
        del tensors[name]
    message = r"lacks 3 tensors: backbone\.stage0\.5\.tcm.*q_proj\.bias, backbone\.mfa\.1\.running_var, pool\.linear2"
    with pytest.raises(CheckpointError, match=message):
        imported(tmp_path / "a.pt", tensors, "wespeaker-redimnet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_length": None}, "does not state hop_length"),
        ({"hop_length": "160"}, "does not state hop_length"),
        ({"feat_type": ["tf"]}, r"feat_type is \['tf'\]; known are pt"),
        ({"spec_params": "norm"}, "does not state spec_params"),
        ({"spec_params": {"n_fft": 512.0}}, r"spec_params.n_fft is 512\.0, which is not supported"),
        ({"spec_params": {"sample_rate": 0}}, "spec_params.sample_rate is 0; it must be at least 1"),
        ({"block_2d_type": "convnext_like_relu"}, "block_2d_type is 'convnext_like_relu'"),
        ({"block_1d_type": "conv+att-rope"}, "block_1d_type is 'conv\\+att-rope'; only 'conv\\+att' can be"),
        ({"causal": "full"}, "causal is 'full'"),
        ({"pad_right_samples": 160}, "pad_right_samples is 160"),
        ({"agg_gnorm": 4}, "agg_gnorm is 4; only 8 groups"),
        ({"feat_type": "tf_spec"}, "feat_type is 'tf_spec'; known are pt"),
        ({"spec_params": {"spec_norm": "bn"}}, "spec_params.spec_norm is 'bn'"),
        ({"spec_params": {"whitened": True}}, "spec_params.whitened is True, which is not supported"),
        ({"spec_params": None}, "does not state spec_params"),
    ],
)
def test_unsupported_configurations_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    known = golden("redimnet2-dual")
    config = {key: value for key, value in {**known["model_config"], **changes}.items() if value is not None}
    with pytest.raises(CheckpointError, match=rf"a\.pt: model_config.*{message}"):
        convert(written(tmp_path / "a.pt", golden_checkpoint(known), model_config=config))


def test_weights_without_what_states_their_features_are_refused(tmp_path: Path) -> None:
    first = as_published(golden_checkpoint(golden("wespeaker-redimnet-excited")))
    with pytest.raises(CheckpointError, match="model_config does not state hop_length"):
        convert(written(tmp_path / "a.pt", first))
    with pytest.raises(CheckpointError, match=r"config\.yaml, which must lie beside it"):
        convert(written(tmp_path / "a.pt", golden_checkpoint(golden("redimnet2-dual"))))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cmvn: false", "cmvn: true", r"dataset_args\.cmvn is True"),
        ("frontend: tfmel", "frontend: fbank", r"dataset_args\.frontend is 'fbank'.*tfmel"),
        ("norm_signal: true", "norm_signal: 1", r"tfmel_args\.norm_signal is 1"),
        ("pooling_func: ASTP", "pooling_func: TSTP", r"model_args\.pooling_func is 'TSTP'"),
        ("embed_dim: 192", "spec: tf", r"model_args\.spec is 'tf'"),
    ],
)
def test_unsupported_settings_of_wespeaker_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    settings = golden("wespeaker-redimnet2")["settings"]
    (tmp_path / "config.yaml").write_text(settings.replace(old, new))
    with pytest.raises(CheckpointError, match=rf"config\.yaml.*{message}"):
        convert(written(tmp_path / "a.pt", golden_checkpoint(golden("redimnet2-dual"))))


def test_a_second_embedding_layer_is_refused(tmp_path: Path) -> None:
    tensors = golden_checkpoint(golden("wespeaker-redimnet-excited"))
    with pytest.raises(CheckpointError, match=r"a second embedding layer \(seg_2\)"):
        imported(tmp_path / "a.pt", {**tensors, "seg_2.weight": torch.zeros(192, 192)})

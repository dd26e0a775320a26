"""ResNets, SimAM-ResNets and ERes2NetV2 of other toolkits: recognized, sized by their tensors, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.published import golden, golden_checkpoint, imported, our_outputs
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import THREE_D_SPEAKER, WESPEAKER
from xvectors.system.importers import convert


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "family", "features", "settings"),
    [
        ("wespeaker-resnet", "wespeaker-resnet", WESPEAKER, {"depths": [3, 4, 6, 3], "pooling": "tstp"}),
        ("wespeaker-resnet-18", "wespeaker-resnet", WESPEAKER, {"depths": [2, 2, 2, 2], "channels": 32}),
        ("wespeaker-simam", "wespeaker-simam", WESPEAKER, {"channels": 64, "pooling": "asp", "embedding_dim": 256}),
        (
            "3dspeaker-eres2netv2",
            "3dspeaker-eres2netv2",
            THREE_D_SPEAKER,
            {"base_width": 26, "scale": 2, "expansion": 2, "embedding_dim": 192},
        ),
        (
            "3dspeaker-eres2netv2-w24s4ep4",
            "3dspeaker-eres2netv2",
            THREE_D_SPEAKER,
            {"base_width": 24, "scale": 4, "expansion": 4},
        ),
    ],
)
def test_sizes_and_features_follow_from_the_tensors(
    name: str, family: str, features: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    found = convert(written(tmp_path / "a.pt", golden_checkpoint(golden(name))))
    assert found.family.name == family
    assert found.imported.features == features
    assert settings.items() <= dict(found.imported.model.settings).items()


def test_wespeakers_campplus_lies_beside_a_config(tmp_path: Path) -> None:
    path = written(tmp_path / "avg_model.pt", golden_checkpoint(golden("wespeaker-campplus")))
    assert convert(path).family.name == "3dspeaker-campplus"
    (tmp_path / "config.yaml").write_text("model: CAMPPlus\n")
    found = convert(path)
    assert (found.family.name, found.imported.features) == ("wespeaker-campplus", WESPEAKER)
    assert "--family 3dspeaker-campplus" in found.notes[0]


def test_pyannotes_copy_is_the_same_network(tmp_path: Path) -> None:
    known = golden("wespeaker-resnet-18")
    tensors = golden_checkpoint(known)
    path = tmp_path / "pytorch_model.bin"
    prefixed = {f"resnet.{key}": value for key, value in tensors.items()}
    model = imported(path, prefixed)
    assert convert(path).family.name == "pyannote-resnet"
    (found,) = our_outputs(model, 1)
    np.testing.assert_allclose(found[:8], known["outputs"][0], rtol=0, atol=1e-4 * known["scale"][0])


def test_a_class_layer_is_left_out_and_missing_tensors_are_named(tmp_path: Path) -> None:
    tensors = golden_checkpoint(golden("wespeaker-resnet-18"))
    path = written(tmp_path / "a.pt", {**tensors, "projection.weight": torch.zeros(5, 256)})
    assert "classifier.weight" not in convert(path).imported.weights
    for name in ("layer2.0.bn2.running_var", "layer4.1.conv2.weight"):
        del tensors[name]
    with pytest.raises(CheckpointError, match=r"a\.pt.*lacks 2 tensors: layer2\.0\.bn2\.running_var, layer4\.1\.conv2"):
        convert(written(path, tensors))


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        ("seg_2.weight", [256, 256], r"a second embedding layer \(seg_2\)"),
        ("seg_1.weight", [256, 2560 + 8], r"seg_1\.weight takes 2568 values.*its pooling is another"),
    ],
)
def test_other_embedding_layers_are_refused(changed: str, shape: list[int], message: str, tmp_path: Path) -> None:
    tensors = golden_checkpoint(golden("wespeaker-resnet-18"))
    with pytest.raises(CheckpointError, match=message):
        convert(written(tmp_path / "a.pt", {**tensors, changed: torch.zeros(shape)}))

"""ECAPA-TDNN and x-vectors of other toolkits, and the exercise's own file: recognized, converted, and refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.formula_weights import formula_state
from support.published import formula_checkpoint, golden, imported, our_features, our_outputs
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import SPEECHBRAIN, THREE_D_SPEAKER, WESPEAKER
from xvectors.models import XVector
from xvectors.system.importers import FAMILIES, Source, convert, exercise
from xvectors.system.importers.speechbrain import resnet as speechbrain_resnet
from xvectors.system.importers.speechbrain import tdnn as speechbrain_tdnn
from xvectors.system.importers.wespeaker import tdnn as wespeaker_tdnn

NAMES = ["wespeaker-ecapa", "wespeaker-xvector", "speechbrain-ecapa", "speechbrain-xvector"]


def checkpoint(name: str) -> dict[str, Tensor]:
    return formula_checkpoint(golden(name)["tensors"])


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "family", "features", "settings"),
    [
        ("wespeaker-ecapa", "wespeaker-ecapa", WESPEAKER, {"channels": 512, "pooling": "astp", "embedding_dim": 192}),
        ("wespeaker-ecapa-1024", "wespeaker-ecapa", WESPEAKER, {"channels": 1024, "pooled_dim": 1536}),
        ("wespeaker-ecapa-plain", "wespeaker-ecapa", WESPEAKER, {"channels": 512, "pooling": "channel"}),
        ("wespeaker-xvector", "wespeaker-xvector", WESPEAKER, {"embedding_layer": 2, "size": 1.0}),
        ("speechbrain-ecapa", "speechbrain-ecapa", SPEECHBRAIN, {"channels": 1024, "pooled_dim": 3072}),
        ("3dspeaker-xvector", "3dspeaker-xvector", THREE_D_SPEAKER, {"pooling": "unbiased_statistics"}),
    ],
)
def test_sizes_and_features_follow_from_the_tensors(
    name: str, family: str, features: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    found = convert(written(tmp_path / "avg_model.pt", checkpoint(name)))
    assert found.family.name == family
    assert found.imported.features == features
    assert settings.items() <= dict(found.imported.model.settings).items()


def test_speechbrains_network_from_modelscope_is_3d_speakers(tmp_path: Path) -> None:
    path = written(tmp_path / "ecapa_tdnn.bin", checkpoint("3dspeaker-ecapa"))
    assert convert(path).family.name == "speechbrain-ecapa"
    (tmp_path / "configuration.json").write_text("{}")
    found = convert(path)
    assert found.family.name == "3dspeaker-ecapa"
    assert found.imported.features == THREE_D_SPEAKER
    (tmp_path / "hyperparams.yaml").write_text("channels: !new:os.system [true]\n")  # not read, and never run
    assert convert(path).family.name == "speechbrain-ecapa"


def test_a_norm_of_wespeakers_embedding_takes_in_the_bias(tmp_path: Path) -> None:
    """With `emb_bn`, their norm of `linear(x) + bias` is ours of `linear(x)`."""
    tensors = checkpoint("wespeaker-ecapa")
    (without,) = our_outputs(imported(tmp_path / "a.pt", tensors), 1)
    for key, value in {"weight": 2.0, "bias": -0.5, "running_mean": 0.25, "running_var": 4.0 - 1e-5}.items():
        tensors[f"bn2.{key}"] = torch.full((192,), value)
    (found,) = our_outputs(imported(tmp_path / "b.pt", tensors), 1)
    np.testing.assert_allclose(found, without - 0.75, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_missing_tensors_are_named(name: str, tmp_path: Path) -> None:
    tensors = checkpoint(name)
    gone = [key for key in tensors if key.endswith("running_var")][-2:]
    for key in gone:
        del tensors[key]
    with pytest.raises(CheckpointError, match=rf"model.pt: it lacks 2 tensors: {gone[0]}, {gone[1]}"):
        convert(written(tmp_path / "model.pt", tensors), name)


@pytest.mark.parametrize("name", [*NAMES, "speechbrain-resnet"])
def test_any_tensor_may_be_missing(name: str) -> None:
    shapes = golden(name)["tensors"]
    (family,) = [each for each in FAMILIES if each.name == name]
    whole = {key: torch.zeros(shape) for key, shape in shapes.items()}
    for gone in shapes:
        tensors = {key: value for key, value in whole.items() if key != gone}
        with pytest.raises(CheckpointError, match=re.escape(gone) + "|with gaps"):
            family.convert(Source(path=Path("model.pt"), tensors=tensors))


def test_other_depths_and_attentions_are_refused(tmp_path: Path) -> None:
    tensors = checkpoint("speechbrain-ecapa")
    hidden = tensors["asp.tdnn.conv.conv.weight"]
    tensors["asp.tdnn.conv.conv.weight"] = hidden[:, :3072]
    with pytest.raises(CheckpointError, match="global_context=False"):
        convert(written(tmp_path / "a.ckpt", tensors))
    tensors["mfa.conv.conv.weight"] = torch.zeros(3072, 4096, 1)
    with pytest.raises(CheckpointError, match="takes 4096 channels, where three blocks of 1024"):
        convert(written(tmp_path / "b.ckpt", tensors))


@pytest.mark.parametrize(
    "settings",
    [{}, {"size": 0.25, "depth": 2, "embedding_dim": 64}, {"size": 0.5, "batch_norm": True, "input_dim": 40}],
)
def test_the_file_of_the_exercise(settings: dict[str, Any], tmp_path: Path) -> None:
    """`torch.save(model.state_dict(), ...)`, classifier included."""
    network = XVector(**settings, num_speakers=9).eval()
    network.load_state_dict(formula_state(network))
    found = convert(written(tmp_path / "model.pt", network.state_dict()))
    assert found.family.name == "exercise"
    assert found.imported.features.num_mels == network.input_dim
    assert not found.imported.features.normalize_level
    assert "does not say how its features were computed" in found.notes[0]
    with torch.inference_mode():
        expected = [network.embed(features)[0] for features in our_features(found.imported)]
    for ours, theirs in zip(our_outputs(found.imported), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), theirs, atol=1e-5, rtol=1e-5)


def test_a_student_whose_first_layer_sees_other_frames(tmp_path: Path) -> None:
    state = XVector(size=0.1, num_speakers=3).state_dict()
    state["tdnn1.linear.weight"] = torch.zeros(51, 72)
    with pytest.raises(CheckpointError, match=r"tdnn1.linear.weight is \[51, 72\]; .* multiple of 5"):
        convert(written(tmp_path / "model.pt", state))


def test_the_documentation_lists_the_families() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "published-models.md"
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9][a-z0-9-]+)` \|.*\| (yes|no|-) \|$", text, re.MULTILINE)
    known = {family.name: family for family in FAMILIES}
    own = {
        family.name
        for module in (wespeaker_tdnn, speechbrain_tdnn, speechbrain_resnet, exercise)
        for family in module.FAMILIES
    }
    assert own | {"onnx"} <= dict(rows).keys() <= known.keys()
    assert {name: known[name].seen for name, seen in rows if seen != "-"} == {
        name: seen == "yes" for name, seen in rows if seen != "-"
    }

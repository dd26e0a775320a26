"""`xvectors import` from file to system, and the files it refuses."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from support.commands import run
from support.published import golden, golden_checkpoint
from xvectors import SpeakerEncoder
from xvectors.files import digest

FAMILY = "wespeaker-xvector"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return golden_checkpoint(golden(FAMILY))


def refused(path: Path, *options: str) -> str:
    """What the command says of a file that it refuses; no system is left behind."""
    output = path.parent / "refused"
    printed = run("import", path, "-o", output, *options, status=2)
    assert not (output / "system.toml").exists()
    assert "Traceback" not in printed.stderr
    assert path.name in printed.stderr
    return " ".join(printed.stderr.split())


def test_a_published_model_becomes_a_system(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    half = {key: value.half() if value.dim() > 1 else value for key, value in tensors.items()}
    path = tmp_path / "avg_model.pt"
    torch.save({"model": half, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}, "epoch": 7}, path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A card\n", encoding="utf-8")
    printed = run("import", path, "-o", tmp_path / "system", "--sha256", digest(path).upper(), "--json")
    origin = json.loads(printed.stdout)["origin"]
    assert (origin["family"], origin["license"], origin["sha256"]) == (FAMILY, "cc-by-4.0", digest(path))
    assert "half precision" in origin["notes"][0]
    assert "reconstructed" in printed.stderr, "no published weights of this family were compared"
    written = tomllib.loads((tmp_path / "system" / "system.toml").read_text(encoding="utf-8"))
    assert written["num_speakers"] == 0
    assert written["origin"] == origin
    assert SpeakerEncoder.from_pretrained(tmp_path / "system").embedding_dim == 512
    assert "holds a system already" in run("import", path, "-o", tmp_path / "system", status=2).stderr.replace(
        "\n", " "
    )


def test_files_that_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = tmp_path / "model.pt"
    torch.save(tensors, path)
    assert "it is another file" in refused(path, "--sha256", "0" * 64)
    assert "three blocks" in refused(path, "--family", "3dspeaker-campplus")
    said = run("import", path, "-o", tmp_path / "refused", "--family", "nobody", status=2).stderr
    assert "unknown family 'nobody'" in said
    assert FAMILY in said
    complete = path.read_bytes()
    path.write_bytes(complete[: len(complete) // 2])
    assert "damaged" in refused(path)
    gone = ["frame_2.conv_1d.weight", "seg_1.bias"]
    torch.save({key: value for key, value in tensors.items() if key not in gone}, path)
    said = refused(path, "--family", FAMILY)
    assert all(key in said for key in gone), said
    torch.save({"classifier.weight": torch.ones(4, 8), "classifier.bias": torch.ones(4)}, path)
    said = refused(path)
    assert "a single layer, classifier.weight, classifier.bias of shape [4, 8], perhaps the classes of a model" in said
    assert FAMILY in said, "the families that were tried"
    for output in (path, path / "system"):
        said = " ".join(run("import", path, "-o", output, status=2).stderr.split())
        assert f"{path.name}: is a file; give a directory" in said

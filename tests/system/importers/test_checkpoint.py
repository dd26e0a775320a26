"""Reading foreign checkpoints: what is in them is read, and nothing in them is run."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from xvectors.errors import CheckpointError
from xvectors.system.importers.checkpoint import read_checkpoint

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.tensor([0.5, -1.0])}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def rewritten(path: Path, pickled: bytes) -> Path:
    """A torch archive whose data.pkl is another pickle."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else data)
    return path


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("nest", [None, "state_dict", "model_state_dict", "model", "model_state"])
def test_weights_are_found_where_toolkits_put_them(tmp_path: Path, nest: str | None) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": []}
    content: dict[str, Any] = dict(WEIGHTS) if nest is None else {nest: OrderedDict(WEIGHTS), "optimizer": optimizer}
    found = read_checkpoint(saved(tmp_path / "a.pt", content | {"epoch": 3, "config": {"mels": 80}}))
    assert {key: value.tolist() for key, value in found.tensors.items()} == {
        "layer.weight": [[0, 1, 2], [3, 4, 5]],
        "layer.bias": [0.5, -1],
    }
    assert (found.extras["epoch"], found.extras["config"]) == (3, {"mels": 80})
    assert found.notes == ()


def test_wrappers_counters_and_half_precision(tmp_path: Path) -> None:
    tensors = {f"module._orig_mod.{key}": value.half() for key, value in WEIGHTS.items()}
    tensors["module._orig_mod.norm.num_batches_tracked"] = torch.tensor(7)
    found = read_checkpoint(saved(tmp_path / "a.ckpt", tensors))
    assert set(found.tensors) == set(WEIGHTS)
    assert all(value.dtype == torch.float32 for value in found.tensors.values())
    assert "2 tensors in half precision" in found.notes[0]


def test_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "model.safetensors").tensors["layer.bias"], WEIGHTS["layer.bias"])


def test_objects_of_a_training_framework_become_placeholders(tmp_path: Path) -> None:
    content = {"state_dict": WEIGHTS, "hyper_parameters": argparse.Namespace(mels=80), "epoch": 2}
    found = read_checkpoint(saved(tmp_path / "lightning.ckpt", content))
    assert torch.equal(found.tensors["layer.weight"], WEIGHTS["layer.weight"])
    assert found.extras == {"epoch": 2}


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = saved(tmp_path / "hostile.pt", {"state_dict": WEIGHTS, "x": 1})
    rewritten(path, b"cposix\nsystem\n(S'touch " + str(touched).encode() + b"'\ntR.")
    with pytest.raises(CheckpointError, match=r"hostile\.pt: names the code posix\.system.*not run"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"names the code builtins\.eval"):
        read_checkpoint(rewritten(path, b"cbuiltins\neval\n(S'1'\ntR."))
    saved(path, Runs(touched))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Runs(touched)))
    with pytest.raises(CheckpointError, match="is not a checkpoint of torch"):
        read_checkpoint(path)
    assert not touched.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path / "a.pt", {key: value.repeat(50, *[1] * (value.dim() - 1)) for key, value in WEIGHTS.items()})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        read_checkpoint(path)


def test_other_files(tmp_path: Path) -> None:
    cases = {
        "page.pt": (b"<html>not found</html>", "error page of a download"),
        "pointer.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "a.safetensors": (b"12345678{}", "not a safetensors file"),
        "text.pt": (b"hello there", r"is damaged or cut off \(KeyError\)"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=words):
            read_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_checkpoint(saved(tmp_path / "empty.pt", {"epoch": 1}))
    with pytest.raises(CheckpointError, match=r"holds no tensors by name.*torch\.save\(model\.state_dict\(\)"):
        read_checkpoint(saved(tmp_path / "object.pt", torch.nn.Linear(2, 2)))
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # as torch.jit.save lays one out
        for name in ("program/data.pkl", "program/constants.pkl", "program/code/__torch__.py"):
            archive.writestr(name, b"")
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_checkpoint(tmp_path / "program.pt")


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    broken = WEIGHTS | {"layer.bias": torch.tensor([torch.nan, 0.0])}
    with pytest.raises(CheckpointError, match=r"layer\.bias holds NaN"):
        read_checkpoint(saved(tmp_path / "a.pt", broken))

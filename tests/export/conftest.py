"""Small systems of every network, with features to go with them, and a calibration."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.onnx_networks import copy_of
from xvectors.backends import AffineCalibration, make_backend
from xvectors.config import load_recipe
from xvectors.models import EmbeddingMap
from xvectors.system import SystemFolder
from xvectors.system.serialization import make_model, write_description, write_weights
from xvectors.trials import all_pairs
from xvectors.verification import Verifier, fingerprint_of, save_verifier
from xvectors.verification.verifier import QUALITY_NAMES, duration_quality

EXTRA = "not installed; pip install 'xvectors[onnx]'"
DIM = 12
# Narrow and shallow: exporting a network takes time for each of its layers, whatever their width.
SMALL: dict[str, list[str]] = {
    "xvector": ["model.size=0.05", "model.batch_norm=true"],
    "etdnn": ["model.width=16", "model.pooled_dim=24"],
    "ftdnn": ["model.first_dim=16", "model.width=24", "model.bottleneck_dim=8", "model.pooled_dim=20"],
    "ecapa": ["model.channels=16", "model.pooled_dim=24", "model.bottleneck_dim=6", "model.res2net_scale=4"],
    "resnet34": ["model.channels=4", "model.depths=[1, 2, 1, 1]"],
    "thin_resnet": ["model.channels=4"],
    "campplus": ["model.map_channels=4", "model.channels=16", "model.growth=4", "model.depths=[1, 2, 1]"],
    "bottleneck_resnet": ["model.channels=4", "model.depths=[1, 2, 1, 1]"],
    "simam_resnet": ["model.channels=4", "model.depths=[1, 2, 1, 1]"],
    "preact_resnet": ["model.channels=8", "model.depths=[1, 2, 1, 1]"],
    "eres2netv2": ["model.channels=16", "model.depths=[1, 2, 1, 1]"],
    "lstm": ["model.width=16", "model.depth=2"],
    "redimnet": [
        "model.channels=4",
        "model.band_strides=[1, 3]",
        "model.depths=[2, 1]",
        "model.widths=[8, 12]",
        "model.reductions=[0, 7]",
        "model.group_width=4",
    ],
    "redimnet2": [
        "model.channels=4",
        "model.band_strides=[1, 2, 1]",
        "model.frame_strides=[1, 2, 2]",
        "model.depths=[1, 1, 1]",
        "model.widths=[8, 12, 8]",
        "model.reductions=[7, 0, 7]",
        'model.block="excited"',
        "model.head_channels=8",
        "model.aggregate_norm=true",
    ],
}


def write_small_system(path: Path, name: str, *settings: str) -> SystemFolder:
    """An untrained network with random BatchNorm statistics and an embedding map, saved as a system."""
    folder = SystemFolder(path)
    recipe = load_recipe(
        "xvector",
        [
            f"model.name={name}",
            f"model.embedding_dim={DIM}",
            "features.num_mels=21",
            *SMALL[name],
            *settings,
        ],
    )
    torch.manual_seed(1)
    model = make_model(recipe, 5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.kaiming_normal_(parameter)  # so that what tells recordings apart reaches the embedding
        for key, buffer in model.named_buffers():
            if "running_var" in key:
                buffer.uniform_(0.5, 1.5)
            elif "running_mean" in key:
                buffer.normal_(0.0, 0.1)
    write_description(folder, recipe, [f"s{i}" for i in range(5)])
    write_weights(folder, model.state_dict(), 1, EmbeddingMap(torch.randn(DIM), torch.randn(DIM, DIM) / DIM**0.5))
    return folder


def calibrate_by_chance(folder: SystemFolder) -> Verifier:
    """Write a back-end and a calibration that were learned on drawn embeddings; one figure is no number."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(12), 6)
    embeddings = rng.standard_normal((12, DIM))[speakers] + 0.7 * rng.standard_normal((len(speakers), DIM))
    backend = make_backend("wccn").fit(embeddings, speakers)
    trials, seconds = all_pairs(speakers), rng.uniform(1, 8, len(speakers))
    quality = duration_quality(seconds[trials.enroll], seconds[trials.test])
    calibration = AffineCalibration().fit(backend.score(embeddings, trials), trials.target, quality, QUALITY_NAMES)
    verifier = Verifier(
        backend=backend,
        name="wccn",
        calibration=calibration,
        backend_table={"reason": "drawn"},
        basis={"speakers": ["ann", "bob"], "source": "drawn"},
        figures={"whole": {"eer": 0.125, "cllr": math.nan}},
        p_target=0.25,
    )
    save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=fingerprint_of(folder))
    return verifier


@pytest.fixture(scope="session")
def small_system() -> Callable[..., SystemFolder]:
    return write_small_system


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A calibrated small x-vector system: its `folder` and `verifier`; its files `float32` and `int8`; its `graph`."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=EXTRA)
    from xvectors.export import export_onnx, onnx_file

    built: list[Any] = []
    build_onnx = onnx_file.build_onnx

    def build(*arguments: Any) -> Any:
        if not built:
            built.append(build_onnx(*arguments))
        return copy_of(built[0])

    root = tmp_path_factory.mktemp("exported")
    folder = write_small_system(root / "system", "xvector", "model.size=0.25")
    verifier = calibrate_by_chance(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "build_onnx", build)
        files = {precision: export_onnx(folder.path, root / f"{precision}.onnx", int8=precision == "int8")
                 for precision in ("float32", "int8")}  # fmt: skip
    return {"folder": folder, "verifier": verifier, "graph": built[0], **files}


@pytest.fixture
def built_before(exported: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take the graph of `exported`, for tests of everything but the graph: building one takes seconds."""
    from xvectors.export import onnx_file

    monkeypatch.setattr(onnx_file, "build_onnx", lambda *_: copy_of(exported["graph"]))

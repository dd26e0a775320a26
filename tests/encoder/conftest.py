"""An untrained system, small and quick."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xvectors.config import load_recipe
from xvectors.encoder import SpeakerEncoder
from xvectors.system import SystemFolder
from xvectors.system.serialization import make_model, write_description, write_weights


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network with random BatchNorm statistics, saved as a system."""
    folder = SystemFolder(tmp_path_factory.mktemp("system") / "s")
    recipe = load_recipe("xvector", ["model.size=0.25", "model.embedding_dim=48"])
    torch.manual_seed(1)
    model = make_model(recipe, 5)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    write_description(folder, recipe, [f"s{i}" for i in range(5)])
    write_weights(folder, model.state_dict(), 1)
    return folder.path


@pytest.fixture(scope="session")
def encoder(system: Path) -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(system, device="cpu")

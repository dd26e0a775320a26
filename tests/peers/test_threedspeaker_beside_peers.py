"""CAM++ beside 3D-Speaker's own class, with formula weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.parity import compare_with_class

pytestmark = pytest.mark.peers

CAMPPLUS = """
def make():
    from speakerlab.models.campplus.DTDNN import CAMPPlus
    return CAMPPlus(feat_dim=80, embedding_size=192)
"""


def test_campplus(tmp_path: Path, write_golden: bool) -> None:
    compare_with_class("3dspeaker-campplus", "speakerlab-slim", CAMPPLUS, tmp_path, write_golden=write_golden)

"""Every imported family computes what its toolkit's own class computed (see support.published)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.published import GOLDEN, KEPT, golden, golden_checkpoint, imported, our_outputs

FAMILIES = sorted(path.stem for path in GOLDEN.glob("*.json"))
LARGE = "3dspeaker-eres2netv2-w24s4ep4"
"""Of 54 M parameters."""


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow) if name == LARGE else name for name in FAMILIES]
)
def test_a_family_computes_what_its_own_class_computed(family: str, tmp_path: Path) -> None:
    known = golden(family)
    model = imported(
        tmp_path / "published.pt",
        golden_checkpoint(known),
        known.get("family", family),
        model_config=known.get("model_config"),
        settings=known.get("settings", ""),
    )
    found = our_outputs(model, len(known["outputs"]))
    for ours, expected, scale in zip(found, known["outputs"], known["scale"], strict=True):
        np.testing.assert_allclose(ours[:KEPT], expected, rtol=0, atol=1e-4 * scale)
        assert abs(float(np.abs(ours).max()) - scale) < 1e-4 * scale

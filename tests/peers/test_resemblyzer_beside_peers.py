"""Resemblyzer's voice encoder: its class with formula weights, and the weights that its package contains."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.parity import compare_with_class
from support.peers import peer_folder, run_peer

pytestmark = pytest.mark.peers

STAND_INS = """
import sys
from unittest import mock

for name in ("librosa", "webrtcvad", "scipy.ndimage.morphology"):
    sys.modules[name] = mock.MagicMock(__spec__=None)
"""

ENCODER = """
def make():
    import torch
    from resemblyzer import VoiceEncoder

    class Whole(VoiceEncoder):
        def forward(self, features):
            frames = features.shape[1] - 2  # the last two lie after the recording
            slices = self.compute_partial_slices(160 * frames - 1, 1.3, 0.75)[1]
            extended = torch.nn.functional.pad(features[0], (0, 0, 0, slices[-1].stop))
            mean = super().forward(torch.stack([extended[each] for each in slices])).mean(dim=0)
            return mean / mean.norm()

    return Whole("cpu", verbose=False)
"""

CHECK = """
import sys
from pathlib import Path
from xvectors.config import Recipe
from xvectors.system.importers import convert
from xvectors.system.importers.importing import complete
from xvectors.system.importers.parity import check_parity
from xvectors.system.serialization import make_features, make_model

found = convert(Path(sys.argv[1]))
recipe = Recipe(name="imported", features=found.imported.features, model=found.imported.model)
model = make_model(recipe, 0)
complete(model, found.imported.weights, "imported")
parity = check_parity(found.family, found.source, recipe, model, make_features(recipe))
print(found.family.name, parity.recordings, parity.largest_difference)
"""


def test_formula_weights(tmp_path: Path, write_golden: bool) -> None:
    compare_with_class("resemblyzer", "Resemblyzer", ENCODER, tmp_path, stand_ins=STAND_INS, write_golden=write_golden)


def test_published_weights_on_recordings_of_up_to_20_s() -> None:
    weights = peer_folder("Resemblyzer") / "resemblyzer" / "pretrained.pt"
    family, recordings, difference = run_peer("Resemblyzer", CHECK, weights, stand_ins=STAND_INS).split()[-3:]
    assert (family, recordings) == ("resemblyzer", "8")
    assert float(difference) < 1e-4

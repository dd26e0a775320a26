"""ReDimNet and ReDimNet2 beside WeSpeaker's classes, with formula weights; and the features of ReDimNet2."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.parity import compare_with_class
from support.peers import run_peer
from support.published import golden, golden_checkpoint
from xvectors.features import Fbank
from xvectors.features.toolkits import REDIMNET2
from xvectors.system.importers.parity import synthetic_voices

pytestmark = pytest.mark.peers

STAND_INS = """
import importlib.util, sys, types, warnings

warnings.simplefilter("ignore")
for name in ("wespeaker", "wespeaker.frontend"):
    package = types.ModuleType(name)
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = package
"""
"""WeSpeaker's packages without what their `__init__` import."""

FIRST = """
def make():
    from wespeaker.models.redimnet import ReDimNet, ReDimNetB1
    return {make}
"""
RESIDUAL = """ReDimNet(
        feat_dim=24, C=8, block_2d_type="basic_resnet", group_divisor=1,
        stages_setup=[(1, 1, 3, [(3, 3)], 8), (2, 2, 1, [(3, 3)], 12)],
        global_context_att=True,
    )"""
EXCITED = """ReDimNet(
        feat_dim=24, C=8, block_2d_type="basic_resnet_fwse", group_divisor=4, out_channels=40,
        stages_setup=[(1, 2, 2, [(3, 3)], 8), (2, 1, 4, [(3, 3)], None), (3, 1, 1, [(3, 3)], 16)],
        global_context_att=False,
    )"""
SECOND = """
def make():
    from wespeaker.models.redimnet2 import ReDimNet2B0, ReDimNet2Wrap
    network = {make}
    inner = network.forward
    network.forward = lambda features: inner(features.transpose(1, 2))
    return network
"""
DUAL = """ReDimNet2Wrap(
        F=24, C=8, block_2d_type="convnext_like", group_divisor=2, return_2d_output=True, dual_agg=True, agg_gnorm=True,
        stages_setup=[((1, 1), 1, 2, [(3, 3)], 8), ((2, 2), 2, 1, [(3, 3)], None), ((3, 2), 1, 0.5, [(3, 3)], 16)],
    )"""
JOINT_HEAD = """ReDimNet2Wrap(
        F=24, C=8, out_channels=16,
        stages_setup=[((1, 1), 1, 2, [(3, 3)], 8), ((2, 2), 1, 1, [(3, 3)], 16)],
    )"""
MODEL_CONFIG: dict[str, Any] = {
    "C": 12,
    "F": 72,
    "agg_gnorm": True,
    "block_1d_type": "conv+att",
    "block_2d_type": "basic_resnet",
    "causal": "none",
    "feat_type": "tf",
    "fm_weigthing_type": "NC",
    "hop_length": 160,
    "pooling_func": "ASTP",
    "return_2d_output": True,
    "spec_params": {"do_preemph": True, "do_spec_aug": False, "norm_signal": True},
}
"""As in the authors' training recipes."""
SETTINGS = """dataset_args:
  cmvn: false
  frontend: tfmel
  resample_rate: 16000
  tfmel_args:
    hop_length: 160
    n_mels: 24
    norm_signal: true
model: ReDimNet2Custom
model_args:
  embed_dim: 192
  feat_dim: 24
  pooling_func: ASTP
"""


@pytest.mark.parametrize(
    ("golden", "make"),
    [
        ("wespeaker-redimnet-b1", "ReDimNetB1()"),
        ("wespeaker-redimnet-residual", RESIDUAL),
        ("wespeaker-redimnet-excited", EXCITED),
    ],
)
def test_redimnet(golden: str, make: str, tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "wespeaker-redimnet",
        "wespeaker-unofficial",
        FIRST.format(make=make),
        tmp_path,
        golden=golden,
        stand_ins=STAND_INS,
        write_golden=write_golden,
    )


@pytest.mark.parametrize(
    ("family", "golden", "make", "model_config", "settings"),
    [
        ("redimnet2", "redimnet2-b0", "ReDimNet2B0(agg_gnorm=True, return_2d_output=True)", MODEL_CONFIG, ""),
        ("redimnet2", "redimnet2-dual", DUAL, {**MODEL_CONFIG, "F": 24, "C": 8, "block_2d_type": "convnext_like"}, ""),
        ("wespeaker-redimnet2", "wespeaker-redimnet2", JOINT_HEAD, None, SETTINGS),
    ],
)
def test_redimnet2(
    family: str,
    golden: str,
    make: str,
    model_config: dict[str, Any] | None,
    settings: str,
    tmp_path: Path,
    write_golden: bool,
) -> None:
    compare_with_class(
        family,
        "wespeaker-unofficial",
        SECOND.format(make=make),
        tmp_path,
        golden=golden,
        stand_ins=STAND_INS,
        write_golden=write_golden,
        model_config=model_config,
        settings=settings,
    )


CHECK = """
import json, sys, torch
from pathlib import Path
from support.published import our_features, our_outputs
from xvectors.system.importers import convert

differences = []
for path in sys.argv[1:]:
    found = convert(Path(path))
    network = found.family.reference_network(found.source)
    with torch.inference_mode():
        theirs = network(our_features(found.imported, 1)[0])
    theirs = (theirs[-1] if isinstance(theirs, tuple) else theirs).flatten()
    (ours,) = our_outputs(found.imported, 1)
    differences.append(float((torch.from_numpy(ours) - theirs).abs().max() / theirs.abs().max()))
print(json.dumps(differences))
"""


def test_the_networks_that_import_check_builds(tmp_path: Path) -> None:
    names = ["wespeaker-redimnet-excited", "redimnet2-dual", "wespeaker-redimnet2"]
    paths = []
    for name in names:
        known = golden(name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(known.get("settings", ""))
        paths.append(folder / "published.pt")
        tensors: dict[str, Any] = dict(golden_checkpoint(known))
        if "model_config" in known:
            tensors = {"model_config": known["model_config"], "state_dict": tensors}
        torch.save(tensors, paths[-1])
    printed = run_peer("wespeaker-unofficial", CHECK, *paths, stand_ins=STAND_INS).splitlines()[-1]
    assert len(json.loads(printed)) == len(paths)
    assert max(json.loads(printed)) < 1e-4, printed


FEATURES = """
import json, torch
from wespeaker.frontend.tfmel import TFMelBanks
from xvectors.system.importers.parity import synthetic_voices

banks = TFMelBanks(n_mels=72, norm_signal=True).eval()
voices = [torch.from_numpy(voice) for voice in synthetic_voices(16_000)[:4]]
print(json.dumps([banks(voice[None])[0].T.tolist() for voice in voices]))
"""


def test_the_features_of_redimnet2() -> None:
    """By the copy of the authors' class in WeSpeaker; rounding is largest in silence."""
    printed = run_peer("wespeaker-unofficial", FEATURES, stand_ins=STAND_INS).splitlines()[-1]
    fbank = Fbank(**asdict(REDIMNET2))
    for voice, values in zip(synthetic_voices(16_000), json.loads(printed), strict=False):
        ours, theirs = fbank(torch.from_numpy(voice))[0].numpy(), np.array(values, np.float32)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-3)
        assert np.abs(ours - theirs).mean() < 1e-4

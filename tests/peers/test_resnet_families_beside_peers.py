"""ResNets, SimAM-ResNets, ERes2NetV2 and CAM++ beside the classes of WeSpeaker and 3D-Speaker, with formula weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.parity import compare_with_class
from support.peers import run_peer
from support.published import golden, golden_checkpoint

pytestmark = pytest.mark.peers

GAIN = 0.5
"""Factor on formula weights, without which float32's rounding grows from block to block; in float64 both agree."""

STAND_INS = """
import importlib.util, sys, types

package = types.ModuleType("wespeaker")
package.__path__ = list(importlib.util.find_spec("wespeaker").submodule_search_locations)
sys.modules["wespeaker"] = package
"""
"""WeSpeaker's package without what its `__init__` imports."""

RESNET = """
def make():
    from wespeaker.models.resnet import {name}
    return {name}(feat_dim=80, embed_dim=256)
"""
SIMAM = """
def make():
    from wespeaker.models.samresnet import SimAM_ResNet34_ASP
    return SimAM_ResNet34_ASP()
"""
CAMPPLUS = """
def make():
    from wespeaker.models.campplus import CAMPPlus
    return CAMPPlus(feat_dim=80, embed_dim=512, pooling_func="TSTP")
"""


@pytest.mark.parametrize(
    ("family", "golden", "make"),
    [
        ("wespeaker-resnet", "wespeaker-resnet", RESNET.format(name="ResNet34")),
        ("wespeaker-resnet", "wespeaker-resnet-18", RESNET.format(name="ResNet18")),
        ("wespeaker-resnet", "wespeaker-resnet-50", RESNET.format(name="ResNet50")),
        ("wespeaker-simam", "wespeaker-simam", SIMAM),
        ("wespeaker-campplus", "wespeaker-campplus", CAMPPLUS),
    ],
)
def test_wespeaker(family: str, golden: str, make: str, tmp_path: Path, write_golden: bool) -> None:
    (tmp_path / "config.yaml").touch()  # by which WeSpeaker's CAM++ is told from 3D-Speaker's
    compare_with_class(
        family,
        "wespeaker-unofficial",
        make,
        tmp_path,
        golden=golden,
        gain=GAIN if family == "wespeaker-simam" else 1.0,
        stand_ins=STAND_INS,
        write_golden=write_golden,
    )


ERES2NETV2 = """
def make():
    from speakerlab.models.eres2net.ERes2NetV2 import ERes2NetV2
    return ERes2NetV2({settings})
"""


@pytest.mark.parametrize(
    ("golden", "settings"),
    [("3dspeaker-eres2netv2", ""), ("3dspeaker-eres2netv2-w24s4ep4", "baseWidth=24, scale=4, expansion=4")],
)
def test_eres2netv2(golden: str, settings: str, tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "3dspeaker-eres2netv2",
        "speakerlab-slim",
        ERES2NETV2.format(settings=settings),
        tmp_path,
        golden=golden,
        gain=GAIN,
        write_golden=write_golden,
    )


CHECK = """
import sys, torch
from pathlib import Path
from support.published import our_features, our_outputs
from xvectors.system.importers import convert

for path in sys.argv[2:]:
    found = convert(Path(path), sys.argv[1])
    network = found.family.reference_network(found.source)
    with torch.inference_mode():
        theirs = network(our_features(found.imported, 1)[0])
    theirs = (theirs[-1] if isinstance(theirs, tuple) else theirs).flatten()
    (ours,) = our_outputs(found.imported, 1)
    print(float((torch.from_numpy(ours) - theirs).abs().max() / theirs.abs().max()))
"""


@pytest.mark.parametrize(
    ("package", "family", "names"),
    [
        ("wespeaker-unofficial", "wespeaker-resnet", ["wespeaker-resnet-18", "wespeaker-resnet-50"]),
        ("wespeaker-unofficial", "wespeaker-simam", ["wespeaker-simam"]),
        ("wespeaker-unofficial", "wespeaker-campplus", ["wespeaker-campplus"]),
        ("speakerlab-slim", "3dspeaker-eres2netv2", ["3dspeaker-eres2netv2", "3dspeaker-eres2netv2-w24s4ep4"]),
    ],
)
def test_the_networks_that_import_check_builds(package: str, family: str, names: list[str], tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.pt" for name in names]
    for path, name in zip(paths, names, strict=True):
        torch.save(golden_checkpoint(golden(name)), path)
    stand_ins = STAND_INS if package == "wespeaker-unofficial" else ""
    printed = run_peer(package, CHECK, family, *paths, stand_ins=stand_ins).splitlines()[-len(paths) :]
    assert max(map(float, printed)) < 1e-4, printed

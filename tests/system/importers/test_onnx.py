"""Systems made of .onnx files: what the file says, what the user states, and every command that takes a system."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.commands import run
from support.onnx_networks import DIM, MELS, write_network
from xvectors import SpeakerEncoder
from xvectors.errors import CheckpointError, ConfigError, XVectorsError
from xvectors.export.onnx_file import export_onnx
from xvectors.features import Fbank
from xvectors.features.toolkits import THREE_D_SPEAKER, WESPEAKER
from xvectors.models import XVector
from xvectors.system import SystemFolder
from xvectors.system.importers import import_model
from xvectors.system.importers.onnx import KALDI
from xvectors.system.onnx_session import Sessions
from xvectors.system.serialization import read_description
from xvectors.training.calibrate import calibrate

SHERPA = {"framework": "3d-speaker", "sample_rate": "16000", "output_dim": str(DIM), "normalize_samples": "1"}
WITHOUT_CMN = ("wespeaker", "mean_normalization=false")
WAVE = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)


def matrix_of(rows: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, DIM)).astype(np.float32)


def features_of(folder: SystemFolder) -> Any:
    return read_description(folder).recipe.features


def test_filterbanks_by_sherpas_metadata(tmp_path: Path) -> None:
    folder = import_model(write_network(tmp_path / "other.onnx", metadata=SHERPA), tmp_path / "system")
    assert features_of(folder) == THREE_D_SPEAKER
    assert sorted(path.name for path in folder.path.iterdir()) == ["network.onnx", "speakers.csv", "system.toml"]
    description = read_description(folder)
    assert dict(description.recipe.model.settings) == {
        "input": "filterbanks",
        "output": "embedding",
        "embedding_dim": DIM,
        "context_frames": 2,
        "takes_batches": True,
    }
    origin = dict(description.origin or {})
    assert (origin["family"], origin["source"]) == ("onnx", "other.onnx")
    assert origin["notes"] == ["features of 3d-speaker, as the file's metadata state"]
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu")
    mels = Fbank(num_mels=MELS, mean_normalization=True, normalize_level=False)
    for samples in (400 + 160, 8000, 24_000):
        expected = mels(torch.from_numpy(WAVE[:samples]))[0].mean(dim=0).numpy() @ matrix_of(MELS)
        (found,) = encoder.engine.embed([WAVE[:samples]])
        np.testing.assert_allclose(found, expected, atol=1e-4)
    together = encoder.engine.embed([WAVE, WAVE[:5000]])
    np.testing.assert_allclose(together[1], encoder.engine.embed([WAVE[:5000]])[0], atol=1e-5)
    assert encoder.embedding_dim == DIM
    assert encoder.shortest_s == 0.035


@pytest.mark.parametrize(
    ("shape", "end", "takes_batches", "runs"),
    [
        (("batch", "frames", MELS), "", True, 3),
        ((1, "frames", MELS), "", False, 5),
        (("batch", "frames", MELS), "one row", False, 5),
        (("batch", "frames", MELS), "batch mean", False, 5),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_embeddings_do_not_depend_on_batch_or_order(
    shape: tuple[int | str, ...],
    end: str,
    takes_batches: bool,
    runs: int,
    threads: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recordings of one length share a batch where the network takes it, and all share the cores."""
    folder = import_model(write_network(tmp_path / "a.onnx", shape, SHERPA, end=end), tmp_path / "system")
    assert ("takes_batches" in read_description(folder).recipe.model.settings) == takes_batches
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu", threads=threads)
    waves = [WAVE[:length] for length in (9000, 16_000, 9000, 24_000, 16_000)]
    waves = [(1 + number) * wave for number, wave in enumerate(waves)]
    alone = np.concatenate([encoder.engine.embed([wave]) for wave in waves])
    given: list[int] = []
    original = Sessions.run
    monkeypatch.setattr(
        Sessions, "run", lambda self, output, inputs: given.append(len(inputs)) or original(self, output, inputs)
    )
    np.testing.assert_allclose(encoder.engine.embed(waves), alone, atol=1e-4)
    np.testing.assert_allclose(encoder.engine.embed(waves[::-1])[::-1], alone, atol=1e-4)
    assert given == [runs, runs]


def test_a_file_that_changes_while_it_is_in_use(tmp_path: Path) -> None:
    folder = import_model(write_network(tmp_path / "a.onnx", metadata=SHERPA), tmp_path / "system")
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu", threads=2)
    encoder.engine.embed([WAVE])
    write_network(folder.network, metadata=SHERPA | {"language": "any"})
    with pytest.raises(CheckpointError, match=r"network\.onnx: was changed since it was loaded; load it again"):
        encoder.engine.embed([WAVE, WAVE[:9000]])


@pytest.mark.parametrize("shape", [(1, "samples"), ("batch", "samples")])
def test_waveforms(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    metadata = {"sample_rate": "8000", "normalize_samples": "0"}
    folder = import_model(write_network(tmp_path / "a.onnx", shape, metadata), tmp_path / "system")
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu")
    assert (encoder.sample_rate_hz, encoder.shortest_s) == (8000, 0.05)
    found = encoder.engine.embed([WAVE, WAVE[:9000]])
    for row, wave in zip(found, (WAVE, WAVE[:9000]), strict=True):
        np.testing.assert_allclose(row, np.square(32768.0 * wave).mean() * matrix_of(1)[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["wespeaker"], WESPEAKER),
        (["kaldi"], KALDI),
        (["kaldi", "window=hamming", "sample_scale=1"], replace(KALDI, window="hamming", sample_scale=1.0)),
        (["mean_normalization=true"], replace(THREE_D_SPEAKER, mean_normalization=True)),
    ],
)
def test_features_as_stated(stated: list[str], expected: Any, tmp_path: Path) -> None:
    folder = import_model(write_network(tmp_path / "a.onnx"), tmp_path / "system", features=stated)
    assert features_of(folder) == expected


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    def refused(expected: str, *features: str, kind: type[XVectorsError] = CheckpointError, **network: Any) -> None:
        with pytest.raises(kind, match=expected):
            import_model(write_network(tmp_path / "a.onnx", **network), tmp_path / "system", features=features)

    refused("does not say how its features are computed; give --features wespeaker, 3d-speaker, kaldi")
    refused("--features wespaker: unknown; did you mean 'wespeaker'", "wespaker", kind=ConfigError)
    refused("no setting 'num_mel'; did you mean 'num_mels'|num_mels", "num_mel=80", kind=ConfigError)
    refused("takes 80 values a frame, and --features states 40", "num_mels=40", kind=ConfigError)
    refused("wespeaker and kaldi cannot both", "wespeaker", "kaldi", kind=ConfigError)
    refused("state output_dim 192, its vectors have 16", metadata=SHERPA | {"output_dim": "192"})
    refused("metadata are damaged", metadata=SHERPA | {"sample_rate": "fast"})
    refused("feature_normalize_type variance", metadata=SHERPA | {"feature_normalize_type": "variance"})
    refused("with a free number of frames", "kaldi", shape=(1, 200, MELS))
    refused("takes input .*filterbanks .1, frames, mels. or a waveform", "kaldi", shape=(1, 1, "t", MELS))
    refused("which of its outputs a, b is the embedding", "kaldi", outputs=("a", "b"))
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="damaged or not an ONNX file"):
        import_model(tmp_path / "a.onnx", tmp_path / "system")
    assert not (tmp_path / "system").exists()


def test_damaged_systems(tmp_path: Path) -> None:
    folder = import_model(write_network(tmp_path / "a.onnx", metadata=SHERPA), tmp_path / "system")
    text = folder.description.read_text(encoding="utf-8")
    folder.description.write_text(text.replace('output = "embedding"', 'output = "other"'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="another file than"):
        SpeakerEncoder.from_pretrained(folder.path)
    folder.description.write_text(text.replace('output = "embedding"\n', ""), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"damaged: recipe.model lacks 'output'"):
        SpeakerEncoder.from_pretrained(folder.path)


def test_neither_exported_nor_trained_nor_in_bfloat16(tmp_path: Path) -> None:
    folder = import_model(write_network(tmp_path / "a.onnx", metadata=SHERPA), tmp_path / "system")
    with pytest.raises(ConfigError, match="no network that can be trained or exported"):
        export_onnx(folder.path, tmp_path / "out.onnx")
    with pytest.raises(ConfigError, match="has its own; leave the setting out"):
        SpeakerEncoder.from_pretrained(folder.path, precision="bfloat16")
    with pytest.raises(CheckpointError, match=r"xvectors import .*a.onnx -o DIR"):
        SpeakerEncoder.from_pretrained(tmp_path / "a.onnx")


def test_it_is_calibrated_and_verifies(toy_corpus: Path, tmp_path: Path) -> None:
    system, corpus = tmp_path / "system", toy_corpus / "metadata.csv"
    network = write_network(tmp_path / "a.onnx")
    # with mean normalization, the mean over frames that this network takes would be rounding errors alone
    stated = [part for setting in WITHOUT_CMN for part in ("--features", setting)]
    printed = run("import", network, "-o", system, *stated)
    assert "ONNX file, onnx, from a.onnx" in printed.stdout
    assert calibrate(system, data=corpus, device="cpu").is_calibrated
    one, other = sorted(toy_corpus.rglob("*.flac"))[:2]
    assert "speaker" in run("verify", one, other, "--system", system).stdout
    printed = run("train", corpus, "-o", tmp_path / "new", "--from", system, status=2)
    assert "no network that can be trained" in printed.stderr


@pytest.mark.slow
def test_the_other_commands_take_it(toy_corpus: Path, tmp_path: Path) -> None:
    system, corpus = tmp_path / "system", toy_corpus / "metadata.csv"
    import_model(write_network(tmp_path / "a.onnx"), system, features=WITHOUT_CMN)
    run("embed", corpus, "--system", system, "-o", tmp_path / "vectors.npz")
    run("enroll", "ann", next(toy_corpus.rglob("*.flac")), "--system", system, "--gallery", tmp_path / "gallery.db")
    printed = run("evaluate", system, "--data", corpus, "--json")
    assert 0 <= json.loads(printed.stdout)["eer"] < 0.5


@pytest.mark.slow
def test_a_network_that_torch_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = XVector(size=0.1, input_dim=MELS, embedding_dim=32, num_speakers=2).eval()
    frames = torch.export.Dim("frames", min=network.context_frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from torch, about its own exporter
        program = torch.onnx.export(
            network,
            (torch.zeros(1, 60, MELS),),
            kwargs={"return_embedding": True},
            dynamo=True,
            dynamic_shapes={"x": {1: frames}, "return_embedding": None},
            verbose=False,
        )
    program.save(tmp_path / "xvector.onnx")
    folder = import_model(tmp_path / "xvector.onnx", tmp_path / "system", features=["3d-speaker"])
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu")
    assert encoder.model.context_frames == network.context_frames
    expected = network.embed(
        Fbank(num_mels=MELS, mean_normalization=True, normalize_level=False)(torch.from_numpy(WAVE))
    )
    np.testing.assert_allclose(encoder.engine.embed([WAVE])[0], expected[0].detach().numpy(), atol=1e-4)

"""Kaldi's x-vectors: networks in text and binary beside a direct evaluation of their graph; files that are refused."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.commands import run
from support.kaldi_models import (
    CONTEXTS,
    EMBEDDING_DIM,
    Contexts,
    draw_backend,
    draw_network,
    evaluate,
    model_folder,
    network_bytes,
    plda_scores,
    write_backend,
)
from support.published import our_features, our_outputs
from support.tolerances import BATCHED
from xvectors import SpeakerEncoder
from xvectors.config import Recipe
from xvectors.errors import CheckpointError, ConfigError
from xvectors.features.toolkits import KALDI_SRE16, KALDI_VOXCELEB
from xvectors.files import digest
from xvectors.models import XVector
from xvectors.system.importers import convert, import_model, sources
from xvectors.system.importers.family import Imported
from xvectors.system.importers.importing import complete
from xvectors.system.importers.kaldi.backend import kaldi_backend
from xvectors.system.importers.kaldi.files import KaldiPlda, read_array, read_nnet3, read_plda
from xvectors.system.importers.kaldi.network import parse_line
from xvectors.system.importers.sources import find_source
from xvectors.system.serialization import make_model
from xvectors.training.calibrate import calibrate
from xvectors.verification import verifier_of

MFCC = """--sample-frequency=16000
--frame-length=25 # the default is 25
--low-freq=20 # the default.
--high-freq=7600 # the default is zero meaning use the Nyquist (8k in this case).
--num-mel-bins=30
--num-ceps=30
--snip-edges=false
"""
EXTRACT = "output-node name=output input={}.affine\n"
PARAMETERS = draw_network(23)
REAL_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def written(folder: Path, content: bytes, *others: tuple[str, str]) -> Path:
    return model_folder(folder, [("final.raw", content), *others]) / "final.raw"


def check_outputs(
    found: Imported, parameters: dict[str, np.ndarray], layers: int = 6, contexts: Contexts = CONTEXTS
) -> None:
    expected = [
        evaluate(parameters, features[0].numpy(), layers, contexts=contexts) for features in our_features(found)
    ]
    np.testing.assert_allclose(our_outputs(found), expected, atol=BATCHED, rtol=BATCHED)


@pytest.mark.parametrize("binary", [True, False])
def test_the_network_computes_what_its_graph_says(binary: bool, tmp_path: Path) -> None:
    path = written(tmp_path, network_bytes(PARAMETERS, binary=binary), ("extract.config", EXTRACT.format("tdnn6")))
    found = convert(path)
    assert (found.family.name, found.family.seen) == ("kaldi-xvector", False)
    assert found.imported.features == KALDI_SRE16
    assert not any("extract.config" in note for note in found.notes)
    assert any("10,000 frames" in note for note in found.notes)
    assert any("energy VAD" in note for note in found.notes)
    check_outputs(found.imported, PARAMETERS)
    assert convert(path, "kaldi-xvector").imported.model == found.imported.model


def test_a_network_that_was_cut_at_its_embedding(tmp_path: Path) -> None:
    for layers in (6, 7):
        path = written(tmp_path / str(layers), network_bytes(PARAMETERS, binary=True, output=f"tdnn{layers}.affine"))
        found = convert(path)
        assert not any("extract.config" in note for note in found.notes)
        check_outputs(found.imported, PARAMETERS, layers)


def test_the_embedding_that_extract_config_names(tmp_path: Path) -> None:
    path = written(tmp_path, network_bytes(PARAMETERS, binary=True), ("extract.config", EXTRACT.format("tdnn7")))
    check_outputs(convert(path).imported, PARAMETERS, layers=7)
    (tmp_path / "extract.config").unlink()
    found = convert(path)
    assert any("the embedding is tdnn6.affine" in note for note in found.notes)
    check_outputs(found.imported, PARAMETERS)
    for node, message in (
        ("output", r"output\.affine; only tdnn6\.affine or tdnn7\.affine"),
        ("tdnn9", "tdnn9.affine, which is no node"),
    ):
        (tmp_path / "extract.config").write_text(EXTRACT.format(node), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            convert(path)


@pytest.mark.parametrize(
    ("contexts", "widths", "segment_dims"),
    [
        (((-1, 0, 1), (-4, 0, 4), (0,)), (9, 7, 11), (6, 6)),
        (((-2, -1, 0), (-6, -3, 0), (-1, 2), (0,)), (8, 8, 10, 12), (7, 5)),
        (CONTEXTS, (8, 9, 10, 11, 12), (5, 8)),
        (((0,),), (10,), (6, 4)),
    ],
    ids=["three-layers", "asymmetric", "widths", "one-layer"],
)
@pytest.mark.parametrize("layers", [6, 7])
def test_other_contexts_and_widths(
    contexts: Contexts, widths: tuple[int, ...], segment_dims: tuple[int, int], layers: int, tmp_path: Path
) -> None:
    parameters = draw_network(23, seed=4, contexts=contexts, widths=widths, segment_dims=segment_dims)
    content = network_bytes(parameters, binary=True, contexts=contexts)
    found = convert(written(tmp_path, content, ("extract.config", EXTRACT.format(f"tdnn{layers}")))).imported
    check_outputs(found, parameters, layers, contexts)
    assert found.model.settings["contexts"] == [" ".join(map(str, context)) for context in contexts]
    assert found.model.settings["widths"] == list(widths)


def test_a_network_with_batch_norm_in_some_layers(tmp_path: Path) -> None:
    parameters = {key: value for key, value in PARAMETERS.items() if key not in ("tdnn2.mean", "tdnn2.var")}
    del parameters["tdnn6.mean"], parameters["tdnn6.var"]
    path = written(tmp_path, network_bytes(parameters, binary=False), ("extract.config", EXTRACT.format("tdnn7")))
    check_outputs(convert(path).imported, parameters, layers=7)
    for layer in range(1, 6):
        parameters.pop(f"tdnn{layer}.mean", None)
    path = written(tmp_path / "b", network_bytes(parameters, binary=True), ("extract.config", EXTRACT.format("tdnn7")))
    check_outputs(convert(path).imported, parameters, layers=7)


def test_a_network_without_batch_norm_and_frames_in_another_order(tmp_path: Path) -> None:
    parameters = draw_network(30, seed=1, batch_norm=False)
    swapped = dict(parameters)
    first, second = np.split(parameters["tdnn2.weight"], [8], axis=1)
    swapped["tdnn2.weight"] = np.hstack([second, first])
    order = {"tdnn2.affine": "Append(tdnn1.relu, Offset(tdnn1.relu, 2), Offset(tdnn1.relu, -2))"}
    path = written(tmp_path, network_bytes(swapped, binary=True, inputs=order))
    found = convert(path).imported
    assert found.features == KALDI_VOXCELEB
    assert found.model.settings["batch_norm"] is False
    check_outputs(found, parameters)


def test_features_follow_the_configuration_beside_the_model(tmp_path: Path) -> None:
    content = network_bytes(draw_network(30), binary=True)
    root = model_folder(tmp_path, [("exp/xvector_nnet_1a/final.raw", content), ("conf/mfcc.conf", MFCC)])
    path = root / "exp" / "xvector_nnet_1a" / "final.raw"
    assert find_source(root).path == path
    found = convert(path)
    assert found.imported.features == KALDI_VOXCELEB
    assert not any("mfcc.conf" in note for note in found.notes)
    conf = root / "conf" / "mfcc.conf"
    for text, message in (
        (MFCC.replace("--num-ceps=30", ""), r"mfcc\.conf: states 13 coefficients, and final\.raw takes 30"),
        (MFCC + "--htk-compat=true\n", r"mfcc\.conf: the option --htk-compat=true has no equal"),
        (MFCC + "--use-energy=maybe\n", "use-energy=maybe is not a value"),
        (MFCC + "--num-mel-bins=20\n", r"mfcc\.conf: cannot be applied: num_ceps is 30"),
        (MFCC + "--window-type=blackman\n", r"mfcc\.conf: cannot be applied: .*blackman"),
    ):
        conf.write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            convert(path)
    conf.unlink()
    assert any("those of egs/voxceleb/v2" in note for note in convert(path).notes)
    path.write_bytes(network_bytes(draw_network(13), binary=True))
    with pytest.raises(CheckpointError, match=r"takes 13 coefficients, and no mfcc\.conf is beside it"):
        convert(path)


@pytest.mark.parametrize("binary", [True, False])
def test_a_file_that_is_cut_off_anywhere(binary: bool, tmp_path: Path) -> None:
    content = network_bytes(PARAMETERS, binary=binary).rstrip()
    path = tmp_path / "final.raw"
    path.write_bytes(content)
    read_nnet3(path)
    generator = np.random.default_rng(0)
    for length in sorted(generator.integers(12, len(content) - 1, 60)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"final\.raw: .*should follow"):
            read_nnet3(path)
    weights = content.index(b"<LinearParams>") + (400 if binary else 4000)
    path.write_bytes(content[:weights])
    with pytest.raises(CheckpointError, match=r"final\.raw: is cut off .* <LinearParams> of tdnn1\.affine"):
        convert(path)


def test_sizes_that_a_file_only_states(tmp_path: Path) -> None:
    content = network_bytes(PARAMETERS, binary=True)
    at = content.index(b"FM \4") + 4
    path = tmp_path / "final.raw"
    path.write_bytes(content[:at] + b"\xff\xff\xff\x7f\4\xff\xff\xff\x7f" + content[at + 9 :])
    with pytest.raises(CheckpointError, match=r"shape \[2147483647, 2147483647\] with [\d,]+ bytes"):
        convert(path)
    path.write_bytes(content[:at] + b"\xff\xff\xff\xff\4\xff\xff\xff\xff" + content[at + 9 :])
    with pytest.raises(CheckpointError, match=r"byte .*-1, -1.* is damaged"):
        convert(path)
    path.write_bytes(content.replace(b"FM \4", b"CM \4", 1))
    with pytest.raises(CheckpointError, match="--compress=false"):
        convert(path)


def test_networks_that_are_no_x_vector(tmp_path: Path) -> None:
    def refused(message: str, **changed: Any) -> None:
        path = written(tmp_path, network_bytes(PARAMETERS, binary=True, **changed))
        with pytest.raises(CheckpointError, match=message) as caught:
            convert(path)
        assert "final.raw" in str(caught.value)

    refused("tdnn2.affine is a TdnnComponent", kinds={"tdnn2.affine": "TdnnComponent"})
    refused("tdnn4.relu is a LstmNonlinearityComponent", kinds={"tdnn4.relu": "LstmNonlinearityComponent"})
    refused(
        r"no x-vector: its layers are NaturalGradientAffine, LogSoftmax", kinds={"tdnn1.relu": "LogSoftmaxComponent"}
    )
    refused(
        r"tdnn3.affine sees the frames \[-4, 0, -4\], some of them twice",
        inputs={"tdnn3.affine": "Append(Offset(tdnn2.batchnorm, -4), tdnn2.batchnorm, Offset(tdnn2.batchnorm, -4))"},
    )
    refused(
        r"tdnn3.affine sees the frames \[-4, 0, 3000\]; those of an x-vector lie within 3,000",
        inputs={"tdnn3.affine": "Append(Offset(tdnn2.batchnorm, -4), tdnn2.batchnorm, Offset(tdnn2.batchnorm, 3000))"},
    )
    refused(
        "tdnn5.affine depends on 5,802 frames of the input; at most 3,000",
        inputs={
            "tdnn2.affine": "Append(tdnn1.batchnorm, Offset(tdnn1.batchnorm, 1), Offset(tdnn1.batchnorm, 2896))",
            "tdnn3.affine": "Append(tdnn2.batchnorm, Offset(tdnn2.batchnorm, 1), Offset(tdnn2.batchnorm, 2901))",
        },
    )
    refused(
        "tdnn5.affine sees the input from 3 frames after its own on",
        inputs={"tdnn5.affine": "Offset(tdnn4.batchnorm, 10)"},
    )
    refused(
        r"tdnn7.affine sees the frames \[2\] of a layer that has one time",
        inputs={"tdnn7.affine": "Offset(tdnn6.batchnorm, 2)"},
        output="tdnn7.affine",
    )
    refused(
        r"tdnn1.affine has the input Append\(input, ReplaceIndex\(ivector, t, 0\)\)",
        inputs={"tdnn1.affine": "Append(input, ReplaceIndex(ivector, t, 0))"},
    )
    refused(r"tdnn2.relu sees the frames \[1\]", inputs={"tdnn2.relu": "Offset(tdnn2.affine, 1)"})
    refused("loop", inputs={"tdnn4.affine": "tdnn5.batchnorm"})


def test_a_line_of_a_million_characters_is_not_searched() -> None:
    assert parse_line("component-node name=a component=b")[1] == {"name": "a", "component": "b"}
    assert parse_line("component-node name=" + 500_000 * "a ") == ("", {})


def test_layers_that_do_not_fit_each_other(tmp_path: Path) -> None:
    for name, value, message in (
        ("tdnn2.weight", np.ones((8, 23)), r"tdnn2\.affine has weights \[8, 23\] .* where \[D, 24\]"),
        ("tdnn3.mean", np.ones(7), r"tdnn3\.batchnorm has 7 means and 8 variances, where 8"),
        ("tdnn6.bias", np.ones(5), r"tdnn6\.affine has weights \[6, 24\] and a bias of 5"),
        ("tdnn1.bias", np.full(8, np.nan), r"<BiasParams> of tdnn1\.affine is not free of NaN"),
    ):
        path = written(tmp_path, network_bytes({**PARAMETERS, name: value}, binary=True))
        with pytest.raises(CheckpointError, match=message):
            convert(path)
    path = written(tmp_path, network_bytes(PARAMETERS, binary=False).replace(b"<LeftContext> 0", b"<LeftContext> 99"))
    with pytest.raises(CheckpointError, match="stats-pooling-0-10000 has <LeftContext> 99, where 0"):
        convert(path)


def test_layers_above_the_embedding_can_learn(tmp_path: Path) -> None:
    """With the embedding at the first segment layer, a second one of zeros would pass no gradient on."""
    found = convert(written(tmp_path, network_bytes(PARAMETERS, binary=True))).imported
    torch.testing.assert_close(
        found.weights["seg_fc2.weight"].double(), torch.from_numpy(PARAMETERS["tdnn7.weight"]), atol=1e-6, rtol=1e-6
    )
    assert float(found.weights["seg_bn2.weight"][0]) == 1.5
    cut = convert(written(tmp_path, network_bytes(PARAMETERS, binary=True, output="tdnn6.affine"))).imported
    assert torch.equal(cut.weights["seg_fc2.weight"], torch.eye(EMBEDDING_DIM))

    # a family whose file holds nothing above the embedding
    model = XVector(size=0.02, num_speakers=3, embedding_dim=EMBEDDING_DIM, batch_norm=True, input_dim=23)
    needed = {key: value for key, value in model.state_dict().items() if not key.startswith(("seg_", "classifier."))}
    needed |= {key: value for key, value in model.state_dict().items() if key.startswith("seg_fc1.")}
    full = complete(make_model(Recipe(name="x", features=cut.features, model=cut.model), 0), cut.weights, "x")
    assert not full["classifier.weight"].any()
    full = complete(model, needed, "x")
    assert float(full["seg_fc2.weight"].abs().sum()) > 0
    assert torch.equal(full["seg_bn1.weight"], torch.ones(EMBEDDING_DIM))
    model.load_state_dict({**full, "classifier.weight": torch.randn_like(full["classifier.weight"])})
    model.train()(torch.randn(4, 30, 23)).square().sum().backward()  # type: ignore[no-untyped-call]
    assert float(model.get_parameter("tdnn1.linear.weight").grad.abs().sum()) > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("offset", [True, False])
def test_scores_are_those_of_kaldi(binary: bool, offset: bool, tmp_path: Path) -> None:
    backend = draw_backend(4, seed=2, offset=offset)
    path = written(tmp_path, network_bytes(PARAMETERS, binary=True))
    write_backend(tmp_path, backend, binary=binary)
    found = convert(path).imported.backend
    assert found is not None
    embeddings = np.random.default_rng(3).standard_normal((12, EMBEDDING_DIM)) * 3 + backend["mean"]
    expected = plda_scores(backend, embeddings[:5], embeddings[5:])
    assert np.ptp(expected) > 5
    np.testing.assert_allclose(found.score_matrix(embeddings[:5], embeddings[5:]), expected, atol=1e-4, rtol=1e-4)


def test_scores_in_the_dimensions_of_the_recipe() -> None:
    """512 dimensions to 200, with small psi at the end as in published models."""
    generator = np.random.default_rng(5)
    backend = {
        "mean": generator.standard_normal(512),
        "lda": generator.standard_normal((200, 513)) / 20,
        "plda_mean": 0.1 * generator.standard_normal(200),
        "plda_transform": generator.standard_normal((200, 200)) / 5 + np.eye(200),
        "psi": np.append(np.geomspace(20, 0.05, 199), 0.0),
    }
    plda = KaldiPlda(mean=backend["plda_mean"], transform=backend["plda_transform"], psi=backend["psi"])
    ours = kaldi_backend(backend["mean"], backend["lda"], plda)
    speakers = generator.standard_normal((6, 512)) * 4
    enroll, test = (speakers + generator.standard_normal((6, 512)) for _ in range(2))
    expected = plda_scores(backend, enroll, test)
    np.testing.assert_allclose(ours.score_matrix(enroll, test), expected, atol=2e-3, rtol=1e-4)
    assert expected.diagonal().min() > expected[~np.eye(6, dtype=bool)].max()


@pytest.mark.real
def test_a_plda_that_kaldi_wrote() -> None:
    path = REAL_DATA / "diarization" / "vbx-es2005a" / "plda"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    plda = read_plda(path)
    assert (len(plda.mean), plda.transform.shape) == (128, (128, 128))
    assert plda.psi[0] == pytest.approx(5.60041917, abs=1e-6)
    assert (np.diff(plda.psi) <= 0).all()
    # its own samples: between-speaker variance psi, within-speaker variance 1
    generator = np.random.default_rng(0)
    latent = generator.standard_normal((40, 1, 128)) * np.sqrt(plda.psi) + generator.standard_normal((40, 2, 128))
    x = latent @ np.linalg.inv(plda.transform).T + plda.mean
    backend = {
        "mean": np.zeros(128),
        "lda": np.eye(128),
        "plda_mean": plda.mean,
        "plda_transform": plda.transform,
        "psi": plda.psi,
    }
    ours = kaldi_backend(backend["mean"], backend["lda"], plda).score_matrix(x[:, 0], x[:, 1])
    np.testing.assert_allclose(ours, plda_scores(backend, x[:, 0], x[:, 1]), atol=2e-3, rtol=1e-4)


def test_back_ends_that_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, network_bytes(PARAMETERS, binary=True))
    backend = draw_backend(4)
    assert convert(path).imported.backend is None
    assert any("scores with the cosine" in note for note in convert(path).notes)

    def refused(message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            convert(path)

    write_backend(tmp_path, backend, binary=True)
    plda = (tmp_path / "plda").read_bytes()
    (tmp_path / "plda").unlink()
    refused(r"has mean\.vec and transform\.mat, but no plda, beside final\.raw or in xvectors_\* folders")
    (tmp_path / "plda").write_bytes(plda[: len(plda) // 2])
    refused(r"plda: is cut off after .* transform of shape \[4, 4\] with 128 bytes")
    write_backend(tmp_path, {**backend, "mean": np.ones(7)}, binary=True)
    refused(r"mean\.vec: has 7 values, where embeddings have 6")
    write_backend(tmp_path, {**backend, "lda": np.ones((4, 9))}, binary=True)
    refused(r"transform\.mat: is 4 x 9, where embeddings have 6 dimensions; .* or one more for an offset")
    write_backend(tmp_path, {**backend, "lda": np.ones((4, 6))}, binary=True)
    refused(r"transform\.mat: cannot be inverted: its 4 rows are not independent")
    write_backend(tmp_path, {**backend, "lda": backend["lda"][:3]}, binary=True)
    refused(r"plda: has 4 dimensions, where transform\.mat gives 3")
    write_backend(tmp_path, {**backend, "psi": -backend["psi"]}, binary=True)
    refused("plda: the PLDA holds NaN, infinity or a negative psi")
    write_backend(tmp_path, {**backend, "psi": np.ones(3)}, binary=True)
    refused(r"plda: a PLDA of shapes mean \[4\], transform \[4, 4\] and psi \[3\]")
    for name in ("mean.vec", "transform.mat", "plda"):
        (tmp_path / name).unlink()
    for place in ("xvectors_train", "xvectors_other"):
        write_backend(tmp_path / place, backend, binary=True)
    refused("mean.vec is in .*xvectors_other, .*xvectors_train; copy the one")


def test_vectors_and_matrices_in_text(tmp_path: Path) -> None:
    path = tmp_path / "mean.vec"
    path.write_bytes(b" [ 1.5 -2e-3 3 ]\n")
    assert read_array(path, 1).tolist() == [1.5, -0.002, 3.0]
    path.write_bytes(b" [\n  1 2 \n  3 4 ]\n")
    assert read_array(path, 2).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    for content, message in (
        (b" [ 1 2", "cut off"),
        (b" [\n  1 2 \n  3 ]\n", "rows of values have different lengths"),
        (b" [ 1 two ]\n", "values is damaged"),
        (b" [ 1 nan ]\n", "NaN or infinity"),
        (b" [ ]\n", "holds no values"),
        (b" [\n 1 2\n 3 4 ]\n", r"has the shape \[2, 2\], where a vector is expected"),
        (b"key [ 1 2 ]\n", "where .* should follow"),
        (b"", "cut off after 0 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_array(path, 1)
        assert "mean.vec" in str(caught.value)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as published: its folder in a tar archive, with a file that is not needed and one that lies outside."""
    monkeypatch.setattr(sources, "user_folder", lambda kind: tmp_path / "cache")
    root = model_folder(
        tmp_path / "0007_voxceleb",
        [
            ("exp/xvector_nnet_1a/final.raw", network_bytes(draw_network(30), binary=True)),
            ("exp/xvector_nnet_1a/extract.config", EXTRACT.format("tdnn6")),
            ("conf/mfcc.conf", MFCC),
            ("run.sh", "exit 1"),
        ],
    )
    write_backend(root / "exp" / "xvector_nnet_1a" / "xvectors_train", draw_backend(4), binary=True)
    path = tmp_path / "0007_voxceleb_v2_1a.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(root, root.name)
        outside = tarfile.TarInfo("../plda")
        outside.size = 3
        file.addfile(outside, io.BytesIO(b"bad"))
    return path


def test_a_published_archive_becomes_a_system(archive: Path, tmp_path: Path) -> None:
    printed = run("import", archive, "-o", tmp_path / "system", "--sha256", digest(archive), "--json")
    origin = json.loads(printed.stdout)["origin"]
    assert (origin["family"], origin["file"]) == ("kaldi-xvector", archive.name)
    assert origin["sha256"] == digest(archive)
    assert "reconstructed" in printed.stderr
    assert not list(tmp_path.glob("cache/**/run.sh"))
    assert not list(tmp_path.glob("cache/plda"))
    encoder = SpeakerEncoder.from_pretrained(tmp_path / "system")
    assert (encoder.sample_rate_hz, encoder.embedding_dim) == (16_000, EMBEDDING_DIM)
    assert (encoder.verifier.name, encoder.verifier.is_calibrated) == ("imported", False)
    embeddings = np.random.default_rng(0).standard_normal((5, EMBEDDING_DIM))
    expected = plda_scores(draw_backend(4), embeddings[:2], embeddings[2:])
    scores = encoder.verifier.backend.score_matrix(embeddings[:2], embeddings[2:])
    np.testing.assert_allclose(scores, expected, atol=1e-4, rtol=1e-4)


def test_an_archive_that_is_cut_off(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"tar\.gz is damaged or cut off"):
        find_source(archive)
    archive.write_bytes(b"no archive at all")
    with pytest.raises(CheckpointError, match=r"tar\.gz is damaged or cut off"):
        find_source(archive)
    with tarfile.open(archive, "w:gz") as file:
        file.addfile(tarfile.TarInfo("readme.txt"))
        file.addfile(tarfile.TarInfo(""))
    with pytest.raises(CheckpointError, match=r"holds no final\.raw"):
        find_source(archive)


def test_the_back_end_is_bound_to_the_network(tmp_path: Path) -> None:
    written(tmp_path / "model", network_bytes(PARAMETERS, binary=True))
    write_backend(tmp_path / "model", draw_backend(4), binary=True)
    folder = import_model(tmp_path / "model", tmp_path / "system")
    assert verifier_of(folder).name == "imported"
    text = folder.description.read_text(encoding="utf-8")
    folder.description.write_text(
        re.sub(r"high_frequency_hz = [\d.]+", "high_frequency_hz = 3600.0", text), encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="other features, another network or other weights"):
        verifier_of(folder)


def test_calibration_keeps_the_back_end(tmp_path: Path, toy_corpus: Path) -> None:
    written(tmp_path / "model", network_bytes(PARAMETERS, binary=True))
    write_backend(tmp_path / "model", draw_backend(4), binary=True)
    folder = import_model(tmp_path / "model", tmp_path / "system")
    before = verifier_of(folder)
    assert before.table().keys() == {"backend", "decision", "basis", "figures"}
    calibrated = calibrate(folder.path, data=toy_corpus)
    assert (calibrated.name, calibrated.is_calibrated) == ("imported", True)
    assert calibrated.basis["num_speakers"] == 10, "none of them was needed to fit a back-end"
    after = verifier_of(folder)
    for name, part in after.backend.parts().items():
        for key, array in part.arrays().items():
            np.testing.assert_array_equal(array, before.backend.parts()[name].arrays()[key])
    assert calibrated.backend_table["reason"] == "it came with the imported model"
    assert calibrate(folder.path, data=toy_corpus, backend="cosine").name == "cosine"
    with pytest.raises(ConfigError, match="no back-end that came with"):
        calibrate(folder.path, data=toy_corpus, backend="imported")

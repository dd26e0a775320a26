"""Unlabeled recordings to adapt to: folders, manifests without speakers, and embeddings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from xvectors.corpus import Manifest
from xvectors.encoder import SpeakerEncoder, save_embeddings
from xvectors.encoder.sharded import embed_in_parts
from xvectors.errors import CheckpointError, ManifestError
from xvectors.training.unlabeled import open_unlabeled
from xvectors.verification.decision import MIN_SPEECH_S


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained("starter", device="cpu")


@pytest.fixture(scope="module")
def some(toy_corpus: Path) -> Manifest:
    return Manifest.read_csv(toy_corpus / "metadata.csv").take(np.arange(0, 60, 8))


def test_a_folder_a_manifest_and_embeddings_give_the_same(
    encoder: SpeakerEncoder, some: Manifest, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    (folder / "deep" / "down").mkdir(parents=True)
    (folder / "notes.txt").write_text("not a recording")
    for row in range(len(some)):
        shutil.copy(some.full_path(row), folder / ("deep/down" if row % 2 else "") / f"{row}.flac")
    table = tmp_path / "list.csv"
    table.write_text("path\n" + "".join(f"{some.full_path(row)}\n" for row in range(len(some))))
    embedded = encoder.encode_manifest(some)
    save_embeddings(tmp_path / "emb.npz", some, embedded)
    embed_in_parts(encoder, some, tmp_path / "parts")
    enough = embedded.speech_s >= MIN_SPEECH_S
    assert enough.sum() == 7  # one holds too little speech, however it is given
    expected = embedded.embeddings[enough][np.lexsort(embedded.embeddings[enough].T)]
    for given in (folder, table, tmp_path / "emb.npz", tmp_path / "parts"):
        found = open_unlabeled(given, encoder)
        assert found.num_listed == len(some) == 8
        rows = found.new.embeddings
        np.testing.assert_allclose(rows[np.lexsort(rows.T)], expected, atol=1e-3)
        assert found.new.duration_s is not None
        assert found.new.duration_s.sum() == pytest.approx(embedded.speech_s[enough].sum(), rel=1e-4)


def test_embeddings_that_are_unusable_or_of_another_system(
    encoder: SpeakerEncoder, some: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "emb.npz"
    rows = np.random.default_rng(0).standard_normal((12, encoder.embedding_dim)).astype(np.float32)
    rows[3, 5], rows[7] = np.nan, 0.0
    np.savez(path, embeddings=rows)
    found = open_unlabeled(path, encoder)
    assert (found.num_listed, found.new.duration_s) == (12, None)
    np.testing.assert_array_equal(found.new.embeddings, np.delete(rows, [3, 7], axis=0))
    assert "left out 2 of 12 embeddings with NaN, infinity or only zeros" in caplog.text
    np.savez(path, embeddings=rows * np.nan)
    with pytest.raises(CheckpointError, match=r"emb.npz: no usable embeddings; embed them again"):
        open_unlabeled(path, encoder)
    np.savez(path, embeddings=rows[:, :5])
    with pytest.raises(CheckpointError, match=r"emb.npz: embeddings have 5 dimensions, and those of this system 128"):
        open_unlabeled(path, encoder)
    embed_in_parts(encoder, some, tmp_path / "parts")
    for description in (tmp_path / "parts").glob("*.json"):
        description.write_text(description.read_text().replace(encoder.fingerprint, "0" * 64))
    with pytest.raises(CheckpointError, match="embeddings by another system"):
        open_unlabeled(tmp_path / "parts", encoder)


def test_nothing_to_embed(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "a.xyz").write_text("")
    with pytest.raises(ManifestError, match=r"empty: no recording in this folder \(it holds 1 .xyz\)"):
        open_unlabeled(folder, encoder)
    with pytest.raises(ManifestError, match=r"none: no such file; give a folder of recordings to adapt to"):
        open_unlabeled(tmp_path / "none", encoder)
    table = tmp_path / "list.csv"
    table.write_text("speaker,age\nann,3\n")
    with pytest.raises(ManifestError, match="no column says 'path'"):
        open_unlabeled(table, encoder)

"""The scikit-learn transformer, by scikit-learn's own checks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from support.voices import spoken
from xvectors import SpeakerEncoder
from xvectors.config import load_recipe
from xvectors.corpus import open_corpus
from xvectors.errors import TooShortError
from xvectors.integrations.sklearn import SpeakerEmbedder
from xvectors.system import SystemFolder
from xvectors.system.serialization import make_model, write_description, write_weights

RATE = 16_000
OTHER_LENGTHS = "wants arrays of another length refused after fit: samples are no features, recordings differ in length"
DO_NOT_APPLY = {
    "check_estimators_dtypes": "one of its rows is only zeros, which is an error: nobody speaks there",
    "check_n_features_in": OTHER_LENGTHS,
    "check_n_features_in_after_fitting": OTHER_LENGTHS,
    "check_transformer_general": OTHER_LENGTHS,
}
"""scikit-learn's checks that an embedder of recordings cannot pass, and why."""

TIGHTER_THAN_FLOAT32 = "it asks for equality within 1e-9; kernels may round by the place of a row in its batch"
MAY_ROUND = {
    "check_methods_sample_order_invariance": TIGHTER_THAN_FLOAT32,
    "check_methods_subset_invariance": TIGHTER_THAN_FLOAT32,
}
"""Checks that pass on some processors only. `test_order_and_batches_do_not_matter` asserts what they are about."""

SMALLEST = [
    "model.name=ecapa",
    "model.channels=8",
    "model.pooled_dim=8",
    "model.bottleneck_dim=4",
    "model.res2net_scale=2",
    "model.embedding_dim=3",
    "model.pooling=statistics",
    "features.num_mels=1",
    "features.frame_length_ms=0.25",
    "features.frame_shift_ms=0.0625",
    "features.snip_edges=false",
]
"""A network that needs two samples, so that the checks' rows of a few numbers are recordings."""


def test_scikit_learns_own_checks(tmp_path: Path) -> None:
    recipe = load_recipe("lab", SMALLEST)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(recipe, 2)
    system = SystemFolder(tmp_path / "smallest")
    write_description(system, recipe, ["a", "b"])
    write_weights(system, model.state_dict(), 1)
    embedder = SpeakerEmbedder(str(system.path), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checks warn of what they are about to skip
        results = check_estimator(embedder, on_fail=None, on_skip=None, expected_failed_checks=DO_NOT_APPLY | MAY_ROUND)
    failed = {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"}
    assert failed == {}
    failed_as_expected = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed_as_expected - MAY_ROUND.keys() == DO_NOT_APPLY.keys()
    assert sum(result["status"] == "passed" for result in results) >= 25


def test_order_and_batches_do_not_matter() -> None:
    waves = np.random.default_rng(0).normal(0, 0.1, (20, 16000)).astype(np.float32)
    embedder = SpeakerEmbedder(device="cpu").fit()
    together = embedder.transform(waves)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_allclose(embedder.transform(waves[order]), together[order], atol=1e-4)
    alone = np.concatenate([embedder.transform(wave[None]) for wave in waves])
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_recordings_of_every_kind(toy_corpus: Path) -> None:
    manifest = open_corpus(toy_corpus)
    paths = [str(manifest.full_path(row)) for row in range(0, 80, 8)]
    waves = [soundfile.read(path, dtype="float32")[0] for path in paths]
    expected = SpeakerEncoder.from_pretrained(device="cpu").encode(paths)
    embedder = SpeakerEmbedder(device="cpu").fit(paths)
    for recordings in (paths, np.array(paths), [Path(path) for path in paths], waves, tuple(waves)):
        np.testing.assert_allclose(embedder.transform(recordings), expected, atol=1e-4)
    ragged = np.empty(len(waves), dtype=object)
    ragged[:] = waves
    np.testing.assert_allclose(embedder.transform(ragged), expected, atol=1e-4)
    shortest = min(map(len, waves))
    table = np.stack([wave[:shortest] for wave in waves])
    np.testing.assert_allclose(
        embedder.transform(table), embedder.encoder_.encode([wave[:shortest] for wave in waves]), atol=1e-4
    )
    # arrays of another length are other recordings
    assert embedder.transform(table[:, : shortest // 2]).shape == (10, 128)
    with pytest.raises(TooShortError, match="recording 0"):
        embedder.transform(table[:, :100])


def test_it_tells_speakers_apart_in_a_pipeline(toy_corpus: Path) -> None:
    manifest = open_corpus(toy_corpus).take(np.arange(32))
    paths = [str(manifest.full_path(row)) for row in range(32)]
    pipeline = make_pipeline(SpeakerEmbedder(device="cpu"), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 10.0]}, cv=2).fit(paths, manifest.speaker_index)
    assert search.best_score_ == 1.0
    names = pipeline[0].fit().get_feature_names_out()
    assert names.tolist() == [f"speakerembedder{i}" for i in range(128)]


def test_settings_reach_the_encoder() -> None:
    ((speech, _),) = spoken(3, 1)
    quiet = np.concatenate([speech, 1e-5 * np.random.default_rng(0).standard_normal(2 * RATE)]).astype(np.float32)
    embedder = SpeakerEmbedder("starter", device="cpu", threads=1, sample_rate_hz=8_000, trim_silence="energy").fit()
    expected = embedder.encoder_.encode([quiet], sample_rate_hz=8_000, trim_silence="energy")
    np.testing.assert_allclose(embedder.transform([quiet]), expected, atol=1e-4)
    assert embedder.encoder_.engine.threads == 1
    with pytest.raises(NotFittedError):
        clone(embedder).transform([quiet])

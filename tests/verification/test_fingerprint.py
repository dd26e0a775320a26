"""One fingerprint for all that embeddings depend on: a changed setting is an error, not another answer."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from support.commands import run
from xvectors import SpeakerEncoder
from xvectors.config import parse_toml, to_toml
from xvectors.errors import CheckpointError
from xvectors.gallery import SqliteStore, Voiceprint, open_gallery
from xvectors.system import SystemFolder
from xvectors.system.serialization import kept_epoch
from xvectors.trials import Trials
from xvectors.verification import fingerprint_of, verifier_of
from xvectors.verification.fingerprint import fingerprint, weights_digest

FEATURES = (
    *("sample_rate_hz", "num_mels", "frame_length_ms", "frame_shift_ms", "window", "preemphasis", "remove_dc"),
    "snip_edges",
    *("low_frequency_hz", "high_frequency_hz", "use_power", "mean_normalization", "normalize_level"),
)
"""Features that the first systems stated."""


@pytest.fixture
def folder(calibrated_starter: Path, tmp_path: Path) -> SystemFolder:
    """The starter, described as by the first release: without the settings that were added later."""
    shutil.copytree(calibrated_starter, tmp_path / "system")
    found = SystemFolder(tmp_path / "system")
    now, table = fingerprint_of(found), parse_toml(found.description.read_text(), "system.toml")
    features = table["recipe"]["features"]
    table["recipe"]["features"] = {name: features[name] for name in features if name in FEATURES}
    found.description.write_text(to_toml(table))
    assert fingerprint_of(found) == now
    return found


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def test_a_line_lost_from_system_toml(folder: SystemFolder) -> None:
    """It turned "different speakers, -14.5" into "same speaker, +7.9", calibrated, with the same fingerprint."""
    edit(folder.description, r"^mean_normalization = .*\n", "")
    for load in (
        lambda: SpeakerEncoder.from_pretrained(folder.path),
        lambda: fingerprint_of(folder),
        lambda: verifier_of(folder),
    ):
        with pytest.raises(CheckpointError, match=r"lacks recipe\.features\.mean_normalization; put back a copy"):
            load()
    with pytest.raises(CheckpointError, match="mean_normalization"), open_gallery(system=folder.path):
        pass


@pytest.mark.parametrize(
    ("setting", "value"),
    [("mean_normalization", "false"), ("window", '"hamming"'), ("low_frequency_hz", "40.0"), ("channel", "0")],
)
def test_a_changed_setting_is_no_longer_calibrated_nor_enrolled(folder: SystemFolder, setting: str, value: str) -> None:
    before = fingerprint_of(folder)
    edit(folder.description, rf"^{setting} = .*$", f"{setting} = {value}")
    assert fingerprint_of(folder) != before
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu")
    assert encoder.fingerprint == fingerprint_of(folder)
    with pytest.raises(CheckpointError, match="learned with other features, another network or other weights"):
        _ = encoder.verifier


def test_what_does_not_change_embeddings_is_not_covered(folder: SystemFolder) -> None:
    before = fingerprint_of(folder)
    edit(folder.description, r"^seed = .*$", "seed = 123")
    edit(folder.description, r"^preemphasis = 0\.97$", "preemphasis = 0.970")
    assert fingerprint_of(folder) == before


def test_a_setting_that_is_newer_than_the_system_has_its_default(folder: SystemFolder) -> None:
    """The bundled starter states none; its calibration and galleries stay valid when a setting is added."""
    assert "sample_scale" not in folder.description.read_text()
    before = fingerprint_of(folder)
    edit(folder.description, r"^preemphasis", "sample_scale = 1.0\npreemphasis")
    assert fingerprint_of(folder) == before
    edit(folder.description, r"^sample_scale = 1.0", "sample_scale = 32768.0")
    assert fingerprint_of(folder) != before


def test_a_flipped_byte_of_the_weights(folder: SystemFolder) -> None:
    content = bytearray(folder.weights.read_bytes())
    content[-5] ^= 1
    folder.weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="other weights than the system has now"):
        verifier_of(folder)


def words(items: str) -> str:
    return " ".join(item.strip(' \n",') for item in items.split(",")).strip()


def as_format_2(folder: SystemFolder) -> str:
    """The system as the second format had it, with other spellings; returns its fingerprint of then."""
    text = folder.description.read_text().replace("format_version = 3", "format_version = 2")
    for now, then in (("normalization", "normalisation"), ("equalizer_", "equaliser_"), ("optimizer", "optimiser")):
        assert now in text
        text = text.replace(now, then)
    for key in ("speeds", "codecs", "custom"):
        text = re.sub(
            rf"^{key} = \[(.*?)\]",
            lambda found: f'{found[0].split(" = ")[0]} = "{words(found[1])}"',
            text,
            flags=re.M | re.S,
        )
    folder.description.write_text(text)
    weights = safetensors.torch.load_file(folder.weights)
    assert "embedding.weight" in weights
    renamed = {re.sub(r"^embedding\.", "embed.", name): value for name, value in weights.items()}
    folder.weights.write_bytes(safetensors.torch.save(renamed, metadata={"epoch": str(kept_epoch(folder))}))
    recipe = parse_toml(text, "system.toml")["recipe"]
    settings = {"features": recipe["features"], "model": recipe["model"], "channel": recipe["data"]["channel"]}
    before = fingerprint(settings, weights_digest(folder.weights))
    edit(folder.calibration, r'^system_sha256 = ".*"$', f'system_sha256 = "{before}"')
    with np.load(folder.backend) as arrays:
        contents = {name.replace("normalizer.", "normaliser."): arrays[name] for name in arrays}
    description = str(contents["description"]).replace("parts.normalizer", "parts.normaliser")
    description = description.replace('"Center"', '"Centre"').replace("format_version = 2", "format_version = 1")
    np.savez(folder.backend, **{**contents, "description": np.array(description)})
    return before


def as_format_1(folder: SystemFolder) -> None:
    """The system as the first format had it: no level, and a calibration that is bound to the weights alone."""
    as_format_2(folder)
    table = parse_toml(folder.description.read_text(), "system.toml")
    del table["recipe"]["features"]["normalize_level"]
    folder.description.write_text(to_toml({**table, "format_version": 1}))
    calibration = parse_toml(folder.calibration.read_text(), "calibration.toml")
    del calibration["system_sha256"]
    calibration |= {"format_version": 1, "weights_sha256": weights_digest(folder.weights)}
    folder.calibration.write_text(to_toml(calibration))


def two_embeddings() -> tuple[np.ndarray, Trials]:
    return np.random.default_rng(0).standard_normal((2, 192)).astype(np.float32), Trials(
        enroll=np.array([0]), test=np.array([1]), target=np.array([False])
    )


@pytest.mark.parametrize("version", [1, 2])
def test_a_system_of_an_earlier_format_is_upgraded(folder: SystemFolder, tmp_path: Path, version: int) -> None:
    now, verifier = fingerprint_of(folder), verifier_of(folder)
    scores = verifier.backend.score(*two_embeddings())
    if version == 1:
        as_format_1(folder)
    before = weights_digest(folder.weights) if version == 1 else as_format_2(folder)
    gallery = tmp_path / "team.sqlite"
    with SqliteStore(gallery, create=True) as store:
        row = np.ones(192, dtype=np.float32)
        store.add("ann", [Voiceprint(embedding=row, duration_s=2.0, system=before, enrolled_at=datetime.now(UTC))])
    with pytest.raises(CheckpointError, match=r"written by an earlier xvectors; `xvectors upgrade .*system` brings it"):
        SpeakerEncoder.from_pretrained(folder.path)
    printed = run("upgrade", folder.path, "--gallery", gallery).stdout.splitlines()
    assert printed[0] == f"{folder.path} was brought up to date"
    assert printed[1].endswith("team.sqlite: 1 voiceprint of this system brought up to date")
    assert fingerprint_of(folder) == now
    assert verifier_of(folder).table() == verifier.table()
    np.testing.assert_array_equal(verifier_of(folder).backend.score(*two_embeddings()), scores)
    with open_gallery(gallery, system=folder.path) as opened:
        assert opened.speaker("ann").num_voiceprints == 1
    again = run("upgrade", folder.path, "--gallery", gallery).stdout.splitlines()
    assert again[0] == f"{folder.path} is up to date"
    assert "0 voiceprints" in again[1]


def test_what_cannot_be_upgraded_is_left_as_it_is(folder: SystemFolder) -> None:
    as_format_1(folder)
    edit(folder.description, r"^mean_normalisation = .*\n", "")
    before = folder.description.read_bytes(), folder.calibration.read_bytes()
    assert "lacks recipe.features.mean_normalization" in run("upgrade", folder.path, status=2).stderr
    assert (folder.description.read_bytes(), folder.calibration.read_bytes()) == before


def test_an_upgrade_that_was_interrupted_goes_on(folder: SystemFolder) -> None:
    """Between the two files it writes."""
    now, calibration = fingerprint_of(folder), folder.calibration.read_text()
    as_format_1(folder)
    folder.calibration.write_text(calibration)
    run("upgrade", folder.path)
    assert fingerprint_of(folder) == now
    assert verifier_of(folder).is_calibrated

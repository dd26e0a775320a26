"""Calibrations that come with the package: for one published file each, and for no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from support.commands import run
from support.published import golden, golden_checkpoint
from xvectors.backends import load_backend
from xvectors.config import parse_toml
from xvectors.files import digest
from xvectors.system import SystemFolder
from xvectors.system.importers import known
from xvectors.system.importers.known import DIGITS, KNOWN, bound_to, find_card
from xvectors.system.serialization import read_description
from xvectors.verification import Basis, learn_verifier, save_verifier, verifier_of
from xvectors.verification.fingerprint import embedding_settings

FAMILY = "3dspeaker-xvector"
CARD = """
sha256 = "{sha256}"
license = "cc-by-4.0"
license_source = "https://example.org/card"

[figures]
"VoxCeleb1-O EER" = "1.2 %, https://example.org/card"

[calibration]
learned_on = "12 drawn voices"
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file without other files beside it."""
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    path.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in tensors().items()}))
    return path


def tensors() -> dict[str, torch.Tensor]:
    return golden_checkpoint(golden(FAMILY))


def ship(folder: Path, path: Path, settings: dict[str, object]) -> None:
    """Learn a calibration of drawn embeddings, and put it and a card for the file at `path` below `folder`."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((12, 16)), 4, axis=0) + rng.standard_normal((48, 16))
    basis = Basis(
        embeddings=rows.astype(np.float32),
        speakers=np.repeat([f"v{number:02d}" for number in range(12)], 4),
        recording=np.arange(48),
        duration_s=rng.uniform(1, 5, 48),
        whole=np.ones(48, dtype=bool),
    )
    sha256 = digest(path)
    shipped = SystemFolder(folder / sha256[:DIGITS])
    bound = bound_to(settings, sha256)
    verifier = learn_verifier(basis)
    save_verifier(verifier, backend=shipped.backend, calibration=shipped.calibration, fingerprint=bound)
    (shipped.path / "card.toml").write_text(CARD.format(sha256=sha256), encoding="utf-8")


def test_a_known_file_is_given_its_calibration_and_no_other(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "KNOWN", tmp_path / "known")
    family = ("--family", FAMILY)
    before = run("import", published, "-o", tmp_path / "before", *family)
    assert "next: xvectors calibrate" in before.stdout
    table = parse_toml((tmp_path / "before" / "system.toml").read_text(encoding="utf-8"), "system.toml")
    ship(tmp_path / "known", published, embedding_settings(table, "system.toml"))

    printed = " ".join(run("import", published, "-o", tmp_path / "given", *family).stdout.split())
    assert "it answers at once, as learned on 12 drawn voices" in printed
    assert "better: xvectors calibrate" in printed
    system = SystemFolder(tmp_path / "given")
    verifier = verifier_of(system)
    assert verifier.is_calibrated
    assert verifier.basis["num_speakers"] == 12
    origin = read_description(system).origin
    assert origin is not None
    assert origin["calibration"] == {"learned_on": "12 drawn voices"}
    assert (origin["license"], origin["license_source"]) == ("cc-by-4.0", "https://example.org/card")
    assert origin["figures"] == {"VoxCeleb1-O EER": "1.2 %, https://example.org/card"}

    content = bytearray(published.read_bytes())
    content[-4] ^= 1  # the lowest bit of the last weight
    (tmp_path / "other.safetensors").write_bytes(content)
    other = run("import", tmp_path / "other.safetensors", "-o", tmp_path / "other", *family, "--json")
    origin = json.loads(other.stdout)["origin"]
    assert not {"calibration", "license", "figures"} & origin.keys()
    assert not verifier_of(SystemFolder(tmp_path / "other")).is_calibrated
    assert not (tmp_path / "other" / "backend.npz").exists()


def test_another_front_end_is_given_none(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a family is named that is not the one that the calibration was learned with."""
    monkeypatch.setattr(known, "KNOWN", tmp_path / "known")
    run("import", published, "-o", tmp_path / "before", "--family", FAMILY)
    table = parse_toml((tmp_path / "before" / "system.toml").read_text(encoding="utf-8"), "system.toml")
    table["recipe"]["features"]["window"] = "hamming"
    ship(tmp_path / "known", published, embedding_settings(table, "system.toml"))
    run("import", published, "-o", tmp_path / "system", "--family", FAMILY)
    assert not verifier_of(SystemFolder(tmp_path / "system")).is_calibrated


@pytest.mark.parametrize("folder", sorted(KNOWN.iterdir()), ids=lambda folder: folder.name)
def test_what_is_shipped(folder: Path) -> None:
    """Small, with sources and licenses, and without names of speakers and files."""
    assert {path.name for path in folder.iterdir()} == {"backend.npz", "calibration.toml", "card.toml"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000
    card = parse_toml((folder / "card.toml").read_text(encoding="utf-8"), "card.toml")
    assert re.fullmatch(r"[0-9a-f]{64}", card["sha256"])
    found = find_card(card["sha256"])
    assert found is not None
    assert found.folder.path == folder
    assert card["license"] == "apache-2.0", "an identifier, which `xvectors push` needs"
    assert card["license_source"]
    assert {"learned_on", "holds_for", "does_not_hold_for"} <= card["calibration"].keys()
    assert {row["name"] for row in card["data"]} == set(
        parse_toml((folder / "calibration.toml").read_text(encoding="utf-8"), "calibration.toml")["basis"]["domains"]
    )
    assert all(row["source"] and row["license"] for row in card["data"])
    basis = parse_toml((folder / "calibration.toml").read_text(encoding="utf-8"), "calibration.toml")["basis"]
    assert basis["num_speakers"] + basis["num_fitted_speakers"] == 104
    assert basis["held_out"]
    assert not {"speakers", "fitted_speakers", "left_out_as_two_voices"} & basis.keys()
    assert load_backend(folder / "backend.npz").normalizer is None


def test_a_digest_that_only_begins_alike_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "KNOWN", tmp_path)
    (tmp_path / "0123456789ab").mkdir()
    (tmp_path / "0123456789ab" / "card.toml").write_text(CARD.format(sha256="0123456789ab" + "0" * 52))
    assert find_card("0123456789ab" + "0" * 52) is not None
    assert find_card("0123456789ab" + "f" * 52) is None
    assert find_card("f" * 64) is None

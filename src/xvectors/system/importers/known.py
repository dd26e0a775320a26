"""Calibrations that the package ships for published files, which are recognized by their SHA-256.

Each lies in a folder named by the first digits of the digest: card.toml says for which file it is, what it was learned
on and what it holds for. `tools/make_known_calibrations.py` learns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from xvectors.config import parse_toml
from xvectors.system.folder import SystemFolder
from xvectors.verification.fingerprint import fingerprint
from xvectors.verification.verifier import Verifier, load_verifier

KNOWN = Path(str(resources.files("xvectors.system.importers") / "known"))
"""The folder of the cards and calibrations in the package."""
DIGITS = 12
"""How many digits of a file's digest name its folder."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a published file, and the calibration that comes for it.

    Attributes
    ----------
    folder : where backend.npz and calibration.toml lie
    sha256 : digest of the published file
    license, license_source : identifier of its license, and what states it
    figures : as `Imported.figures`
    calibration : as `[origin.calibration]` of system.toml: what it was learned on and what it holds for
    """

    folder: SystemFolder
    sha256: str
    license: str
    license_source: str
    figures: Mapping[str, str]
    calibration: Mapping[str, Any]

    def fits(self, settings: Mapping[str, Any]) -> bool:
        """Whether the calibration was learned with these settings of features and network (`embedding_settings`)."""
        table = parse_toml(self.folder.calibration.read_text(encoding="utf-8"), str(self.folder.calibration))
        return bool(table["system_sha256"] == bound_to(settings, self.sha256))

    def verifier(self, settings: Mapping[str, Any]) -> Verifier:
        """Load back-end and calibration. Raises CheckpointError where they do not fit the settings."""
        bound = bound_to(settings, self.sha256)
        return load_verifier(backend=self.folder.backend, calibration=self.folder.calibration, fingerprint=bound)


def find_card(sha256: str) -> Card | None:
    """Return the card of the published file with this digest, or None for a file that is not known."""
    folder = SystemFolder(KNOWN / sha256[:DIGITS])
    path = folder.path / "card.toml"
    if not path.is_file():
        return None
    table = parse_toml(path.read_text(encoding="utf-8"), str(path))
    if table["sha256"] != sha256:
        return None
    return Card(
        folder=folder,
        sha256=sha256,
        license=table["license"],
        license_source=table["license_source"],
        figures=table.get("figures", {}),
        calibration=table["calibration"],
    )


def bound_to(settings: Mapping[str, Any], sha256: str) -> str:
    """Return what a shipped calibration has in the place of a system's fingerprint.

    It covers the settings and the published file, since the weights of the import do not exist yet.
    """
    return fingerprint(settings, sha256)

"""Publish a system directory on the Hugging Face Hub, with a model card and without the names of speakers."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xvectors.backends import load_backend, save_backend
from xvectors.config import parse_toml, to_toml
from xvectors.errors import ConfigError
from xvectors.files import why_no_file
from xvectors.files.tables import write_table
from xvectors.system.folder import SystemFolder
from xvectors.system.hub import FILES, Address, upload_files
from xvectors.system.model_card import read_results, write_card
from xvectors.system.serialization import check_size, kept_epoch, read_description
from xvectors.text import count
from xvectors.verification import fingerprint_of, load_verifier

LICENSE = re.compile(r"[A-Za-z0-9][\w.+-]*")
FOLDERS = ("noise_folder", "reverb_folder")
"""Settings of the augmentation that are folders of the machine that trained."""
NAMES = frozenset(("speakers", "fitted_speakers", "test_speakers", "left_out_as_two_voices"))
"""Lists of speakers in the table [basis] of calibration.toml."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A system on the hub.

    Attributes
    ----------
    address : hf://owner/name, with @branch if one was asked for
    commit : digest of the commit; hf://owner/name@commit loads exactly these files
    files : names of the files
    num_bytes : their size
    license : identifier; empty if unknown
    num_results : evaluations on the model card
    results_left_out : paths of evaluations of another state of the system
    num_names_withheld : speakers whose names were replaced by numbers
    """

    address: str
    commit: str
    files: tuple[str, ...]
    num_bytes: int
    license: str
    num_results: int
    results_left_out: tuple[str, ...]
    num_names_withheld: int


def publish(
    folder: str | Path,
    address: str,
    *,
    branch: str | None = None,
    private: bool = False,
    license: str | None = None,
    card: str | Path | None = None,
    speaker_names: bool = False,
) -> Published:
    """Upload a system to a repository on the Hugging Face Hub, in one commit.

    The features, network, weights, back-end and calibration are published, with a model card; not the corpus, the
    history, the report or the state of the training. Folders in the settings are reduced to their names.

    Parameters
    ----------
    folder
        A system directory.
    address
        hf://owner/name; the repository is created if it does not exist.
    branch
        The branch to commit to, which is created if it does not exist; by default the main one.
    private
        Create a private repository.
    license
        Identifier such as cc-by-4.0; by default the one in `[origin]` of an imported system.
    card
        A file to publish as README.md instead of the card that is written from the system and its evaluations.
    speaker_names
        Publish the names of the speakers too, which are personal data. By default numbers stand for them.

    Raises
    ------
    CheckpointError
        The folder holds no system, or a damaged one; the address has another form.
    ConfigError
        A license that is no identifier, or a card that cannot be read.
    StorageError
        The hub does not take the files; the message says why.
    MissingExtraError
        Without the extra `hub`.
    """
    target = Address.parse(address)
    if target.revision is not None:
        raise ConfigError(f"{target}: name the branch with --revision {target.revision}, and leave it out here")
    system = SystemFolder(Path(folder))
    description = read_description(system)
    kept_epoch(system)
    check_size(system, description)
    fingerprint = fingerprint_of(system)
    verifier = load_verifier(backend=system.backend, calibration=system.calibration, fingerprint=fingerprint)
    license = str((description.origin or {}).get("license", "")) if license is None else license
    if license and LICENSE.fullmatch(license) is None:
        raise ConfigError(f"license {license!r}: give its identifier, such as apache-2.0 or cc-by-4.0")
    results, left_out = read_results(system, fingerprint, verifier)
    if card is None:
        text = write_card(
            str(target), system, description, verifier, results, license=license, names_published=speaker_names
        ).encode()
    else:
        text = _read_card(Path(card))
    numbers = {} if speaker_names else _numbers([*description.speakers, *sorted(verifier.speakers)])
    with tempfile.TemporaryDirectory(prefix="xvectors-push-") as name:
        prepared = SystemFolder(Path(name))
        files: dict[str, Path | bytes] = {
            "README.md": text,
            system.description.name: _system_toml(system),
            system.weights.name: system.weights,
            system.speakers.name: prepared.speakers,
        }
        names = [numbers.get(speaker, speaker) for speaker in description.speakers]
        write_table(prepared.speakers, ["index", "speaker"], enumerate(names))
        if system.calibration.is_file():
            numbers = _save_backend(system, prepared, numbers, replace=not speaker_names)
            files[system.backend.name] = prepared.backend
            files[system.calibration.name] = _calibration_toml(system, numbers)
        sizes = [len(file) if isinstance(file, bytes) else file.stat().st_size for file in files.values()]
        commit = upload_files(
            target,
            files,
            replaces=FILES,
            message=f"Upload {system.path.resolve().name} with xvectors",
            branch=branch,
            private=private,
        )
    return Published(
        address=f"{target}@{branch}" if branch else str(target),
        commit=commit,
        files=tuple(sorted(files)),
        num_bytes=sum(sizes),
        license=license,
        num_results=len(results) if card is None else 0,
        results_left_out=tuple(left_out),
        num_names_withheld=len(numbers),
    )


def published_lines(published: Published) -> list[str]:
    """Say what was published, and what is missing, in sentences."""
    megabytes = published.num_bytes / 1e6
    address = published.address.partition("@")[0]
    lines = [f"{published.address}: {count(len(published.files), 'file')}, {megabytes:.1f} MB"]
    lines += [f"commit: {published.commit}; {address}@{published.commit} loads exactly this state"]
    if published.num_names_withheld:
        names = count(published.num_names_withheld, "speaker")
        lines += [
            f"speakers: the names of {names} are withheld, numbers stand for them; --speaker-names publishes them"
        ]
    lines += [f"license: {published.license or 'not stated; state it with --license'}"]
    lines += [
        f"not on the card: {path} measured another state of the system; evaluate it again"
        for path in published.results_left_out
    ]
    return lines


def _numbers(speakers: Iterable[str]) -> dict[str, str]:
    """Return what stands for each speaker's name; hardly anyone has speakers of such a name."""
    return {name: f"withheld-{number:04d}" for number, name in enumerate(dict.fromkeys(speakers))}


def _read_card(path: Path) -> bytes:
    if why := why_no_file(path):
        raise ConfigError(f"{path}: {why}")
    return path.read_bytes()


def _system_toml(system: SystemFolder) -> bytes:
    """Return system.toml, with folders reduced to their names, which mean nothing elsewhere and may name people."""
    table = parse_toml(system.description.read_text(encoding="utf-8"), str(system.description))
    augment = table["recipe"].get("augment", {})
    for key in FOLDERS:
        if augment.get(key):
            augment[key] = Path(augment[key]).name
    return to_toml(table).encode()


def _save_backend(
    system: SystemFolder, prepared: SystemFolder, numbers: Mapping[str, str], *, replace: bool
) -> dict[str, str]:
    """Write the back-end with numbers for the names in its cohort; returns the numbers, with those of the cohort."""
    backend = load_backend(system.backend)
    if replace and backend.normalizer is not None:
        cohort = [str(name) for name in backend.normalizer.cohort_speakers_]
        numbers = _numbers([*numbers, *cohort])
        backend.normalizer.cohort_speakers_ = np.array([numbers[name] for name in cohort])
    save_backend(prepared.backend, backend)
    return dict(numbers)


def _calibration_toml(system: SystemFolder, numbers: Mapping[str, str]) -> bytes:
    """Return calibration.toml with numbers for the names in [basis], and without the folder of the recordings."""
    table = parse_toml(system.calibration.read_text(encoding="utf-8"), str(system.calibration))
    basis: dict[str, Any] = table["basis"]
    for key in NAMES.intersection(basis) if numbers else ():
        basis[key] = [numbers.get(name, "withheld") for name in basis[key]]
    if match := re.fullmatch(r"speakers of (.+)", str(basis.get("source", ""))):
        basis["source"] = f"speakers of {Path(match[1]).name}"
    return to_toml(table).encode()

"""The engine of an exported system: onnxruntime computes the embeddings, without torch.

The graph includes the features, so its input is a waveform. The file describes itself in its metadata, under keys with
the prefix `xvectors.`, which docs/reference/onnx.md lists.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.backends import AffineCalibration, load_backend
from xvectors.errors import CheckpointError, ConfigError, MissingExtraError, XVectorsError
from xvectors.system.folder import SystemFolder
from xvectors.system.onnx_session import PROVIDERS, Sessions
from xvectors.text import short_repr
from xvectors.verification import Verifier, cosine_verifier, fingerprint_of, verifier_of
from xvectors.verification.verifier import bounds_from, condition_from

FORMAT_VERSION = 2
"""Since version 2 the fingerprint covers the features, and the file holds its own digest."""
PREFIX = "xvectors."
_UNSEALED = "0" * 64
_SEAL = f"{PREFIX}sha256".encode() + b"\x12\x40"
"""The bytes before the file's digest: the key, then protobuf's tag and length of a 64-byte value."""
FLOAT32, INT8 = "float32", "int8"


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxDescription:
    """The metadata of an exported file.

    Attributes
    ----------
    sample_rate_hz, embedding_dim
        Sample rate of the waveforms and dimension of the embeddings.
    min_samples
        Number of samples of the shortest recording that has an embedding.
    channel
        Channel of multichannel recordings, or -1 for their mean.
    fingerprint
        The fingerprint of the system; embeddings of different fingerprints must not be compared.
    precision
        "float32" or "int8".
    recipe
        Name of the recipe.
    versions
        Versions of the software that trained and exported the system.
    verifier
        Back-end and calibration, or cosine scoring if the system had none.
    """

    sample_rate_hz: int
    embedding_dim: int
    min_samples: int
    channel: int
    fingerprint: str
    precision: str
    recipe: str
    versions: Mapping[str, str]
    verifier: Verifier

    def to_metadata(self, backend_file: bytes | None) -> dict[str, str]:
        """Return the metadata of the file.

        `backend_file` holds the bytes of backend.npz if the system has one. The names of the speakers that the
        calibration was learned from are left out.
        """
        values = {
            "format_version": FORMAT_VERSION,
            **{key: getattr(self, key) for key in _NUMBERS + _TEXTS},
            "versions": dict(self.versions),
            "sha256": _UNSEALED,
        }
        if backend_file is not None:
            table = self.verifier.table()
            basis = {key: value for key, value in table["basis"].items() if key != "speakers"}
            values["verifier"] = {**table, "basis": basis}
            values["backend"] = base64.b64encode(backend_file).decode("ascii")
        return {
            PREFIX + key: value if isinstance(value, str) else json.dumps(_finite(value), allow_nan=False)
            for key, value in values.items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> OnnxDescription:
        """Read what `to_metadata` returned. Raises CheckpointError for other metadata, or another version of it."""
        own = {key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)}
        if "format_version" not in own:
            raise CheckpointError(
                f"{source}: not exported by xvectors: its metadata lacks {PREFIX}format_version; `xvectors import "
                f"{source} -o DIR` makes a system of another toolkit's file"
            )
        if own["format_version"] != str(FORMAT_VERSION):
            raise CheckpointError(
                f"{source}: format version {own['format_version']} is not {FORMAT_VERSION}; it was exported by another "
                "version of xvectors, export it again"
            )
        try:
            return cls(
                sample_rate_hz=int(own["sample_rate_hz"]),
                embedding_dim=int(own["embedding_dim"]),
                min_samples=int(own["min_samples"]),
                channel=int(own["channel"]),
                fingerprint=own["fingerprint"],
                precision=own["precision"],
                recipe=own["recipe"],
                versions=json.loads(own["versions"]),
                verifier=_verifier(own, source),
            )
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, XVectorsError) as error:
            raise CheckpointError(f"{source}: damaged metadata ({error!r}); export it again") from error


def sealed(content: bytes) -> bytes:
    """Put the SHA-256 of an exported file, computed with zeros in its place, into the file's metadata."""
    start = _seal_start(content)
    assert start is not None, "the metadata has no place for the digest"
    empty = content[:start] + _UNSEALED.encode() + content[start + len(_UNSEALED) :]
    return content[:start] + hashlib.sha256(empty).hexdigest().encode() + content[start + len(_UNSEALED) :]


def is_intact(content: bytes) -> bool:
    """Return whether the bytes of an exported file are as `sealed` returned them."""
    return _seal_start(content) is not None and sealed(content) == content


def _seal_start(content: bytes) -> int | None:
    """Find the place of the digest; None unless there is exactly one."""
    return content.index(_SEAL) + len(_SEAL) if content.count(_SEAL) == 1 else None


_NUMBERS = ("sample_rate_hz", "embedding_dim", "min_samples", "channel")
_TEXTS = ("fingerprint", "precision", "recipe")


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verifier(own: Mapping[str, str], source: str) -> Verifier:
    if "verifier" not in own:
        return cosine_verifier()
    table = json.loads(own["verifier"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backend.npz"
        path.write_bytes(base64.b64decode(own["backend"], validate=True))
        backend = load_backend(path)
    backend_table = dict(table["backend"])
    return Verifier(
        backend=backend,
        name=backend_table.pop("name"),
        calibration=AffineCalibration.from_dict(table["calibration"]) if "calibration" in table else None,
        condition=condition_from(table, source),
        bounds=bounds_from(table, source),
        backend_table=backend_table,
        basis=table["basis"],
        figures=table["figures"],
        p_target=table["decision"]["p_target"],
    )


@short_repr("path")
class OnnxEngine:
    """A loaded exported system.

    Parameters
    ----------
    path
        The file that `xvectors export` wrote.
    device
        "cuda", "cpu", or "auto" for the first of these that this onnxruntime supports.
    threads
        Number of CPU cores to use; by default all of them.

    Raises
    ------
    MissingExtraError
        onnxruntime is not installed.
    CheckpointError
        The file is missing, damaged, or was not exported by xvectors.
    ConfigError
        The number of threads or the device is not possible.
    """

    def __init__(self, path: str | PathLike[str], *, device: str = "auto", threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        self.path = Path(path)
        self._sessions = Sessions(self.path, device=device, threads=threads)
        metadata = self._sessions.whole.get_modelmeta().custom_metadata_map
        self.description = OnnxDescription.from_metadata(metadata, str(self.path))
        if not is_intact(self.path.read_bytes()):
            raise CheckpointError(f"{self.path}: was changed after it was exported; restore a copy, or export it again")
        self._verifier = self.description.verifier

    @classmethod
    def beside(cls, folder: SystemFolder, *, device: str = "auto", threads: int | None = None) -> OnnxEngine:
        """Run a system directory from its `model.onnx`, with the directory's back-end and calibration.

        This is for machines without torch. Apart from the errors of the class:

        Raises
        ------
        MissingExtraError
            There is no `model.onnx`.
        CheckpointError
            The directory is not a system, or the file was exported from another system.
        """
        if not folder.description.is_file():
            raise CheckpointError(f"{folder.path} holds no system.toml, so it is not a system directory")
        if not folder.exported.is_file():
            raise MissingExtraError(
                f"{folder.path} needs torch, which is not installed: pip install torch; or, on a machine with torch, "
                f"`xvectors export {folder.path} -o {folder.exported}`, so that it runs with onnxruntime"
            )
        try:
            engine = cls(folder.exported, device=device, threads=threads)
        except MissingExtraError as error:
            raise MissingExtraError(
                f"{folder.path} needs torch or onnxruntime to be run, and neither is installed: pip install "
                "onnxruntime, or, to train as well, pip install torch"
            ) from error
        if engine.fingerprint != fingerprint_of(folder):
            raise CheckpointError(
                f"{folder.exported} was exported from another system than {folder.path} holds now; on a machine with "
                f"torch, export it again: `xvectors export {folder.path} -o {folder.exported}`"
            )
        engine._verifier = verifier_of(folder)  # the directory may have been calibrated after the export
        return engine

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def device(self) -> str:
        """The device that onnxruntime computes on, such as `cpu`."""
        names = {provider: name for name, provider in PROVIDERS.items()}
        provider = str(self._sessions.whole.get_providers()[0])
        return names.get(provider, provider)

    @property
    def sample_rate_hz(self) -> int:
        return self.description.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        return self.description.embedding_dim

    @property
    def fingerprint(self) -> str:
        return self.description.fingerprint

    @property
    def samples_needed(self) -> int:
        return self.description.min_samples

    @property
    def channel(self) -> Channel:
        return "mix" if self.description.channel < 0 else self.description.channel

    @property
    def verifier(self) -> Verifier:
        return self._verifier

    def embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed waveforms of at least `samples_needed` samples: float32 [n, embedding_dim].

        The graph takes no padding, so only waveforms of equal length form a batch. With int8, each waveform is a batch
        of its own, because the quantization step depends on all values in a batch. Several batches run at once, each
        on one core.
        """
        embeddings = np.zeros((len(waveforms), self.embedding_dim), dtype=np.float32)
        by_length = sorted(range(len(waveforms)), key=lambda index: len(waveforms[index]))
        groups = [list(group) for _, group in groupby(by_length, key=lambda index: len(waveforms[index]))]
        if self.description.precision != FLOAT32:
            groups = [[index] for index in by_length]
        batches = [np.stack([waveforms[index] for index in group]) for group in groups]
        for group, found in zip(groups, self._sessions.run(None, batches), strict=True):
            embeddings[group] = found
        return embeddings

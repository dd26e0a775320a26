"""The engine of an exported system. In: an .onnx file as `xvectors export` writes it. Out: embeddings, without torch.

The features are in the graph: a waveform goes in. What the file says of itself stands in its metadata, every key under
the prefix `xvectors.`; docs/reference/onnx.md lists the keys.
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
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.backends import AffineCalibration, load_backend
from xvectors.errors import CheckpointError, ConfigError, MissingExtraError, XVectorsError
from xvectors.system.folder import SystemFolder
from xvectors.text import brief
from xvectors.verification import Verifier, cosine_verifier, fingerprint_of, verifier_of

FORMAT_VERSION = 2
"""2: the fingerprint covers the features, and the file holds its own digest."""
PREFIX = "xvectors."
_UNSEALED = "0" * 64
_SEAL = f"{PREFIX}sha256".encode() + b"\x12\x40"
"""What stands before the file's digest: the key, then protobuf's tag and length of a value of 64 bytes."""
FLOAT32, INT8 = "float32", "int8"
MOST_SAMPLES_A_BATCH = 5_000_000
"""Five minutes at 16 kHz; a longer recording is a batch of its own."""


PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""onnxruntime's names of devices, the one to prefer first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxDescription:
    """What an exported file says of itself.

    Attributes
    ----------
    sample_rate_hz, embedding_dim
    min_samples : of the shortest recording that has an embedding
    channel : of recordings with several, -1 for their mean
    fingerprint : the system's; embeddings of different fingerprints are not to be compared
    precision : "float32" or "int8"
    recipe : its name
    versions : of what trained the system and of what exported it
    verifier : back-end and calibration; plain cosines where the system had none
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
        """The metadata of the file; `backend_file` holds the bytes of backend.npz where the system is calibrated.

        The names of the speakers that the calibration was learned from stay behind.
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
        """What `to_metadata` gave. Raises CheckpointError for other metadata or those of another version."""
        own = {key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)}
        if "format_version" not in own:
            raise CheckpointError(f"{source}: not exported by xvectors: its metadata lack {PREFIX}format_version")
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
                verifier=_verifier(own),
            )
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, XVectorsError) as error:
            raise CheckpointError(f"{source}: damaged metadata ({error!r}); export it again") from error


def sealed(content: bytes) -> bytes:
    """The bytes of an exported file with their own sha256 (of the bytes with zeros in its place) among the metadata."""
    start = _seal_start(content)
    assert start is not None, "the metadata hold no place for the digest"
    empty = content[:start] + _UNSEALED.encode() + content[start + len(_UNSEALED) :]
    return content[:start] + hashlib.sha256(empty).hexdigest().encode() + content[start + len(_UNSEALED) :]


def is_intact(content: bytes) -> bool:
    """Whether the bytes of an exported file are those that `sealed` gave."""
    return _seal_start(content) is not None and sealed(content) == content


def _seal_start(content: bytes) -> int | None:
    """Where the digest stands, if there is one place for it."""
    return content.index(_SEAL) + len(_SEAL) if content.count(_SEAL) == 1 else None


_NUMBERS = ("sample_rate_hz", "embedding_dim", "min_samples", "channel")
_TEXTS = ("fingerprint", "precision", "recipe")


def _finite(value: Any) -> Any:
    """Plain values with null for figures that are no number, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verifier(own: Mapping[str, str]) -> Verifier:
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
        calibration=AffineCalibration.from_dict(table["calibration"]),
        backend_table=backend_table,
        basis=table["basis"],
        figures=table["figures"],
        p_target=table["decision"]["p_target"],
    )


@brief("path")
class OnnxEngine:
    """An exported system, loaded.

    Parameters
    ----------
    path
        What `xvectors export` wrote.
    device
        cuda, cpu, or auto for the first of these that this onnxruntime has.
    threads
        Of one embedding; by default onnxruntime's choice, the machine's cores.

    Raises MissingExtraError without onnxruntime, CheckpointError for a file that is missing, damaged or not exported
    by xvectors, ConfigError for an impossible number of threads or device.
    """

    def __init__(self, path: str | PathLike[str], *, device: str = "auto", threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        self.path = Path(path)
        self._session = open_session(self.path, device=device, threads=threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description = OnnxDescription.from_metadata(metadata, str(self.path))
        if not is_intact(self.path.read_bytes()):
            raise CheckpointError(
                f"{self.path}: was changed after it was exported; put back a copy, or export it again"
            )
        self._verifier = self.description.verifier

    @classmethod
    def beside(cls, folder: SystemFolder, *, device: str = "auto", threads: int | None = None) -> OnnxEngine:
        """Run a system directory by the `model.onnx` in it, with the directory's back-end and calibration.

        For where torch is not installed. Raises MissingExtraError where there is no such file or no onnxruntime
        either, CheckpointError where the file was exported from another system than the directory holds; else as the
        class.
        """
        if not folder.description.is_file():
            raise CheckpointError(f"{folder.path} holds no system.toml, so it is not a system directory")
        if not folder.exported.is_file():
            raise MissingExtraError(
                f"{folder.path} needs torch to be run, which is not installed: pip install torch; or, where torch is, "
                f"`xvectors export {folder.path} -o {folder.exported}`, which onnxruntime runs"
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
                f"{folder.exported} was exported from another system than {folder.path} holds now; where torch is, "
                f"export it again: `xvectors export {folder.path} -o {folder.exported}`"
            )
        engine._verifier = verifier_of(folder)  # the directory may have been calibrated since
        return engine

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def device(self) -> str:
        """The kind of device that onnxruntime computes on."""
        names = {provider: name for name, provider in PROVIDERS.items()}
        provider = str(self._session.get_providers()[0])
        return names.get(provider, provider)

    @property
    def sample_rate_hz(self) -> int:
        return self.description.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        return self.description.embedding_dim

    @property
    def fingerprint(self) -> str:
        """The system's."""
        return self.description.fingerprint

    @property
    def samples_needed(self) -> int:
        """Samples of the shortest recording that has an embedding."""
        return self.description.min_samples

    @property
    def channel(self) -> Channel:
        """Which channel of a file was trained on, or their mix."""
        return "mix" if self.description.channel < 0 else self.description.channel

    @property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration; plain cosines where it had none."""
        return self._verifier

    def embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed waveforms: float32 [n, embedding_dim].

        Those of one length go through the graph together, which has no room for padding. With int8 each goes alone:
        the step of the quantized values is taken from all that is in a batch.
        """
        embeddings = np.zeros((len(waveforms), self.embedding_dim), dtype=np.float32)
        by_length = sorted(range(len(waveforms)), key=lambda index: len(waveforms[index]))
        for _, group in groupby(by_length, key=lambda index: len(waveforms[index])):
            members = list(group)
            for some in [members] if self.description.precision == FLOAT32 else [[index] for index in members]:
                batch = np.stack([waveforms[index] for index in some])
                embeddings[some] = self._session.run(None, {"waveform": batch})[0]
        return embeddings


def open_session(path: Path, *, device: str = "cpu", threads: int | None = None) -> Any:
    """onnxruntime's session on a file. Errors are those of `OnnxEngine`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: needs onnxruntime to be run; pip install 'xvectors[onnx]', or pip install onnxruntime"
        ) from error
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; `xvectors export DIR -o {path}` writes it")
    there = onnxruntime.get_available_providers()
    kinds = {name: provider for name, provider in PROVIDERS.items() if provider in there}
    if device != "auto" and device not in kinds:
        raise ConfigError(
            f"device {device!r}: this onnxruntime has {', '.join(kinds)}; another build of it may have more"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it has much to say about shapes that stay open
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    providers = list(kinds.values()) if device == "auto" else [kinds[device]]
    try:
        return onnxruntime.InferenceSession(fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own errors share no other class
        raise CheckpointError(f"{path} is damaged or no ONNX file: {str(error).splitlines()[0]}") from error

"""Reading the tensors of a foreign checkpoint, without executing anything in it.

`torch.load(weights_only=True)` reads most files. Checkpoints of training frameworks also pickle settings and callbacks;
of these the tensors alone are taken, and every other object becomes an inert placeholder.
"""

from __future__ import annotations

import collections
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from xvectors.errors import CheckpointError
from xvectors.files import why_no_file
from xvectors.text import count

NESTS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "generator", "params")
"""Keys under which toolkits keep the weights of the model, beside optimizers and counters."""
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that wrappers of torch (DataParallel, compile) put before every key."""
INERT = (
    "argparse",
    "collections",
    "lightning",
    "lightning_fabric",
    "numpy",
    "omegaconf",
    "pathlib",
    "pyannote",
    "pytorch_lightning",
    "speechbrain",
    "torch",
    "torchmetrics",
    "typing",
    "wespeaker",
)
"""Packages whose objects may stand in a checkpoint: they become placeholders, and are never imported."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MAX_PICKLE_BYTES = 64 << 20
"""Far more than the objects beside the tensors take; a larger pickle is a file crafted to fill memory."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The tensors of a checkpoint by name, and the plain values beside them."""

    tensors: dict[str, Tensor]
    """float32, or integers where the file has integers; without the counters of BatchNorm."""
    extras: Mapping[str, Any]
    """Numbers, strings, lists and mappings that stand beside the weights, such as a model's settings."""
    notes: tuple[str, ...]
    """What was converted or left out, in sentences."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the weights of a .pt, .pth, .ckpt, .bin or .safetensors file.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, holds no tensors, is a program (TorchScript), or names code that is not allowed.
    """
    if why := why_no_file(path):
        raise CheckpointError(f"{path}: {why}; give the file of a published model's weights")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    tensors, nest = _find_tensors(content)
    if not tensors:
        raise CheckpointError(
            f"{path}: holds no tensors by name, so it is no checkpoint of a network's weights; save them with "
            "torch.save(model.state_dict(), ...)"
        )
    extras = {str(key): value for key, value in content.items() if key != nest and _is_plain(value)}
    notes = []
    half = [key for key, value in tensors.items() if value.dtype in (torch.float16, torch.bfloat16)]
    if half:
        notes.append(f"{count(len(half), 'tensor')} in half precision became float32; the rounding stays")
    cleaned = {_without_wrappers(key): _full(value) for key, value in tensors.items()}
    cleaned = {key: value for key, value in cleaned.items() if not key.endswith("num_batches_tracked")}
    for key, value in cleaned.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: the tensor {key} holds NaN or infinity; the checkpoint is damaged")
    return Checkpoint(tensors=cleaned, extras=extras, notes=tuple(notes))


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(safetensors.torch.load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {error}") from error


def _read_torch(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: is a pointer of Git LFS, not the weights; fetch them with `git lfs pull`")
    if start.lstrip()[:1] in (b"<", b"{"):
        raise CheckpointError(f"{path}: is a text, perhaps the error page of a download; download the weights again")
    names: list[str] = []
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            _damaged(path, error)
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            raise CheckpointError(
                f"{path}: is a TorchScript program, whose code would have to be run; give the checkpoint of weights "
                "(a state dict) that it was made from"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols, which the result does not depend on
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not names:
            raise CheckpointError(
                f"{path}: is not a checkpoint of torch, or holds more than tensors in torch's old format; save its "
                "state dict with torch.save(model.state_dict(), ...)"
            ) from error
        content = _read_tensors_alone(path)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError, TypeError) as error:
        _damaged(path, error)
    return {str(key): value for key, value in content.items()} if isinstance(content, Mapping) else {}


def _damaged(path: Path, error: Exception) -> NoReturn:
    # the text of a KeyError is the key alone
    reason = "" if isinstance(error, KeyError) else next(iter(str(error).strip().splitlines()), "")
    reason = reason or type(error).__name__
    raise CheckpointError(f"{path} is damaged or cut off ({reason}); download it again") from error


class _Placeholder:
    """What becomes of every object that is not a tensor, number, string or container."""

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __call__(self, *arguments: object, **named: object) -> _Placeholder:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass

    def add(self, value: object) -> None:
        pass


class _TensorReader(pickle.Unpickler):
    """Reads the pickle of a torch archive; no name in it is ever imported."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        entry = archive.getinfo(f"{root}/data.pkl")
        if entry.file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(f"{path}: its pickle has {entry.file_size:,} bytes, more than any checkpoint needs")
        super().__init__(io.BytesIO(archive.read(entry)))
        self.path, self.archive, self.root = path, archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        # Python 2's name of the module is that of torch's pickles
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset", "dict"):
            return {"set": set, "frozenset": frozenset, "dict": dict}[name]
        if module.partition(".")[0] in INERT:
            return _Placeholder
        raise CheckpointError(
            f"{self.path}: names the code {module}.{name}, which no checkpoint of weights needs; it was not run. "
            "Get the model from its publisher, as safetensors if there is a choice"
        )

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, elements = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise CheckpointError(f"{self.path} is damaged: it refers to data of the unknown kind {kind!r}")
        if key not in self.storages:
            entry = self.archive.getinfo(f"{self.root}/data/{key}")
            if entry.file_size != elements * dtype.itemsize:
                raise CheckpointError(f"{self.path} is damaged: its data {key} have {entry.file_size} bytes")
            self.storages[key] = torch.frombuffer(bytearray(self.archive.read(entry)), dtype=dtype)
        return self.storages[key]


def _rebuilt(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _read_tensors_alone(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("/data.pkl")
            return _TensorReader(path, archive, root).load()
    except CheckpointError:
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile, StopIteration, KeyError, ValueError, TypeError) as error:
        _damaged(path, error)
    except (RuntimeError, AttributeError, IndexError, EOFError, OSError) as error:
        _damaged(path, error)


def _find_tensors(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors at the top, or those of the nest that holds them, with its key."""
    top = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if len(top) > 1:
        return top, None
    for nest in NESTS:
        inner = content.get(nest)
        if isinstance(inner, Mapping):
            found, _ = _find_tensors({str(key): value for key, value in inner.items()})
            if found:
                return found, nest
    return top, None


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def _without_wrappers(key: str) -> str:
    while prefix := next((each for each in WRAPPERS if key.startswith(each)), ""):
        key = key.removeprefix(prefix)
    return key


def _full(value: Tensor) -> Tensor:
    value = value.detach()
    return value.float().contiguous() if value.is_floating_point() else value.contiguous()

"""Choose the engine that runs a system."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from xvectors.encoder.engines.engine import Engine
from xvectors.errors import CheckpointError, ConfigError, MissingExtraError
from xvectors.system.folder import ONNX_SUFFIX, find_system

if TYPE_CHECKING:
    from xvectors.encoder.engines.torch import TorchEngine


def load_engine(name_or_path: str | PathLike[str], *, device: str, threads: int | None, precision: str) -> Engine:
    """Load a system: an exported file with onnxruntime, a directory with torch or, without torch, from its export.

    Parameters and errors are those of `SpeakerEncoder.from_pretrained`.
    """
    if Path(name_or_path).suffix == ONNX_SUFFIX and not Path(name_or_path).is_dir():
        from xvectors.encoder.engines.onnx import OnnxEngine

        if precision != "float32":
            raise ConfigError(
                f"precision {precision!r}: {name_or_path} was exported with its own; leave the setting out"
            )
        return OnnxEngine(name_or_path, device=device, threads=threads)
    folder = find_system(name_or_path if isinstance(name_or_path, str) else Path(name_or_path))
    try:
        from xvectors.encoder.engines.torch import TorchEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from xvectors.encoder.engines.onnx import OnnxEngine

        if precision != "float32":
            raise MissingExtraError(
                f"precision {precision!r} needs torch, which is not installed: pip install torch, or leave it out"
            ) from error
        if folder.network.is_file():
            raise MissingExtraError(
                f"{folder.path} was imported from an .onnx file, whose features torch computes: pip install torch"
            ) from error
        return OnnxEngine.beside(folder, device=device, threads=threads)
    return TorchEngine.load(folder, device=device, threads=threads, precision=precision)


def torch_engine(engine: Engine) -> TorchEngine:
    """Return the engine if it has network, recipe and speakers at hand. Raises CheckpointError for other engines."""
    only = "the network, recipe and speakers are only available for a system directory loaded with torch; load that"
    try:
        from xvectors.encoder.engines.torch import TorchEngine
    except ModuleNotFoundError as error:
        raise CheckpointError(only) from error
    if not isinstance(engine, TorchEngine):
        raise CheckpointError(only)
    return engine

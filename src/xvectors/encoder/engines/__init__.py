"""Engines compute embeddings behind a `SpeakerEncoder`: `torch` runs a system directory, `onnx` an exported file.

Both follow the protocol `Engine`; `load_engine` chooses one. `torch` is the only module of the package `encoder` that
imports torch.
"""

from xvectors.encoder.engines.engine import Engine
from xvectors.encoder.engines.loading import load_engine, torch_engine

__all__ = ["Engine", "load_engine", "torch_engine"]

"""Engines compute embeddings behind a `SpeakerEncoder`: `torch` runs a system directory, `onnx` an exported file.

Both follow the protocol `Engine`. `torch` is the only module of the package `encoder` that imports torch.
"""

from xvectors.encoder.engines.engine import Engine

__all__ = ["Engine"]

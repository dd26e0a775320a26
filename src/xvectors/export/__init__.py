"""Export a system to one ONNX file, and compare the file with the system.

graph.py builds the graph from waveform to embedding, onnx_file.py writes the file, and checking.py compares it with the
system; sherpa.py writes a file for sherpa-onnx. The engine that reads the file, without torch, is
`xvectors.encoder.engines.onnx`.
"""

from xvectors.export.checking import Difference, compare_embeddings
from xvectors.export.onnx_file import OPSET, Exported, check_onnx, export_onnx
from xvectors.export.sherpa import ExportedForSherpa, export_for_sherpa

__all__ = [
    "OPSET",
    "Difference",
    "Exported",
    "ExportedForSherpa",
    "check_onnx",
    "compare_embeddings",
    "export_for_sherpa",
    "export_onnx",
]

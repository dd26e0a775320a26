"""A system in one file for other programs. In: a system directory. Out: an .onnx file, and how near it comes.

graph.py writes the system as one graph, onnx_file.py makes the file of it, checking.py compares file and system. What
reads the file, without torch, is `xvectors.encoder.engines.onnx`.
"""

from xvectors.export.checking import Difference, compare
from xvectors.export.onnx_file import OPSET, Exported, check_onnx, export_onnx

__all__ = ["OPSET", "Difference", "Exported", "check_onnx", "compare", "export_onnx"]

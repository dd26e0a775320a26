"""Small ONNX files that stand for speaker models of other toolkits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

MELS, DIM = 80, 16


def write_network(
    path: Path,
    shape: tuple[int | str, ...] = ("batch", "frames", MELS),
    metadata: dict[str, str] | None = None,
    outputs: tuple[str, ...] = ("embedding",),
) -> Path:
    """A network that multiplies the mean over axis 1, of frames or of the samples' first values, by a matrix."""
    matrix = np.random.default_rng(1).standard_normal((MELS if len(shape) != 2 else 1, DIM)).astype(np.float32)
    nodes, constants = [], [helper.make_tensor("matrix", TensorProto.FLOAT, matrix.shape, matrix.tobytes(), raw=True)]
    constants.append(helper.make_tensor("axis", TensorProto.INT64, [1], [1]))
    if len(shape) != 2:
        nodes.append(helper.make_node("ReduceMean", ["input", "axis"], ["mean"], keepdims=0))
    else:
        nodes.append(helper.make_node("Mul", ["input", "input"], ["squares"]))
        nodes.append(helper.make_node("ReduceMean", ["squares", "axis"], ["mean"], keepdims=1))
    nodes += [helper.make_node("MatMul", ["mean", "matrix"], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], DIM]) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def copy_of(model: Any) -> Any:
    """An equal `onnx.ModelProto`: an export writes metadata into its own."""
    copied = type(model)()
    copied.CopyFrom(model)
    return copied

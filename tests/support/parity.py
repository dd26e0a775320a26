"""One comparison for every family: another toolkit's own class and our import, with the same weights and features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from support.peers import VERSIONS, run_peer
from support.published import GOLDEN, KEPT, formula_checkpoint, imported, our_features, our_outputs
from xvectors.system.importers import convert

SHAPES = """
import json, sys, torch
network = make()
shapes = {n: list(v.shape) for n, v in network.state_dict().items() if not n.endswith("num_batches_tracked")}
print("?", json.dumps(shapes), flush=True)
sys.stdin.readline()
"""
COMPUTED = """
import json, sys, torch
weights = torch.load(sys.argv[1], weights_only=True)
network.load_state_dict(weights.get("state_dict", weights), strict=False)
network.eval()
features = torch.load(sys.argv[2], weights_only=True)
with torch.inference_mode():
    outputs = [network(x) for x in features]
outputs = [x[-1] if isinstance(x, tuple) else x for x in outputs]
print(json.dumps([x.flatten().tolist() for x in outputs]))
"""
OUTPUTS = "network = make()\n" + COMPUTED


def compare_with_class(
    family: str,
    package: str,
    make: str,
    folder: Path,
    *,
    stand_ins: str = "",
    write_golden: bool = False,
    golden: str = "",
    gain: float = 1.0,
    model_config: Mapping[str, Any] | None = None,
    settings: str = "",
) -> None:
    """Assert that an imported model computes what the reference class computes, within 1e-4 of its largest value.

    Parameters
    ----------
    family
        Name of the family; also of its golden file.
    package
        Package of the reference class.
    make
        Source text that defines `make()`, which returns the reference's module; it maps features [1, frames, mels] to
        an embedding, or to several outputs of which the last is the embedding.
    folder
        Folder for the files of the comparison.
    stand_ins
        As in `run_peer`.
    golden
        Name of the golden file, where a family has several.
    gain
        Factor on the matrices and kernels of the formula.
    model_config, settings
        As in `imported`; golden files keep them.
    write_golden
        Write the golden file; otherwise it is compared with the reference's outputs.
    """
    path, features = folder / "published.pt", folder / "features.pt"
    ours: list[NDArray[np.float32]] = []
    shapes: dict[str, list[int]] = {}

    def write_files(question: str) -> None:
        shapes.update(json.loads(question))
        model = imported(path, formula_checkpoint(shapes, gain), family, model_config=model_config, settings=settings)
        assert convert(path).family.name.partition("-")[2] == family.partition("-")[2], "recognized by its tensors"
        torch.save(our_features(model), features)
        ours.extend(our_outputs(model))

    program = make + SHAPES + COMPUTED
    printed = run_peer(package, program, path, features, stand_ins=stand_ins, answer=write_files)
    theirs = [np.array(values) for values in json.loads(printed.splitlines()[-1])]
    for computed, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(computed, reference, rtol=0, atol=1e-4 * np.abs(reference).max())
    content = {
        "family": family,
        "reference": f"{package} {VERSIONS[package]}",
        "gain": gain,
        **({"model_config": model_config} if model_config else {}),
        **({"settings": settings} if settings else {}),
        "tensors": shapes,
        "scale": [float(np.abs(values).max()) for values in theirs],
        "outputs": [values[:KEPT].tolist() for values in theirs],
    }
    path = GOLDEN / f"{golden or family}.json"
    if write_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["tensors"] == shapes
    for values, scale, now in zip(kept["outputs"], kept["scale"], theirs, strict=True):
        np.testing.assert_allclose(values, now[:KEPT], rtol=0, atol=1e-4 * scale)

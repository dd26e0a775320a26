from __future__ import annotations

import json
from pathlib import Path

from xvectors.demo import run_demo

TINY = (
    "data.train_test_prop=0.75",
    "model.channels=4",
    "training.epochs=2",
    "training.batch_size=8",
    "training.workers=0",
)


def test_the_demo_makes_everything_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    arguments = {"speakers": 8, "utterances": 4, "overrides": TINY, "device": "cpu"}
    result = run_demo(tmp_path, say=said.append, **arguments)
    assert [line[:4] for line in said if line[1] == "/"] == ["1/4 ", "2/4 ", "3/4 ", "4/4 "]
    assert sum(line.startswith("Epoch [") for line in said) == 2
    assert result.training.num_speakers == 6
    assert result.evaluation is not None
    assert (len(result.evaluation.manifest.speakers), len(result.evaluation.manifest)) == (2, 8)
    metrics = (tmp_path / "system" / "report" / "metrics.json").read_text()
    assert json.loads(metrics)["eer"] == result.evaluation.eer
    assert [path.name for path in result.plots] == ["training.png", "speakers.png", "scores.png"]
    assert (tmp_path / "system" / "report" / "index.html").read_text().startswith("<!doctype html>")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in result.plots)

    weights = tmp_path / "system" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = run_demo(tmp_path, say=said.append, **arguments)
    assert str(again.training.epochs) == str(result.training.epochs)  # NaN equals nothing
    assert (tmp_path / "system" / "report" / "metrics.json").read_text() == metrics
    assert weights.stat().st_mtime_ns == before

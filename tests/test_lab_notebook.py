"""examples/lab.ipynb from its first cell to its last, as a student runs it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "lab.ipynb"


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the kernel's own machinery, not the notebook's code
def test_the_notebook_runs_and_the_trainer_beats_the_hand_written_loop(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    text = printed(notebook)
    assert "Speakers | train+val: 24 | train: 24 | val: 24 | test: 6 | total: 30" in text
    assert "torch.Size([32, 498, 24]) torch.int64" in text
    assert "torch.Size([32, 494, 512])" in text
    assert "4980164" in text
    assert len(re.findall(r"Epoch \[0\d/03\] \| Train Loss: [\d.]+, Acc: [\d.]+% \| Val Loss", text)) == 3
    by_hand, trained = map(float, re.search(r"by hand ([\d.]+)%, with the trainer ([\d.]+)%", text).groups())
    assert trained >= 60
    assert trained > by_hand + 20
    assert float(re.search(r"6 unseen speakers: EER ([\d.]+)%", text)[1]) < 30
    images = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(images) == 3

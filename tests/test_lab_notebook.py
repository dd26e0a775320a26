"""examples/lab.ipynb from its first cell to its last, as a student runs it, and what is committed of a run."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

import xvectors.dataset
import xvectors.models

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "lab.ipynb"


@pytest.fixture
def run_notebook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return pytest.importorskip("run_notebook")


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def check_outputs(notebook: nbformat.NotebookNode) -> None:
    """What a run prints and draws, committed or fresh."""
    warned = [output["text"] for output in outputs(notebook) if output.get("name") == "stderr"]
    # Whether one of the six voices is suspected to be two is a matter of a processor's rounding.
    assert all("sound like two people" in text for text in warned), warned
    text = "".join(output["text"] for output in outputs(notebook) if output.get("name") == "stdout")
    assert "Speakers | train+val: 24 | train: 24 | val: 24 | test: 6 | total: 30" in text
    assert "torch.Size([32, 498, 24]) torch.int64" in text
    assert "torch.Size([32, 494, 512])" in text
    assert "4980164" in text
    assert len(re.findall(r"Epoch \[0\d/03\] \| Train Loss: [\d.]+, Acc: [\d.]+% \| Val Loss", text)) == 3
    by_hand, trained = map(float, re.search(r"by hand ([\d.]+)%, with the trainer ([\d.]+)%", text).groups())
    assert trained >= 60
    assert trained > by_hand + 20
    # of six speakers nobody trained on: guessing has 50, one processor's rounding moves it by several points
    assert float(re.search(r"6 unseen speakers: EER ([\d.]+)%", text)[1]) < 45
    images = [output.data["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(images) == 3
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)


def test_the_committed_outputs_are_those_of_the_committed_sources(run_notebook: ModuleType) -> None:
    """Stripped of its outputs, the notebook is what was run: `make notebook` runs it again."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata[run_notebook.RAN] == run_notebook.sources_digest(notebook), "run `make notebook`"
    numbers = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert numbers == list(range(1, len(numbers) + 1))
    check_outputs(notebook)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert str(Path.home()) not in text
    assert "/tmp/" not in text


def test_the_corpus_is_set_by_two_variables_in_the_first_cell_of_code() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert re.findall(r"^(\w+) =", code[0], re.MULTILINE) == ["METADATA", "DATA"]
    rest = "\n".join(code[1:])
    assert "metadata_file=METADATA, data_directory=DATA" in rest
    assert re.search(r"train\(\s*DATA, .*metadata=METADATA", rest)
    # where the student's corpus is, nothing is made
    assert 'if DATA == Path("lab-data"):\n    synthesize(DATA' in rest


def test_the_two_files_of_the_documentation_make_the_exercises_imports_work(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorials" / "laboratory.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"```python\n# (\w+\.py)\n(.*\n)```", text))
    assert {name: content.count("\n") for name, content in files.items()} == {"dataset.py": 1, "models.py": 1}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    cell = (
        "from dataset import load_all_data\nfrom models import TDNNLayer, XVector\n"
        "import dataset, models\n"
        "print(load_all_data.__module__, TDNNLayer.__module__, XVector.__module__, dataset.__file__)\n"
        "print(*sorted(name for name in vars(dataset) if not name.startswith('_')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", cell], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    )
    first, second = done.stdout.splitlines()
    home = f"xvectors.dataset xvectors.models.layers.tdnn xvectors.models.xvector {tmp_path / 'dataset.py'}"
    assert first == home
    assert second == "LabLoader load_all_data"


@pytest.mark.parametrize("module", [xvectors.dataset, xvectors.models])
def test_what_a_star_brings_is_there(module: ModuleType) -> None:
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the kernel's own machinery, not the notebook's code
def test_the_notebook_runs_and_the_trainer_beats_the_hand_written_loop(
    tmp_path: Path, run_notebook: ModuleType
) -> None:
    """The loop's network is half as wide here, as the trainer's is, which trains for half of its epochs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for long, short in (
        ("model = XVector(size=1, depth=1,", "model = XVector(size=0.5, depth=1,"),
        ("training.epochs=10", "training.epochs=5"),
    ):
        (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and long in cell.source)
        cell.source = cell.source.replace(long, short)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    check_outputs(run_notebook.run(notebook, tmp_path))
    assert [cell.source for cell in notebook.cells] == sources

"""Run examples/lab.ipynb and keep what it shows: `python tools/run_notebook.py` (or `make notebook`).

In: the notebook's cells. Out: the same file with the outputs of one run in a fresh folder, from the first cell to the
last, and the digest of the sources that they are the outputs of.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "lab.ipynb"
RAN = "outputs_of_sources_sha256"
"""The notebook's metadata key that tells which sources the outputs belong to."""


def sources_digest(notebook: nbformat.NotebookNode) -> str:
    """Of every cell's kind and text, whatever it printed."""
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(repr(cells).encode("utf-8")).hexdigest()


def run(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Execute the cells in `folder`, in place; raises nbclient's CellExecutionError where one fails."""
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", record_timing=False, resources={"metadata": {"path": folder}}
    ).execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version of this Python
    notebook.metadata[RAN] = sources_digest(notebook)
    return notebook


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder))
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    NOTEBOOK.write_text(text, encoding="utf-8")
    print(f"{NOTEBOOK}: {len(text) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

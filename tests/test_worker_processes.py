"""Processes that are forked after a network was used, and those that are spawned from a script as users write it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from multiprocessing import get_all_start_methods
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

FORKED = """
import multiprocessing, sys
import numpy as np
from xvectors import SpeakerEncoder, train
from xvectors.config import load_recipe

rng = np.random.default_rng(0)
waves = [rng.standard_normal(length).astype(np.float32) for length in (48000, 96000)]
encoders = [SpeakerEncoder.from_pretrained("starter", device="cpu", threads=threads) for threads in (None, 3)]

def embed(index):
    return encoders[index].encode(waves)

def embed_afresh(_):
    return SpeakerEncoder.from_pretrained("starter", device="cpu").encode(waves)

def learn(out):
    recipe = load_recipe("xvector", ["model.size=0.125", "training.epochs=1", "training.precision=float32",
                                     "data.train_test_prop=0.8", "training.workers=0"])
    return len(train(sys.argv[1], out, recipe, device="cpu", calibrate=False).epochs)

expected = [embed(index) for index in range(2)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(embed, [0, 1, 0]) + pool.map(embed_afresh, [0])
    for one, two in zip(found, [*expected, expected[0], expected[0]], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)  # which the number of threads may change by rounding alone
    print(len(found), pool.apply(learn, [sys.argv[2]]))
"""


@needs_fork
@pytest.mark.slow
def test_a_forked_process_computes_where_its_parent_has(toy_corpus: Path, tmp_path: Path) -> None:
    """With several threads, of which none but the forking one goes on in the child: without care it waits for good."""
    script = tmp_path / "script.py"
    script.write_text(FORKED)
    done = subprocess.run(
        [sys.executable, script, toy_corpus, tmp_path / "system"],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "4 1\n"), done.stderr


README = Path(__file__).resolve().parents[1] / "README.md"
SMALL = """
[model]
name = "xvector"
batch_norm = true
size = 0.125
embedding_dim = 16
[data]
chunk_min_s = 0.5
chunk_max_s = 0.8
validation_chunk_s = 0.8
train_test_prop = 0.8
[training]
epochs = 1
precision = "float32"
workers = 2
"""
SPAWNING = """
import functools, multiprocessing, runpy
multiprocessing.set_start_method("{method}")
import xvectors
xvectors.train = functools.partial(xvectors.train, recipe="small.toml", device="cpu")
runpy.run_path("script.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in ("spawn", "forkserver") if name in get_all_start_methods()])
def test_the_script_of_the_readme_runs_where_processes_are_spawned(
    method: str, toy_corpus: Path, tmp_path: Path
) -> None:
    """As printed, with nothing below `if __name__ == "__main__"`; the network alone is a smaller one."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = (block for block in blocks if "train(" in block)
    assert "__main__" not in script
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "small.toml").write_text(SMALL)
    (tmp_path / "my-recordings").symlink_to(toy_corpus)
    done = subprocess.run(
        [sys.executable, "-c", SPAWNING.format(method=method)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    epochs, rate = done.stdout.splitlines()[:-1], float(done.stdout.splitlines()[-1])
    assert len(epochs) == 1
    assert 0.0 <= rate <= 1.0

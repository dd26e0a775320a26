"""Where torch is not installed: what runs by an exported system, and what says what to install."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from xvectors import SpeakerEncoder
from xvectors.corpus.synth import synthesize
from xvectors.gallery import open_gallery
from xvectors.system import find_system

ROOT = Path(__file__).resolve().parents[1]

BLOCK = """
import sys

class NoTorch:
    missing = {MISSING}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
"""

COMMANDS = """
import json
from xvectors.cli import main

for command in json.loads(sys.argv[1]):
    sys.argv = ["xvectors", *command]
    sys.stdout, sys.stderr = open("out.txt", "w"), open("err.txt", "w")
    try:
        main()
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    sys.stdout.close(), sys.stderr.close()
    result = [status, open("out.txt").read(), open("err.txt").read()]
    print(json.dumps(result), file=sys.__stdout__, flush=True)
"""


def python(program: str, folder: Path, *arguments: str, missing: tuple[str, ...] = ("torch",)) -> str:
    """What a program prints in a Python that has not these packages."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.replace("{MISSING}", repr(missing)) + program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(folder: Path, *lines: list[str], missing: tuple[str, ...] = ("torch",)) -> list[tuple[int, str, str]]:
    """Status, standard output and standard error of each command, in a Python that has not these packages."""
    printed = python(COMMANDS, folder, json.dumps(lines), missing=missing)
    return [(status, out, err) for status, out, err in map(json.loads, printed.splitlines())]


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("voices")
    synthesize(out, speakers=2, utterances=3, seed=4712, audio_format="wav", workers=1)
    return out


def test_the_starter_verifies_enrolls_and_identifies(voices: Path, tmp_path: Path) -> None:
    """A gallery enrolled with torch is read, and one system's answers are the same with both."""
    first, second, third = sorted(str(path) for path in (voices / "synth-0000").glob("*.wav"))
    other = str(voices / "synth-0001" / "synth-0001-000.wav")
    encoder = SpeakerEncoder.from_pretrained("starter", device="cpu")
    with open_gallery(tmp_path / "g.db", system=encoder, create=True) as gallery:
        gallery.enroll("ann", encoder.encode([first]), [3.0])
    expected = encoder.verify(first, other)
    of = ["--gallery", str(tmp_path / "g.db")]
    results = commands(
        tmp_path,
        ["verify", first, other, "--json"],
        ["identify", second, *of, "--json"],
        ["enroll", "bob", other, *of],
        ["verify", "--as", "ann", third, *of, "--json"],
        ["speakers", *of],
        ["forget", "bob", *of],
        ["embed", str(voices), "-o", str(tmp_path / "e.npz")],
    )
    assert [(status, err) for status, _, err in results] == [(0, "")] * 7
    verified, identified, _, claimed = (results[i][1] for i in range(4))
    assert json.loads(verified)["llr"] == pytest.approx(expected.llr, abs=1e-3)
    assert json.loads(verified)["answer"] == expected.answer
    assert "ann" in identified
    assert "same speaker" in claimed
    assert "ann" in results[4][1]
    assert "bob" in results[4][1]
    with np.load(tmp_path / "e.npz") as embedded:
        found = embedded["embeddings"]
    with (voices / "metadata.csv").open(newline="") as file:
        paths = [voices / row["path"] for row in csv.DictReader(file)]
    np.testing.assert_allclose(found, encoder.encode(paths), atol=1e-4)


def test_what_needs_torch_says_what_to_install(voices: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(find_system("starter").path, plain, ignore=shutil.ignore_patterns("model.onnx"))
    pair = [str(voices / "synth-0000" / f"synth-0000-00{i}.wav") for i in (0, 1)]
    results = commands(
        tmp_path,
        ["train", str(voices), "-o", "exp/xv"],
        ["evaluate", "starter"],
        ["export", "starter", "-o", "model.onnx"],
        ["verify", *pair, "--system", str(plain)],
        ["verify", *pair, "--system", str(voices)],
    )
    assert [status for status, _, _ in results] == [2] * 5
    for _, _, err in results[:3]:
        assert err.startswith("error: this needs torch, which is not installed: pip install torch;")
        assert err.count("\n") == 1
    assert "pip install torch" in results[3][2]
    assert f"xvectors export {plain} -o {plain / 'model.onnx'}" in results[3][2]
    assert f"{voices} holds no system.toml" in results[4][2]
    (_, _, neither), *_ = commands(tmp_path, ["verify", *pair], missing=("torch", "onnxruntime"))
    assert "needs torch or onnxruntime to be run, and neither is installed: pip install onnxruntime" in neither


def test_the_directorys_calibration_counts_and_an_export_of_other_weights_is_refused(tmp_path: Path) -> None:
    """A system may be calibrated again, and trained again, after it was exported."""
    system = tmp_path / "system"
    shutil.copytree(find_system("starter").path, system)
    program = (
        "from xvectors import SpeakerEncoder\nprint(SpeakerEncoder.from_pretrained(sys.argv[1]).verifier.is_calibrated)"
    )
    assert python(program, tmp_path, str(system)) == "True\n"
    for name in ("backend.npz", "calibration.toml"):
        (system / name).unlink()
    assert python(program, tmp_path, str(system)) == "False\n"
    with (system / "model.safetensors").open("ab") as file:
        file.write(b" ")
    ((status, _, err),) = commands(tmp_path, ["verify", "a.wav", "b.wav", "--system", str(system)])
    assert status == 2
    assert f"{system / 'model.onnx'} was exported from another system" in err
    assert f"xvectors export {system} -o {system / 'model.onnx'}" in err


def test_what_to_install_without_torch_is_what_the_project_needs_and_onnxruntime() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    onnxruntime = next(line for line in project["optional-dependencies"]["onnx"] if line.startswith("onnxruntime"))
    wanted = [line for line in project["dependencies"] if not line.startswith("torch>")] + [onnxruntime]
    listed = (ROOT / "requirements-without-torch.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if not line.startswith("#")] == wanted

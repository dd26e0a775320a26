"""The wheel: what is in it, and that it works in an empty environment, away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from xvectors import SpeakerEncoder
from xvectors.corpus.synth import synthesize

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NUM_SPEAKERS, NUM_UTTERANCES = 8, 4
SMALL = (
    "data.train_test_prop=0.75",
    "model.channels=4",
    "training.epochs=2",
    "training.batch_size=8",
    "training.workers=0",
)


def run(*command: str | Path, folder: Path, timeout_s: float = 600) -> str:
    """Run a command in `folder`, where nothing of the checkout can be imported, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XVECTORS"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make build` builds it: from the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, folder=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that holds the wheel and what it requires, without extras."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "venv", folder=folder)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    install = ("-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    run(programs / "python", *install, folder=folder, timeout_s=1200)
    return programs


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("voices")
    synthesize(
        out,
        speakers=NUM_SPEAKERS,
        utterances=NUM_UTTERANCES,
        seed=4712,
        audio_format="wav",
        workers=1,
    )
    return out


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    package = {path.relative_to(source).as_posix() for path in (source / "xvectors").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert held == {name for name in package if "__pycache__" not in name}
    data = {name for name in held if not name.endswith(".py")}
    for suffix, least in ((".safetensors", 500_000), (".onnx", 1_000_000), (".npz", 400), (".toml", 100)):
        assert min(sizes[name] for name in data if name.endswith(suffix)) > least


def test_it_runs_from_its_own_files(scripts: Path, tmp_path: Path) -> None:
    printed = run(
        scripts / "python",
        "-c",
        "import xvectors; print(xvectors.__file__); print(xvectors.__version__)",
        folder=tmp_path,
    )
    path, version = printed.splitlines()
    assert Path(path).is_relative_to(scripts.parent)
    assert run(scripts / "xvectors", "--version", folder=tmp_path).split()[-1] == version


def test_it_verifies_as_the_checkout_does(scripts: Path, voices: Path, tmp_path: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained("starter", device="cpu")
    first, second = (str(voices / "synth-0000" / f"synth-0000-00{i}.wav") for i in (0, 1))
    other = str(voices / "synth-0001" / "synth-0001-000.wav")
    for pair in ((first, second), (first, other)):
        found = json.loads(run(scripts / "xvectors", "verify", *pair, "--json", folder=tmp_path))
        expected = encoder.verify(*pair)
        assert found["answer"] == expected.answer
        assert found["llr"] == pytest.approx(expected.llr, abs=1e-3)  # float32 sums of other thread counts


def test_it_trains_and_reports(scripts: Path, voices: Path, tmp_path: Path) -> None:
    settings = [argument for setting in SMALL for argument in ("--set", setting)]
    run(scripts / "xvectors", "train", voices, "-o", "system", "--device", "cpu", *settings, folder=tmp_path)
    run(scripts / "xvectors", "evaluate", "system", "--device", "cpu", folder=tmp_path)
    report = tmp_path / "system" / "report"
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    num_test = NUM_SPEAKERS // 4
    assert metrics["num_speakers"] == num_test
    assert metrics["num_utterances"] == num_test * NUM_UTTERANCES
    assert metrics["num_target_trials"] == num_test * NUM_UTTERANCES * (NUM_UTTERANCES - 1) // 2
    assert metrics["num_nontarget_trials"] == (num_test * (num_test - 1) // 2) * NUM_UTTERANCES**2
    assert 0 <= metrics["eer"] <= 1
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert f"{100 * metrics['eer']:.1f}" in page
    history = (tmp_path / "system" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) == 1 + 2  # a header and the epochs

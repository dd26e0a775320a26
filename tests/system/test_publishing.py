"""Systems that are published on the hub, for which a server on this machine stands in, and loaded from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.hub_server import TOKEN, HubServer, environment, hub_server, use_in_this_process
from xvectors import SpeakerEncoder
from xvectors.backends import load_backend, make_backend
from xvectors.config import load_recipe
from xvectors.errors import CheckpointError, ConfigError, MissingExtraError, StorageError
from xvectors.system import SystemFolder, find_system
from xvectors.system.publishing import publish
from xvectors.system.serialization import make_model, read_description, write_description, write_weights
from xvectors.trials import all_pairs
from xvectors.verification import Basis, Verifier, fingerprint_of, learn_verifier, load_verifier, save_verifier
from xvectors.verification.verifier import IMPORTED, calibration_digest

# huggingface_hub's own, for files that it uploads in one piece
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ADDRESS = "hf://someone/voices"
WAVE = np.sin(np.arange(32_000) / 9).astype(np.float32)
SPEAKERS = ("Ada Lovelace", "Grace Hopper")
METRICS = {
    "data": "/home/ada/corpora/offices.csv",
    "num_speakers": 30,
    "num_utterances": 240,
    "num_target_trials": 840,
    "num_nontarget_trials": 27_840,
    "scale": "cosine",
    "min_dcf_p_target": 0.01,
    "figures": {
        "eer": {"value": 0.0187, "unit": "share", "interval": {"low": 0.0101, "high": 0.0279}},
        "min_dcf": {"value": 0.31, "unit": ""},
        "cllr": {"value": 0.123, "unit": "bits", "interval": {"low": 0.09, "high": None}},
    },
    "slices": [{"dimension": "gender"}, {"dimension": "shorter recording"}],
    "leakage": {"shared_speakers": []},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Used with a token that may write."""
    pytest.importorskip("huggingface_hub")
    with hub_server() as server:
        use_in_this_process(monkeypatch, server, str(tmp_path / "home"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SystemFolder:
    """A small system that was trained on two people, with what training leaves beside it."""
    folder = SystemFolder(tmp_path_factory.mktemp("exp") / "mine")
    noise = 'augment.noise_folder="/home/ada/musan"'
    recipe = load_recipe("xvector", ["model.size=0.03", "model.embedding_dim=16", "features.num_mels=20", noise])
    write_description(folder, recipe, SPEAKERS)
    write_weights(folder, make_model(recipe, len(SPEAKERS)).state_dict(), 1)
    for path in (folder.corpus, folder.history, folder.checkpoint, folder.path / "notes.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("Ada Lovelace", encoding="utf-8")
    return folder


@pytest.fixture
def mine(small: SystemFolder, tmp_path: Path) -> SystemFolder:
    return SystemFolder(Path(shutil.copytree(small.path, tmp_path / "mine")))


def evaluated(folder: SystemFolder, name: str = "", **changed: object) -> Path:
    """Write a metrics.json that belongs to the system, as `xvectors evaluate` does."""
    digests = {"system_sha256": fingerprint_of(folder), "calibration_sha256": calibration_digest(verifier_in(folder))}
    path = folder.report / name / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**METRICS, **digests, **changed}), encoding="utf-8")
    return path


def verifier_in(folder: SystemFolder) -> Verifier:
    return load_verifier(backend=folder.backend, calibration=folder.calibration, fingerprint=fingerprint_of(folder))


def on_hub(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    repository = hub.repositories["someone/voices"]
    return repository.commits[repository.find(revision) or ""]


def test_a_pushed_system_loads_from_its_address_and_its_commit(hub: HubServer, mine: SystemFolder) -> None:
    printed = run("push", mine.path, ADDRESS).stdout
    commit = hub.repositories["someone/voices"].branches["main"]
    assert len(hub.repositories["someone/voices"].commits) == 2, "the hub's own and ours"
    assert printed.splitlines()[0].startswith(f"{ADDRESS}: 4 files, ")
    assert f"{ADDRESS}@{commit}" in printed
    assert not hub.repositories["someone/voices"].private
    here = SpeakerEncoder.from_pretrained(mine.path, device="cpu")
    for address in (ADDRESS, f"{ADDRESS}@{commit}"):
        there = SpeakerEncoder.from_pretrained(address, device="cpu")
        assert there.fingerprint == here.fingerprint
        assert np.array_equal(there.encode(WAVE, sample_rate_hz=16_000), here.encode(WAVE, sample_rate_hz=16_000))


def test_only_the_system_is_published_and_nobody_is_named(hub: HubServer, mine: SystemFolder) -> None:
    printed = run("push", mine.path, ADDRESS).stdout
    assert "the names of 2 speakers are withheld" in printed
    files = on_hub(hub)
    assert files.keys() - {".gitattributes"} == {"README.md", "system.toml", "model.safetensors", "speakers.csv"}
    assert not any(word in content for content in files.values() for word in (b"Ada", b"Grace", b"/home"))
    assert read_description(find_system(ADDRESS)).speakers == ("withheld-0000", "withheld-0001")
    assert tomllib.loads(files["system.toml"].decode())["recipe"]["augment"]["noise_folder"] == "musan"
    run("push", mine.path, ADDRESS, "--speaker-names")
    assert read_description(find_system(ADDRESS)).speakers == SPEAKERS


def test_a_calibrated_system_gives_the_same_llrs(hub: HubServer, mine: SystemFolder) -> None:
    """Its calibration and its cohort name people too."""
    calibrated(mine)
    publish(mine.path, ADDRESS)
    files = on_hub(hub)
    assert files.keys() >= {"backend.npz", "calibration.toml"}
    assert not any(word in content for content in files.values() for word in (b"Ada", b"Alan", b"Kurt", b"/home"))
    own, pushed = verifier_in(mine), verifier_in(find_system(ADDRESS))
    rows = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    trials = all_pairs(np.array([0, 0, 1, 1, 2, 2]))
    scores = own.score(rows, trials)
    assert np.array_equal(pushed.score(rows, trials), scores)
    seconds = np.full(len(scores), 3.0)
    assert np.array_equal(pushed.llrs(scores, seconds, seconds), own.llrs(scores, seconds, seconds))
    cohort = load_backend(find_system(ADDRESS).backend).normalizer
    assert cohort is not None
    assert len(set(cohort.cohort_speakers_.tolist())) == 20
    assert len(pushed.speakers) == 8
    assert not pushed.speakers & set(cohort.cohort_speakers_.tolist()), "different people stay different"
    assert pushed.basis["source"] == "speakers of offices"
    assert pushed.basis["domains"] == ["calls", "offices"]
    assert pushed.basis["left_out_as_two_voices"] == ["withheld"]
    # what no longer belongs to the system goes
    mine.calibration.unlink()
    publish(mine.path, ADDRESS)
    assert not on_hub(hub).keys() & {"backend.npz", "calibration.toml"}
    assert not verifier_in(find_system(ADDRESS)).is_calibrated


def test_the_back_end_of_an_imported_model_is_published(hub: HubServer, mine: SystemFolder) -> None:
    """It has no calibration yet, but scores otherwise than cosine."""
    rng = np.random.default_rng(2)
    backend = make_backend("cosine_centered").fit(rng.standard_normal((40, 16)), np.repeat(np.arange(8), 5))
    digest = fingerprint_of(mine)
    verifier = Verifier(backend=backend, name=IMPORTED)
    save_verifier(verifier, backend=mine.backend, calibration=mine.calibration, fingerprint=digest)
    publish(mine.path, ADDRESS)
    pushed = verifier_in(find_system(ADDRESS))
    assert (pushed.name, pushed.is_calibrated) == (IMPORTED, False)
    rows, trials = rng.standard_normal((4, 16)).astype(np.float32), all_pairs(np.array([0, 0, 1, 1]))
    assert np.array_equal(pushed.score(rows, trials), verifier.score(rows, trials))
    assert "back-end `imported`, not calibrated" in on_hub(hub)["README.md"].decode()


def calibrated(folder: SystemFolder) -> None:
    """Give the system a back-end with a cohort, and a calibration, of drawn embeddings."""
    rng = np.random.default_rng(1)
    voices = np.repeat(rng.standard_normal((28, 16)), 5, axis=0)
    embeddings = (voices + 0.5 * rng.standard_normal(voices.shape)).astype(np.float32)
    names = np.repeat([f"Alan {n}" for n in range(20)] + [f"Kurt {n}" for n in range(8)], 5)
    basis = Basis(
        embeddings=embeddings[100:],
        speakers=names[100:],
        recording=np.arange(40),
        duration_s=rng.uniform(1.0, 9.0, 40),
        whole=np.ones(40, dtype=np.bool_),
    )
    verifier = learn_verifier(basis, (embeddings[:100], names[:100]), backend_name="asnorm")
    facts = {"source": "speakers of /home/ada/offices", "domains": ["calls", "offices"]}
    verifier = replace(verifier, basis={**verifier.basis, **facts, "left_out_as_two_voices": ["Ada Byron"]})
    digest = fingerprint_of(folder)
    save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=digest)


def test_the_card_of_a_measured_system(hub: HubServer, mine: SystemFolder) -> None:
    calibrated(mine)
    evaluated(mine, scale="llr")
    evaluated(mine, "clean", data="clean", leakage={"shared_speakers": ["a", "b"]}, slices=[{"dimension": "age"}])
    printed = publish(mine.path, ADDRESS, license="cc-by-4.0")
    assert printed.num_results == 2
    card = on_hub(hub)["README.md"].decode()
    header = card.split("---")[1].splitlines()
    assert "license: cc-by-4.0" in header
    assert "library_name: xvectors" in header
    assert f'SpeakerEncoder.from_pretrained("{ADDRESS}")' in card
    assert "embeddings of 16 dimensions, 5,701 parameters" in card
    assert "20 log-mel filterbanks, frames of 25 ms every 10 ms, povey window, 16,000 Hz" in card
    assert "back-end `asnorm`, calibrated to log-likelihood ratios on 8 speakers" in card
    assert "| trained on | 2 speakers |" in card
    row = "| offices.csv | 30 | 240 | 28,680 | 1.87 % [1.01 to 2.79] | 0.310 (prior 0.01) | 0.123 bits |"
    assert row in card.splitlines()
    assert "On clean, 2 speakers had the names of training speakers" in card
    missing = card.partition("## Not measured")[2]
    assert "sessions" in missing
    assert "noise" in missing
    assert "women" not in missing, "measured on offices.csv"
    assert "age" not in missing.partition("languages")[0], "measured on clean"
    assert "played back" in missing


def test_the_card_of_a_system_that_was_not_measured(hub: HubServer, mine: SystemFolder) -> None:
    publish(mine.path, ADDRESS)
    card = on_hub(hub)["README.md"].decode()
    assert "has not been measured: its error rates are unknown" in card
    assert "- recordings of any kind" in card
    assert "cosine, not calibrated" in card
    assert "| license | not stated; ask the publisher |" in card
    assert not re.search("^license:", card, re.MULTILINE)


def test_an_evaluation_of_another_state_is_not_on_the_card(hub: HubServer, mine: SystemFolder) -> None:
    path = evaluated(mine)
    calibrated(mine)
    printed = run("push", mine.path, ADDRESS).stdout
    assert f"not on the card: {path} measured another state of the system; evaluate it again" in printed
    assert "has not been measured" in on_hub(hub)["README.md"].decode()
    path.write_text("{", encoding="utf-8")
    assert f"{path} is damaged" in run("push", mine.path, ADDRESS, status=2).stderr


def test_the_license_of_an_imported_system_and_a_card_of_ones_own(
    hub: HubServer, mine: SystemFolder, tmp_path: Path
) -> None:
    recipe = read_description(mine).recipe
    origin = {"title": "Voices", "source": "hf://lab/voices", "revision": "0" * 40, "license": "apache-2.0"}
    write_description(mine, recipe, (), origin)
    write_weights(mine, make_model(recipe, 0).state_dict(), 0)
    evaluated(mine, data=str(mine.corpus))
    assert publish(mine.path, ADDRESS).license == "apache-2.0"
    card = on_hub(hub)["README.md"].decode()
    assert f"| imported from | Voices, hf://lab/voices, commit {'0' * 40} |" in card
    assert "## Speakers" not in card, "it has none"
    assert "| test speakers of the corpus that it was trained on | 30 |" in card
    own = tmp_path / "card.md"
    own.write_text("---\nlicense: mit\n---\nOurs.\n", encoding="utf-8")
    publish(mine.path, ADDRESS, card=own)
    assert on_hub(hub)["README.md"] == own.read_bytes()
    with pytest.raises(ConfigError, match="no such file"):
        publish(mine.path, ADDRESS, card=tmp_path / "none.md")
    with pytest.raises(ConfigError, match=r"give its identifier, such as apache-2\.0"):
        publish(mine.path, ADDRESS, license="free for all")


def test_a_branch_and_a_private_repository(hub: HubServer, mine: SystemFolder) -> None:
    printed = json.loads(run("push", mine.path, ADDRESS, "--private", "--revision", "draft", "--json").stdout)
    repository = hub.repositories["someone/voices"]
    assert repository.private
    assert printed["address"] == f"{ADDRESS}@draft"
    assert printed["commit"] == repository.branches["draft"] != repository.branches["main"]
    assert "system.toml" not in on_hub(hub, "main")
    assert find_system(f"{ADDRESS}@draft").description.is_file()
    with pytest.raises(ConfigError, match="--revision draft, and leave it out here"):
        publish(mine.path, f"{ADDRESS}@draft")


def test_what_is_not_pushed(
    hub: HubServer, mine: SystemFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match=r"holds no system.toml, so it is not a system directory"):
        publish(tmp_path, ADDRESS)
    assert hub.asked == []
    hub.put("someone/voices", {"pytorch_model.bin": b"of another", "README.md": b"theirs"})
    with pytest.raises(StorageError, match=r"something else than a system of xvectors \(pytorch_model.bin\)"):
        publish(mine.path, ADDRESS)
    assert len(hub.repositories["someone/voices"].commits) == 1
    with pytest.raises(StorageError, match="exists and is public; make it private in its settings"):
        publish(mine.path, ADDRESS, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_to_read_only")
    with pytest.raises(StorageError, match="must be one with write access to nobody; log in with `hf auth login`"):
        publish(mine.path, "hf://nobody/voices")
    monkeypatch.delenv("HF_TOKEN")
    asked = len(hub.asked)
    said = run("push", mine.path, ADDRESS, status=2).stderr
    assert "needs a token of the hub with write access; log in with `hf auth login`, or set HF_TOKEN" in said
    assert len(hub.asked) == asked
    mine.weights.write_bytes(mine.weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        publish(mine.path, ADDRESS)


def test_without_a_network_or_the_extra(hub: HubServer, mine: SystemFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot be pushed \(.*refused.*\); check the network"):
        publish(mine.path, ADDRESS)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[hub\]'"):
        publish(mine.path, ADDRESS)


@pytest.mark.slow
def test_programs_of_their_own(hub: HubServer, mine: SystemFolder, tmp_path: Path) -> None:
    """Push and load as users do, by HF_ENDPOINT alone; then without the server, from the cache."""
    variables = {**os.environ, **environment(hub, str(tmp_path / "theirs"), TOKEN)}

    def program(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env={**variables, **more}, capture_output=True, text=True, check=False)

    load = f"import xvectors; print(xvectors.SpeakerEncoder.from_pretrained({ADDRESS!r}, device='cpu').fingerprint)"
    pushed = program("-m", "xvectors", "push", mine.path, ADDRESS)
    assert pushed.returncode == 0, pushed.stderr
    assert ADDRESS in pushed.stdout
    for more in ({}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        loaded = program("-c", load, **more)
        assert loaded.stdout.strip() == fingerprint_of(mine), loaded.stderr
    other = program("-m", "xvectors", "import", "hf://a/b", "-o", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert other.returncode == 2
    assert "HF_HUB_OFFLINE forbids" in other.stderr
    assert not (tmp_path / "out").exists()

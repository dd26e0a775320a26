"""The system that comes with the package: what it is made of, and that it tells voices apart it has not heard."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from xvectors import SpeakerEncoder, evaluate
from xvectors.audio import read, resample
from xvectors.backends import all_pairs_scores, length_normalize
from xvectors.config import differences, load_recipe
from xvectors.corpus import open_corpus
from xvectors.corpus.synth import synthesize
from xvectors.errors import ManifestError
from xvectors.metrics import ROC, eer
from xvectors.system import find_system
from xvectors.system.serialization import read_description
from xvectors.trials import all_pairs
from xvectors.verification import fingerprint_of


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight synthetic voices of a seed that no training used."""
    out = tmp_path_factory.mktemp("voices")
    synthesize(out, speakers=8, utterances=4, seed=4711, workers=1)
    return out


def test_it_is_small_and_holds_half_precision() -> None:
    folder = resources.files("xvectors.system") / "starter"
    sizes = {entry.name: len(entry.read_bytes()) for entry in folder.iterdir() if entry.is_file()}
    assert sizes.keys() == {
        "README.md", "backend.npz", "calibration.toml", "model.onnx", "model.safetensors", "speakers.csv",
        "system.toml",
    }  # fmt: skip
    assert sum(sizes.values()) <= 12_000_000
    content = (folder / "model.safetensors").read_bytes()
    weights = safetensors.torch.load(content)
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}
    assert "embedding_map.matrix" in weights
    assert "Intended use" in (folder / "README.md").read_text(encoding="utf-8")


def test_its_export_computes_what_it_computes(voices: Path) -> None:
    """Two files of one system: where one was made anew, `make starter-onnx` makes the other."""
    folder = find_system("starter")
    with_torch = SpeakerEncoder.from_pretrained("starter", device="cpu")
    exported = SpeakerEncoder.from_pretrained(folder.exported, device="cpu", threads=1)
    assert exported.fingerprint == with_torch.fingerprint == fingerprint_of(folder), "run `make starter-onnx`"
    assert (exported.sample_rate_hz, exported.shortest_s) == (with_torch.sample_rate_hz, with_torch.shortest_s)
    paths = sorted(voices.rglob("*.flac"))[::5]
    quiet = [1e-3 * read(path)[0] for path in paths[:2]]  # where the floor of the filterbanks decides
    found, expected = exported.encode([*paths, *quiet]), with_torch.encode([*paths, *quiet])
    # two orders of the same float32 sums; another floor or window differs by 0.003 of the length and more
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found / lengths, expected / lengths, atol=2e-5)


def test_its_recipe_is_the_one_of_its_name() -> None:
    """Retyped or changed later, `--recipe distill` would make another network than the one that ships."""
    shipped = read_description(find_system("starter")).recipe
    decisive = ("features", "model.name", "model.channels", "augment", "loss.name")
    changed = [change for change in differences(shipped, load_recipe(shipped.name)) if change.startswith(decisive)]
    assert changed == []
    assert not Path(shipped.distillation.teacher).is_absolute()


def test_it_tells_unheard_voices_apart(voices: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    manifest = open_corpus(voices)
    embedded = encoder.encode_manifest(manifest)
    assert embedded.embeddings.shape == (32, 128)
    assert eer(*all_pairs_scores(embedded.embeddings, manifest.speaker_index)).eer <= 0.05


def test_it_comes_calibrated_on_speakers_it_never_heard(voices: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    verifier = encoder.verifier
    assert verifier.is_calibrated
    assert verifier.basis["held_out"] is True
    assert verifier.basis["num_speakers"] >= 20
    assert not verifier.speakers & set(encoder.speakers)
    manifest = open_corpus(voices)
    embedded = encoder.encode_manifest(manifest)
    trials = all_pairs(manifest.speaker_index)
    seconds = embedded.duration_s
    llrs = verifier.trial_llrs(verifier.score(embedded.embeddings, trials), trials, embedded.embeddings, seconds)
    roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
    assert roc.cllr() <= 0.3
    assert (llrs[~trials.target] > np.log(99)).mean() <= 0.01


def test_half_a_second_at_8_khz_finds_its_speaker(voices: Path) -> None:
    """The middle half second over a telephone's bandwidth, against whole recordings at 16 kHz."""
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    manifest = open_corpus(voices)
    whole = [read(manifest.full_path(row))[0] for row in range(len(manifest))]
    narrow = [resample(wave, 16_000, 8_000) for wave in whole]
    middles = [wave[len(wave) // 2 - 2_000 :][:4_000] for wave in narrow]
    sides = [length_normalize(encoder.encode(whole)), length_normalize(encoder.encode(middles, sample_rate_hz=8_000))]
    cosines = sides[0] @ sides[1].T
    same = manifest.speaker_index[:, None] == manifest.speaker_index
    assert eer(cosines[same], cosines[~same]).eer <= 0.1


def test_a_folder_that_merely_bears_its_name_is_no_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").mkdir()
    assert find_system("starter").path.parent.name == "system"
    (tmp_path / "starter" / "system.toml").touch()
    assert find_system("starter").path == Path("starter")


def test_evaluating_it_takes_a_corpus_and_writes_beside_the_caller(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match="came without its corpus; name one to evaluate on with --data"):
        evaluate("starter")
    result = evaluate("starter", data=voices)
    assert result.num_speakers == 8
    assert (tmp_path / "starter-report" / voices.resolve().stem / "metrics.json").is_file()

"""What the accuracy benchmarks decide: who tests, what a system's name says, when an error rate is reached."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from xvectors import SpeakerEncoder, audio, load_recipe, train
from xvectors.backends import all_pairs_scores
from xvectors.corpus import TEST, Manifest, open_corpus, split_corpus
from xvectors.metrics import eer

TINY = (
    "model.channels=4",
    "model.embedding_dim=16",
    "features.num_mels=20",
    "training.batch_size=16",
    "training.epochs=1",
    "training.workers=0",
    "training.precision=float32",
    "data.train_test_prop=0.8",
    "data.held_out_prop=0",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.6",
    "data.validation_chunk_s=0.6",
)

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return pytest.importorskip(request.param)


@pytest.mark.parametrize("module", ["_unseen"], indirect=True)
def test_the_test_speakers_are_those_of_seed_0_whatever_the_seed(
    module: ModuleType, toy_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = module.fix_test_speakers(toy_corpus, tmp_path)
    assert capsys.readouterr().out == "8 speakers to train on, 2 others to test\n"
    expected = split_corpus(open_corpus(toy_corpus), train_test_prop=0.8, seed=0).test_speakers
    manifest = Manifest.read_csv(path)
    divided = [split_corpus(manifest, train_test_prop=1.0, seed=seed) for seed in (0, 1)]
    assert [set(split.test_speakers) for split in divided] == [set(expected)] * 2
    assert not np.array_equal(divided[0].assignment, divided[1].assignment), "other utterances validate"
    assert all(np.array_equal(split.assignment == TEST, manifest.split == TEST) for split in divided)


@pytest.mark.parametrize("module", ["_unseen"], indirect=True)
def test_error_rates_on_worked_embeddings_and_no_speaker_of_training(module: ModuleType) -> None:
    rows = [
        {"path": f"{speaker}{i}.wav", "speaker": speaker, "split": "test" if speaker in "ab" else "train"}
        for speaker in "abc"
        for i in range(2)
    ]
    corpus = Manifest.from_rows(rows)
    # a common direction hides that a and b are opposite until the mean of training, c, is taken away
    place = {"a": (1.0, 10.0), "b": (-1.0, 10.0), "c": (0.0, 10.0)}

    class Embedded:
        def __init__(self, manifest: Manifest) -> None:
            self.embeddings = np.array([place[manifest.speakers[s]] for s in manifest.speaker_index], np.float32)
            self.failures: list[str] = []

    figures = module.measure(Embedded, corpus, ["c"])
    assert figures == {"num_test_speakers": 2, "num_trials": 6, "eer": 0.0, "centered_eer": 0.0, "min_dcf": 0.0}
    with pytest.raises(AssertionError, match=r"test speakers that were trained on: \['b'\]"):
        module.measure(Embedded, corpus, ["b", "c"])


@pytest.mark.parametrize("module", ["accuracy"], indirect=True)
def test_a_systems_name_and_settings(module: ModuleType) -> None:
    assert module.parse_system("xvectors:lab") == ("xvectors:lab", [])
    assert module.parse_system("xvectors:xvector,model.name=ecapa,loss.margin=0.3") == (
        "xvectors:xvector",
        ["model.name=ecapa", "loss.margin=0.3"],
    )
    assert module.parse_system("speechbrain-xvector,batch=32,augment=false")[1] == ["batch=32", "augment=false"]
    for wrong in ("lab", "xvectors:lab,batch", "speechbrain-xvector,batch=0", "speechbrain-xvector,precision=bf16"):
        with pytest.raises(argparse.ArgumentTypeError):
            module.parse_system(wrong)


@pytest.mark.parametrize("module", ["time_to_accuracy"], indirect=True)
def test_the_time_to_an_error_rate_is_the_quickest_runs_first_epoch_at_it(module: ModuleType) -> None:
    def history(*points: tuple[float, float]) -> list[dict[str, float]]:
        return [{"elapsed_s": elapsed_s, "val_eer": rate} for elapsed_s, rate in points]

    long = history((60, math.nan), (120, 0.12), (240, 0.04), (300, 0.06), (600, 0.03))
    short = history((60, 0.2), (90, 0.1))
    assert [module.seconds_to(rate, long) for rate in (0.1, 0.05, 0.03, 0.02)] == [240, 240, 600, math.inf]
    assert [module.minutes_to(rate, [short, long]) for rate in (0.1, 0.05, 0.02)] == [1.5, 4.0, None]


@pytest.mark.parametrize("module", ["embedding_speed"], indirect=True)
def test_one_thread_is_one_core(module: ModuleType) -> None:
    import os

    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with module.held_to(1):
        assert len(os.sched_getaffinity(0)) == torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(SystemExit, match=r"this process may use \d+ cores"), module.held_to(len(before) + 1):
        pass
    torch.set_num_threads(threads)


@pytest.mark.parametrize("module", ["_unseen"], indirect=True)
def test_a_system_is_measured_on_speakers_that_it_has_not_heard(module: ModuleType, toy_corpus: Path) -> None:
    corpus = open_corpus(toy_corpus)
    assert module.unheard(corpus, corpus.speakers) is corpus
    split = np.where(corpus.speaker_index % 2, TEST, corpus.split)
    divided = corpus.with_columns(split=split)
    assert set(module.unheard(divided, corpus.speakers[::2]).speakers) == set(corpus.speakers[1::2])
    with pytest.raises(SystemExit, match=f"trained on {corpus.speakers[1]}, one of 2"):
        module.unheard(divided, corpus.speakers[:4])


@pytest.mark.parametrize("module", ["conditions"], indirect=True)
def test_crops_are_the_middle_and_8_khz_takes_the_upper_half_away(module: ModuleType) -> None:
    ramp = np.arange(40_000, dtype=np.float32)
    assert module.middle(ramp, 1.0).tolist() == list(range(12_000, 28_000))
    assert module.middle(ramp, 0.5)[0] == 16_000
    assert module.middle(ramp, None) is not None
    assert len(module.middle(ramp, None)) == len(module.middle(ramp, 4.0)) == 40_000
    t = np.arange(16_000) / 16_000
    low, high = (np.sin(2 * np.pi * hz * t).astype(np.float32) for hz in (1000, 6000))
    inner = slice(1000, -1000)
    np.testing.assert_allclose(module.narrowed(low)[inner], low[inner], atol=1e-3)
    assert np.abs(module.narrowed(high)[inner]).max() < 1e-3
    assert len(module.narrowed(high)) == len(high)


@pytest.mark.parametrize("module", ["conditions"], indirect=True)
def test_conditions_of_a_tiny_system(
    module: ModuleType,
    toy_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row for each length and bandwidth, of the test speakers' 2 x 8 recordings; whole ones score as evaluated."""
    train(toy_corpus, tmp_path / "s", load_recipe("resnet", TINY), device="cpu", calibrate=False)
    monkeypatch.setattr("sys.argv", ["conditions.py", str(tmp_path / "s"), "--json", str(tmp_path / "rows.json")])
    module.main()
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    lengths = ("whole", "2 s", "1 s", "0.5 s")
    assert [(row["name"], row["bandwidth"], row["length"]) for row in rows] == [
        ("xvectors", bandwidth, length) for bandwidth in ("16 kHz", "8 kHz") for length in lengths
    ]
    assert all(row["num_trials"] == 16 * 15 // 2 and 0 <= row["eer"] <= 1 for row in rows)
    corpus = Manifest.read_csv(tmp_path / "s" / "corpus.csv")
    test = corpus.take(corpus.split == TEST)
    embedded = SpeakerEncoder.from_pretrained(tmp_path / "s", device="cpu").encode_manifest(test)
    assert rows[0]["eer"] == eer(*all_pairs_scores(embedded.embeddings, test.speaker_index)).eer
    assert rows[1]["eer"] == rows[0]["eer"], "no recording is as long as 2 s"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "16 recordings of 2 speakers"
    assert len(printed) == 2 + 8


@pytest.mark.parametrize("module", ["conditions"], indirect=True)
def test_conditions_need_recordings(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["conditions.py", "starter"])
    with pytest.raises(SystemExit, match="starter came without its corpus; name one with --corpus"):
        module.main()


@pytest.mark.parametrize("module", ["step_share"], indirect=True)
def test_every_second_counts_once_and_as_the_innermost_part(module: ModuleType) -> None:
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    watch = module.Stopwatch(lambda: next(times))
    inner = watch.within(lambda: 7, "inner")
    assert inner() == 7  # outside all parts, no clock is asked
    with watch.part("outer"), watch.part("middle"):
        assert inner() == 7
    assert watch.spent == {"outer": 1.0 + 5.0, "middle": 2.0 + 4.0, "inner": 3.0}


@pytest.mark.parametrize("module", ["step_share"], indirect=True)
def test_the_parts_of_a_tiny_runs_steps(module: ModuleType, toy_corpus: Path) -> None:
    recipe = load_recipe("resnet", [*TINY, "training.epochs=2"])
    backward = torch.autograd.backward
    steps, spent = module.measure(toy_corpus, recipe)
    assert torch.autograd.backward is backward
    assert steps == 2 * 4  # 50 chunks in batches of 16
    assert all(seconds > 0 for seconds in spent.values())
    assert spent["forward"] > spent["SpecAugment"]


@pytest.mark.parametrize("module", ["backends"], indirect=True)
def test_back_ends_are_compared_with_cosine_on_other_speakers(module: ModuleType) -> None:
    from xvectors.backends import make_backend
    from xvectors.metrics import compare_systems, eer
    from xvectors.trials import all_pairs

    def drawn(num_speakers: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Speakers differ in all of 8 dimensions, recordings mostly in the first two: cosine is at a loss there."""
        rng = np.random.default_rng(seed)
        speakers = np.repeat(np.arange(num_speakers), 6)
        noise = rng.standard_normal((len(speakers), 8)) * ([4] * 2 + [0.5] * 6)
        return (rng.standard_normal((num_speakers, 8))[speakers] + noise).astype(np.float32), speakers

    training, (embeddings, speakers) = drawn(40, seed=0), drawn(12, seed=1)
    fitted, left_out = module.fit_all(*training)
    assert list(fitted) == ["cosine", "cosine_centered", "asnorm", "wccn_asnorm", "lda_plda", "lda_plda_asnorm"]
    assert left_out == {}
    rows = module.measure(fitted, embeddings, speakers, draws=100)
    assert {(row["num_speakers"], row["num_trials"]) for row in rows} == {(12, 72 * 71 // 2)}
    trials = all_pairs(speakers)
    for row in rows:
        scores = fitted[row["backend"]].score(embeddings, trials)
        assert row["eer"] == eer(*trials.split(scores)).eer
        assert row["eer_low"] <= row["eer"] <= row["eer_high"]
    cosine, plda = rows[0], rows[4]
    assert not [key for key in cosine if "difference" in key]
    assert plda["min_cllr_difference"] == pytest.approx(plda["min_cllr"] - cosine["min_cllr"])
    assert plda["eer_difference_high"] < 0
    assert plda["eer_p_value"] < 0.05
    resample = module.ScoredTrials.of(trials.target, speakers[trials.enroll], speakers[trials.test])
    both = [make_backend("cosine").score(embeddings, trials), fitted["lda_plda"].score(embeddings, trials)]
    compared = compare_systems(*both, resample, module.MEASURES, num_draws=100)
    expected = compared["min_dcf"].difference
    assert (plda["min_dcf_difference_low"], plda["min_dcf_difference_high"]) == (expected.low, expected.high)
    assert plda["eer_p_value"] == compared["eer"].p_value
    first, second, third = module.lines(plda)
    assert first.startswith(f"lda_plda         EER           {plda['eer']:>7.2%}")
    assert second.split()[1:4] == ["Cllr", "at", "best"]
    assert third.endswith(f"{plda['min_dcf_p_value']:.3f}")
    few, refused = module.fit_all(training[0][:12], training[1][:12])
    assert "cosine" in few
    assert refused["asnorm"].startswith("top_k is 0.2 for a cohort of 2 speakers: give ")


@pytest.mark.parametrize("module", ["loading"], indirect=True)
def test_kept_recordings_are_decoded_before_they_are_timed(
    module: ModuleType, toy_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = {
        kind: load_recipe("xvector", ["training.workers=0", f"training.decoded_mb={most}"])
        for kind, most in module.KINDS.items()
    }
    read: list[str] = []
    of_audio = audio.read
    monkeypatch.setattr(audio, "read", lambda path, **given: read.append(str(path)) or of_audio(path, **given))
    counts = []
    for kind, cost_ms in module.measure(toy_corpus, recipes, batches=1, rounds=2):
        assert cost_ms > 0
        counts.append((kind, len(read)))
        read.clear()
    (kept, _), (anew, first), again_kept, again = counts
    assert (kept, anew) == ("kept", "read anew")
    assert first > 0
    assert again_kept == ("kept", 0)
    assert again == ("read anew", first)


@pytest.mark.parametrize("module", ["unheard"], indirect=True)
def test_unheard_speakers_are_those_that_the_manifest_holds_out(
    module: ModuleType, toy_corpus: Path, tmp_path: Path
) -> None:
    """Not those of training, nor of a corpus that is not there; six recordings of each."""
    name = toy_corpus.name
    rows = [(f"{name}/s03", name, "val"), (f"{name}/s04", name, ""), ("synthetic/v1", "synthetic", "val")]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("speaker,domain,split\n" + "".join(",".join(row) + "\n" for row in rows))
    found = module.held_out(manifest, toy_corpus.parent)
    assert {corpus: [(speaker, path.name) for speaker, path in each] for corpus, each in found.items()} == {
        name: [("s03", f"u{number}.flac") for number in range(6)]
    }


@pytest.mark.parametrize("module", ["unheard"], indirect=True)
def test_unheard_measures_the_chosen_pairs(module: ModuleType) -> None:
    """One recording of each speaker lies with one of the other speaker, and scores higher than any target pair."""
    embeddings = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    speakers = np.array(["a", "a", "b", "b"])
    pairs = np.triu(~np.eye(4, dtype=bool))
    assert module.eer_of(embeddings, embeddings, speakers, pairs) == pytest.approx(50.0)
    assert module.eer_of(embeddings, embeddings, np.array(["a", "b", "a", "b"]), pairs) == pytest.approx(0.0)

from __future__ import annotations

import csv
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from xvectors.config import AugmentConfig
from xvectors.corpus import Manifest
from xvectors.dataset import load_all_data
from xvectors.errors import ConfigError, ManifestError
from xvectors.features import Fbank
from xvectors.training.data.dataset import CENTERED, WHOLE, ChunkBatches, ChunkDataset, ChunkRequest, CollateWaveforms
from xvectors.training.data.samplers import make_order
from xvectors.training.distributed import Group

RATE = 16_000
PAIR = r"\[train\+val speakers, test speakers\], such as \[100, 20\]"


def ramp_corpus(folder: Path, seconds: list[float]) -> ChunkDataset:
    """Recordings whose sample n has the value n / 2**20, so that a chunk tells where it was cut."""
    paths = []
    for i, duration_s in enumerate(seconds):
        paths.append(folder / f"{i}.wav")
        soundfile.write(paths[-1], np.arange(round(duration_s * RATE)) / 2**20, RATE, subtype="FLOAT")
    manifest = Manifest.from_rows([{"path": str(p), "speaker": "a"} for p in paths], root=folder)
    rows = np.arange(len(paths))
    return ChunkDataset(manifest, np.zeros(len(paths), np.int64), {0: "a"}, rows=rows, sample_rate_hz=RATE)


def first_sample(waveform: np.ndarray | None) -> float:
    assert waveform is not None
    return float(waveform[0]) * 2**20


def test_a_chunk_is_cut_where_the_seed_says(tmp_path: Path) -> None:
    dataset = ramp_corpus(tmp_path, [3.0])
    centered = dataset[ChunkRequest(0, RATE, CENTERED)].waveform
    assert len(centered) == RATE
    assert first_sample(centered) == RATE  # one second on either side
    place = np.random.default_rng(7).random()
    seeded = dataset[ChunkRequest(0, RATE, 7)].waveform
    assert first_sample(seeded) == pytest.approx(place * 2 * RATE, abs=1)
    np.testing.assert_array_equal(np.diff(seeded), np.float32(2**-20))
    assert len(dataset[ChunkRequest(0, WHOLE, CENTERED)].waveform) == 3 * RATE


def test_a_short_recording_is_repeated_to_length(tmp_path: Path) -> None:
    dataset = ramp_corpus(tmp_path, [0.4])
    chunk = dataset[ChunkRequest(0, RATE, 3)].waveform
    once = np.arange(6400, dtype=np.float32) / 2**20
    np.testing.assert_array_equal(chunk, np.concatenate([once, once, once[:3200]]))


def test_a_broken_recording_is_a_failure_not_an_exception(tmp_path: Path) -> None:
    dataset = ramp_corpus(tmp_path, [1.0, 1.0])
    (tmp_path / "0.wav").write_bytes(b"not audio at all")
    soundfile.write(tmp_path / "1.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    broken, nan = (dataset[ChunkRequest(row, RATE, CENTERED)] for row in (0, 1))
    assert broken.waveform is None
    assert "0.wav" in broken.failure
    assert nan.waveform is None
    assert "NaN" in nan.failure


def batches(**settings: object) -> ChunkBatches:
    arguments = {"batch_size": 4, "min_samples": 100, "max_samples": 200, "seed": 5} | settings
    return ChunkBatches(np.arange(10, 33), **arguments)


def test_an_epoch_takes_every_row_once_and_one_length_a_batch() -> None:
    sampler = batches()
    first, second = list(sampler), list(sampler)
    for epoch in (first, second):
        assert sorted(request.row for batch in epoch for request in batch) == list(range(10, 33))
        assert all(len({request.num_samples for request in batch}) == 1 for batch in epoch)
        assert all(100 <= request.num_samples <= 200 for batch in epoch for request in batch)
    assert {request.num_samples for batch in first + second for request in batch} <= {*range(100, 201)}
    lengths = {batch[0].num_samples for _ in range(20) for batch in sampler}
    assert lengths == {100, 112, 125, 138, 150, 162, 175, 188, 200}
    assert first != second
    assert len(first) == len(sampler) == 6


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    sampler, again = batches(), batches()
    second = [list(sampler), list(sampler)][1]
    again.set_position(1)
    assert list(again) == second
    again.set_position(1, first_batch=4)
    assert list(again) == second[4:]
    assert list(batches(seed=6)) != list(batches(seed=5))


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    sizes = [len(batch) for batch in ChunkBatches(np.arange(9), batch_size=4, min_samples=1, max_samples=1)]
    assert sizes == [4, 5]
    assert [len(batch) for batch in ChunkBatches(np.arange(8), batch_size=4, min_samples=1, max_samples=1)] == [4, 4]
    assert list(ChunkBatches(np.arange(0), batch_size=4, min_samples=1, max_samples=1)) == []


def test_gender_balance() -> None:
    genders = np.array([0] * 80 + [1] * 10 + [-1] * 6, dtype=np.int8)
    order = make_order("gender_balanced", np.arange(96), labels=np.zeros(96, dtype=np.int64), genders=genders)
    sampler = ChunkBatches(np.arange(96), batch_size=8, min_samples=1, max_samples=1, seed=1, order=order)
    rows = [request.row for batch in sampler for request in batch]
    counts = Counter(genders[rows].tolist())
    assert counts == {0: 45, 1: 45, -1: 6}
    # ten women fill 45 places: each comes four or five times
    assert set(Counter(row for row in rows if genders[row] == 1).values()) == {4, 5}


def test_load_all_data_shapes_types_and_line(toy_corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test, val, train = load_all_data(
        metadata_file=toy_corpus / "metadata.csv",
        data_directory=toy_corpus,
        batch_size=16,
        train_val_prop=0.75,
        train_test_prop=0.8,
    )
    line = "Speakers | train+val: 8 | train: 8 | val: 8 | test: 2 | total: 10\n"
    assert capsys.readouterr().out == line
    assert (len(train.dataset), len(val.dataset), len(test.dataset)) == (48, 16, 16)
    for loader in (train, val):
        melspec, spk_id, age, gender = next(iter(loader))
        assert (melspec.shape, melspec.dtype) == ((16, 498, 24), torch.float32)
        assert (spk_id.dtype, age.dtype, gender.dtype) == (torch.int64, torch.float32, torch.int64)
        for label, years, sex in zip(spk_id.tolist(), age.tolist(), gender.tolist(), strict=True):
            number = int(loader.dataset.speakers[label][1:])
            assert (years, sex) == (20 + number, number % 2)
    assert sorted(train.dataset.speakers) == sorted(val.dataset.speakers) == list(range(8))
    assert sorted(test.dataset.speakers) == [8, 9]
    names = set(train.dataset.speakers.values()) | set(test.dataset.speakers.values())
    assert names == {f"s{i:02d}" for i in range(10)}
    melspec, spk_id, _, _ = next(iter(test))
    # whole utterances of 0.6 + 0.1 k s at 100 frames a second, less the two that do not fit
    assert melspec.shape[0] == 1
    assert melspec.shape[1] in {58 + 10 * k for k in range(8)}
    assert spk_id.item() in (8, 9)


def test_load_all_data_repeats_exactly_and_workers_change_nothing(toy_corpus: Path) -> None:
    def epoch(workers: int, seed: int = 0) -> list[torch.Tensor]:
        loaders = load_all_data(toy_corpus / "metadata.csv", toy_corpus, 16, num_workers=workers, seed=seed)
        return [
            torch.cat([m.flatten(1)[:, ::50] for m, *_ in loaders[2]]),
            torch.cat([s for _, s, *_ in loaders[2]]),
        ]

    here, in_workers, other = epoch(0), epoch(2), epoch(0, seed=1)
    for a, b in zip(here, in_workers, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert other[1].shape == here[1].shape
    assert not torch.equal(other[1], here[1])


def test_speaker_subset_keeps_the_first_of_the_seeded_order(
    toy_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "metadata_file": toy_corpus / "metadata.csv",
        "data_directory": toy_corpus,
        "train_test_prop": 0.8,
        "train_val_prop": 0.75,
    }
    _, _, whole = load_all_data(**arguments)
    _, _, some = load_all_data(**arguments, speaker_subset=[3, 1])
    assert capsys.readouterr().out.splitlines()[1] == (
        "Speakers | train+val: 3 | train: 3 | val: 3 | test: 1 | total: 10"
    )
    assert set(some.dataset.speakers.values()) < set(whole.dataset.speakers.values())


def test_the_exercise_metadata_finds_its_files(tmp_path: Path, toy_corpus: Path) -> None:
    """One row an utterance without a path: speaker/video/last-part-of-id.flac."""
    rows = []
    for s in range(4):
        for u in range(5):
            target = tmp_path / "dev" / f"id{s:05d}" / f"vid{u // 2}" / f"{u:05d}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((toy_corpus / f"s{s:02d}" / f"u{u}.flac").read_bytes())
            name = f"id{s:05d}_vid{u // 2}_{u:05d}"
            rows.append([name, f"id{s:05d}", f"vid{u // 2}", 16000, 1.0, "m" if s % 2 else "f", 30.5 + s])
    with (tmp_path / "metadata_dev.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "speaker", "video_id", "sample_freq", "duration", "gender", "age"])
        writer.writerows(rows)
    test, val, train = load_all_data(
        metadata_file=tmp_path / "metadata_dev.csv", data_directory=tmp_path / "dev", train_val_prop=0.8
    )
    assert len(train.dataset) + len(val.dataset) + len(test.dataset) == 20
    _, spk_id, age, gender = next(iter(train))
    for label, years, sex in zip(spk_id.tolist(), age.tolist(), gender.tolist(), strict=True):
        number = int(train.dataset.speakers[label][2:])
        assert (years, sex) == (30.5 + number, 0 if number % 2 else 1)


def test_a_broken_recording_leaves_its_batch_smaller(
    toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for source in toy_corpus.rglob("*.*"):
        target = tmp_path / source.relative_to(toy_corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    test, _, train = load_all_data(tmp_path / "metadata.csv", tmp_path, batch_size=8)
    broken = train.dataset.manifest.full_path(int(train.dataset.rows[0]))
    broken.write_bytes(b"")
    broken_test = test.dataset.manifest.full_path(int(test.dataset.rows[0]))
    broken_test.unlink()
    with caplog.at_level(logging.WARNING):
        assert sum(len(spk_id) for _, spk_id, _, _ in train) == len(train.dataset) - 1
        assert len(list(test)) == len(test.dataset) - 1
    assert broken.name in caplog.text
    assert broken_test.name in caplog.text


def test_melspec_is_the_filterbank_of_the_recording(toy_corpus: Path) -> None:
    test, _, _ = load_all_data(toy_corpus / "metadata.csv", toy_corpus)
    melspec = next(iter(test))[0]
    wave, _ = soundfile.read(test.dataset.manifest.full_path(int(test.dataset.rows[0])), dtype="float32")
    torch.testing.assert_close(melspec, Fbank()(torch.from_numpy(wave)[None]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size must be a whole number, at least 1, not 0"),
        ({"batch_size": "32"}, ConfigError, "batch_size must be a whole number, at least 1, not '32'"),
        ({"batch_size": True}, ConfigError, "batch_size must be a whole number"),
        (
            {"train_val_prop": "0.9"},
            ConfigError,
            "train_val_prop must be a share above 0 and at most 1, such as 0.9, not '0.9'",
        ),
        ({"train_test_prop": False}, ConfigError, r"train_test_prop must be a share .*, not False"),
        (
            {"train_val_prop": 90},
            ConfigError,
            "train_val_prop must be a share above 0 and at most 1, such as 0.9, not 90",
        ),
        ({"train_test_prop": -0.1}, ConfigError, "train_test_prop must be a share above 0 and at most 1"),
        ({"train_test_prop": float("nan")}, ConfigError, "such as 0.95, not nan"),
        ({"train_test_prop": -1.0}, ConfigError, "such as 0.95, not -1.0"),
        ({"sampler": "balanced"}, ConfigError, "sampler must be 'shuffle' or 'gender_balanced', not 'balanced'"),
        ({"speaker_subset": 100}, ConfigError, rf"speaker_subset must be {PAIR}, not 100"),
        ({"speaker_subset": [5]}, ConfigError, rf"speaker_subset must be {PAIR}, not \[5\]"),
        ({"speaker_subset": "12"}, ConfigError, rf"speaker_subset must be {PAIR}, not '12'"),
        ({"speaker_subset": [5, -1]}, ConfigError, rf"speaker_subset must be {PAIR}, not \[5, -1\]"),
        ({"speaker_subset": [2.5, 1]}, ConfigError, rf"speaker_subset must be {PAIR}, not \[2.5, 1\]"),
        ({"speaker_subset": [1, 1]}, ManifestError, r"speaker_subset is \[1, 1\]; it takes at least 2 speakers"),
        ({"speaker_subset": [8, 20]}, ManifestError, "asks for 20 test speakers, there are 2; ask for fewer"),
        ({"num_workers": -1}, ConfigError, "num_workers must be a whole number, 0 for none, not -1"),
        ({"seed": None}, ConfigError, "seed must be a whole number, at least 0, not None"),
        ({"chunk_s": 0}, ConfigError, "chunk_s is 0; it must hold a frame of 25 ms"),
        ({"chunk_s": float("nan")}, ConfigError, "chunk_s must be seconds, such as 5.0, not nan"),
        ({"chunk_s": "5"}, ConfigError, "chunk_s must be seconds, such as 5.0, not '5'"),
        ({"num_mels": "24"}, ConfigError, "num_mels must be a whole number, such as 24, not '24'"),
        ({"sample_rate_hz": 16e3}, ConfigError, "sample_rate_hz must be a whole number, such as 16000, not 16000.0"),
        ({"keep_sessions": "no"}, ConfigError, "keep_sessions must be True or False, not 'no'"),
        ({"metadata_file": None}, ConfigError, "metadata_file must be the path of a table, not None"),
        ({"metadata_file": "nowhere.csv"}, ManifestError, "nowhere.csv"),
        ({"data_directory": "nowhere"}, ManifestError, "nowhere"),
    ],
)
def test_bad_arguments(toy_corpus: Path, change: dict, error: type[Exception], message: str) -> None:
    arguments = {"metadata_file": toy_corpus / "metadata.csv", "data_directory": toy_corpus, "train_test_prop": 0.8}
    arguments |= change
    with pytest.raises(error, match=message):
        load_all_data(**arguments)


def test_a_chunk_at_another_speed_is_another_class(tmp_path: Path) -> None:
    """Two tones: played at 0.9 or 1.1 they are lower or higher by that much, and the class moves by the speakers."""
    t = np.arange(3 * RATE) / RATE
    for i, f in enumerate((400, 800)):
        soundfile.write(tmp_path / f"{i}.wav", 0.3 * np.sin(2 * np.pi * f * t), RATE, subtype="FLOAT")
    rows = [{"path": f"{i}.wav", "speaker": f"s{i}"} for i in (0, 1)]
    manifest = Manifest.from_rows(rows, root=tmp_path)
    labels = np.arange(2)
    augment = AugmentConfig(speed_prob=0.6)
    dataset = ChunkDataset(
        manifest, labels, {0: "s0", 1: "s1"}, rows=np.arange(2), sample_rate_hz=RATE, augment=augment
    )
    collate = CollateWaveforms(labels, num_speakers=2)
    seen = Counter()
    for seed in range(60):
        batch = collate([dataset[ChunkRequest(row, RATE, seed)] for row in (0, 1)])
        assert batch.waveforms.shape == (2, RATE)
        for row, label, wave in zip((0, 1), batch.labels.tolist(), batch.waveforms.numpy(), strict=True):
            factor = (1.0, 0.9, 1.1)[label // 2]
            assert label % 2 == row
            peak_hz = int(np.abs(np.fft.rfft(wave * np.hanning(RATE))).argmax())
            assert peak_hz == pytest.approx((400, 800)[row] * factor, abs=1)
            seen[label // 2] += 1
    assert 0.2 < seen[0] / 120 < 0.6
    assert min(seen.values()) > 15
    centered = collate([dataset[ChunkRequest(1, RATE, CENTERED)]])
    assert centered.labels.tolist() == [1]


def test_babble_comes_from_the_corpus_and_the_seed_decides_all(tmp_path: Path) -> None:
    dataset = ramp_corpus(tmp_path, [2.0, 2.0, 2.0])
    augmented = ChunkDataset(
        dataset.manifest,
        dataset.labels,
        dataset.speakers,
        rows=dataset.rows,
        sample_rate_hz=RATE,
        augment=AugmentConfig(noise_prob=1.0, reverb_prob=0.5, gain_prob=1.0),
    )
    request = ChunkRequest(0, RATE, 11)
    clean, one, two = dataset[request].waveform, augmented[request].waveform, augmented[request].waveform
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - clean).max() > 1e-4
    np.testing.assert_array_equal(
        augmented[request._replace(seed=CENTERED)].waveform, dataset[request._replace(seed=CENTERED)].waveform
    )


def test_babble_is_of_other_speakers(tmp_path: Path) -> None:
    """Recordings of one value each, their row's number: for every row, each of the others' is heard, no own."""
    speakers = ["b", "a", "b", "c", "a", "b", "d"]
    for row in range(len(speakers)):
        soundfile.write(tmp_path / f"{row}.wav", np.full(RATE // 10, row / 16), RATE, subtype="FLOAT")

    def heard(rows: list[int], row: int) -> set[int]:
        manifest = Manifest.from_rows(
            [{"path": f"{i}.wav", "speaker": speaker} for i, speaker in enumerate(speakers)], root=tmp_path
        )
        dataset = ChunkDataset(
            manifest,
            manifest.speaker_index.astype(np.int64),
            dict(enumerate(manifest.speakers)),
            rows=np.array(rows),
            sample_rate_hz=RATE,
            augment=AugmentConfig(noise_prob=1.0),
        )
        draws = [dataset._another_voice(np.random.default_rng(seed), 100, row) for seed in range(60)]
        again = dataset._another_voice(np.random.default_rng(7), 100, row)
        np.testing.assert_array_equal(again, draws[7])
        return {round(float(draw[0]) * 16) for draw in draws}

    rows = [0, 1, 2, 4, 5, 3]  # speaker d does not train
    for row in rows:
        assert heard(rows, row) == {other for other in rows if speakers[other] != speakers[row]}
    assert heard([0, 2, 5], 2) == {0, 2, 5}, "one speaker alone: any recording"


def test_all_utterances_of_a_p_x_k_group_are_played_at_one_speed(tmp_path: Path) -> None:
    """Batches of 4 x 3 hold four classes of three, however speeds are drawn."""
    soundfile.write(tmp_path / "0.wav", np.zeros(200), RATE)
    labels = np.repeat(np.arange(12), 6)
    rows = np.arange(72)
    manifest = Manifest.from_rows([{"path": "0.wav", "speaker": f"s{label:02d}"} for label in labels], root=tmp_path)
    dataset = ChunkDataset(manifest, labels, {}, rows=rows, sample_rate_hz=RATE, augment=AugmentConfig(speed_prob=0.67))
    order = make_order("p_x_k", rows, labels=labels, genders=manifest.gender, batch_size=12, utterances_per_speaker=3)
    sampler = ChunkBatches(rows, batch_size=12, min_samples=100, max_samples=100, seed=1, order=order, speed_group=3)
    collate = CollateWaveforms(labels, num_speakers=12)
    classes = [collate([dataset[request] for request in batch]).labels.tolist() for batch in [*sampler, *sampler]]
    assert len(classes) == 12
    assert all(sorted(Counter(batch).values()) == [3, 3, 3, 3] for batch in classes)
    drawn = Counter(label // 12 for batch in classes for label in batch)
    assert all(drawn[speed] > 24 for speed in (0, 1, 2))
    alone = ChunkBatches(rows, batch_size=12, min_samples=100, max_samples=100, seed=1, order=order)
    assert all(request.speed_seed == request.seed for batch in alone for request in batch)


def test_ranks_share_every_batch() -> None:
    """Two processes take together what one would: the same rows, lengths and seeds, and half of each batch."""

    def batches(rank: int, num_ranks: int) -> list[list[ChunkRequest]]:
        sampler = ChunkBatches(
            np.arange(52), batch_size=8, min_samples=10, max_samples=90, seed=3, group=Group(rank, num_ranks)
        )
        return [*sampler, *sampler]  # two epochs

    alone, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
    assert len(alone) == len(first) == len(second) == 14
    for whole, one, other in zip(alone, first, second, strict=True):
        assert sorted(whole) == sorted(one + other)
        assert len(one) - len(other) in (0, 1)


def test_keeping_recordings_decoded_changes_no_chunk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.flac" for i in range(3)]
    for path in paths:
        soundfile.write(path, rng.uniform(-0.5, 0.5, 2 * RATE), RATE, subtype="PCM_16")
    manifest = Manifest.from_rows([{"path": str(p), "speaker": "a"} for p in paths], root=tmp_path)

    def chunks(decoded_bytes: int) -> list[np.ndarray]:
        dataset = ChunkDataset(
            manifest,
            np.zeros(3, np.int64),
            {0: "a"},
            rows=np.arange(3),
            sample_rate_hz=RATE,
            augment=AugmentConfig(speed_prob=0.5, speeds=[0.9, 1.1]),
            decoded_bytes=decoded_bytes,
        )
        return [dataset[ChunkRequest(i % 3, RATE, seed)].waveform for i, seed in enumerate(range(12))]

    for kept, read in zip(chunks(2**20), chunks(0), strict=True):
        np.testing.assert_array_equal(kept, read)

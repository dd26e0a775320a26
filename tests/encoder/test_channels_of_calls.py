"""Two-party calls: one speaker a channel, in Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.voices import RATE, spoken
from xvectors import SpeakerEncoder, audio, open_corpus
from xvectors.encoder import separate_rows
from xvectors.errors import AudioError


@pytest.fixture(scope="module")
def starter() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained("starter", device="cpu")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """s/call.wav: one voice a channel; s/one.wav, s/two.wav: the voices alone; s/opposed.wav: the first, canceling."""
    folder = tmp_path_factory.mktemp("calls")
    one, two = (np.asarray(speech, np.float32) for speech, _ in spoken(3, 2))
    one, two = (np.concatenate([voice, voice]) for voice in (one, two))
    count = min(len(one), len(two))
    one, two = one[:count], two[:count]
    for name, samples in {
        "call": np.stack([one, two], axis=1),
        "one": one,
        "two": two,
        "opposed": np.stack([one, -one], axis=1),
    }.items():
        audio.write(folder / "s" / f"{name}.wav", samples, RATE, "FLOAT")
    return folder / "s"


def test_a_channel_is_embedded_like_the_voice_alone(starter: SpeakerEncoder, calls: Path) -> None:
    call, one, two = (str(calls / f"{name}.wav") for name in ("call", "one", "two"))
    alone = starter.encode([one, two])
    np.testing.assert_allclose(starter.encode(call, channel="left")[0], alone[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(starter.encode(call, channel=1)[0], alone[1], rtol=0, atol=1e-4)
    separate = starter.encode([call, one, audio.read(two)[0]], channel="separate")
    np.testing.assert_allclose(separate, alone[[0, 1, 0, 1]], rtol=0, atol=1e-4)
    assert np.abs(starter.encode(call)[0] - alone[0]).max() > 0.01
    with pytest.raises(AudioError, match=r"call\.wav: has no channel 2, it has 2 channels"):
        starter.encode(call, channel=2)


def test_a_corpus_of_calls_has_a_row_a_channel(starter: SpeakerEncoder, calls: Path) -> None:
    manifest, channels = separate_rows(open_corpus(calls.parent))
    assert [manifest.id[row] for row in range(len(manifest))] == [
        *("s/call:0", "s/call:1", "s/one", "s/opposed:0", "s/opposed:1", "s/two")
    ]
    assert channels == [0, 1, 0, 0, 1, 0]
    embedded = starter.encode_manifest(manifest, channel=channels)
    alone = starter.encode([str(calls / "one.wav"), str(calls / "two.wav")])
    np.testing.assert_allclose(embedded.embeddings[[0, 1, 2, 5]], alone[[0, 1, 0, 1]], rtol=0, atol=1e-4)


def test_channels_that_cancel_are_one_voice(starter: SpeakerEncoder, calls: Path) -> None:
    decision = starter.verify(str(calls / "opposed.wav"), str(calls / "one.wav"))
    assert decision.answer == "same speaker"
    assert any("channels cancel each other" in note for note in decision.recordings[0].quality.notes)
    assert "cancel" not in " ".join(decision.recordings[1].quality.notes)


def test_the_commands_take_a_channel(calls: Path, tmp_path: Path) -> None:
    call = str(calls / "call.wav")
    audio.write(tmp_path / "swapped.wav", audio_frames(call)[:, ::-1].copy(), RATE, "FLOAT")
    gallery = ["--gallery", str(tmp_path / "g.sqlite"), "--device", "cpu"]
    # of both files the same side: two different voices; of the call itself, one
    answers = [
        run("verify", call, other, "--channel", "left", "--device", "cpu").stdout.splitlines()[0]
        for other in (call, str(tmp_path / "swapped.wav"))
    ]
    assert answers == ["same speaker", "different speakers"]
    run("enroll", "ann", call, "--channel", "0", *gallery)
    run("enroll", "bob", call, "--channel", "right", *gallery)
    lines = run("identify", call, "--channel", "separate", *gallery).stdout.splitlines()
    assert lines[0] == "channel 0:"
    assert lines[1].startswith("ann: LLR ")
    assert lines[lines.index("channel 1:") + 1].startswith("bob: LLR ")
    found = json.loads(run("identify", call, "--channel", "separate", "--json", *gallery).stdout)
    assert [entry["speaker"] for entry in found["channels"]] == ["ann", "bob"]
    decision = run("verify", call, "--as", "bob", "--channel", "1", *gallery).stdout.splitlines()
    assert decision[0] == "same speaker"


def test_what_is_no_channel_is_said(calls: Path, tmp_path: Path) -> None:
    call = str(calls / "call.wav")
    told = run("verify", call, call, "--channel", "2", status=2).stderr
    assert "call.wav: has no channel 2, it has 2 channels (numbered from 0)" in told
    assert "give left, right or a number" in run("verify", call, call, "--channel", "separate", status=2).stderr
    assert "give mix, left, right, a number" in run("verify", call, call, "--channel", "middle", status=2).stderr
    gallery = ("--gallery", tmp_path / "g.sqlite")
    told = run("enroll", "ann", call, "--channel", "0", "--keep-audio", *gallery, status=2).stderr
    assert "give it files of one channel" in told


def test_embed_writes_a_row_a_channel(calls: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    run("embed", calls.parent, "-o", out, "--channel", "separate", "--device", "cpu", "--quiet")
    with np.load(out) as arrays:
        assert arrays["id"].tolist() == ["s/call:0", "s/call:1", "s/one", "s/opposed:0", "s/opposed:1", "s/two"]
    parts = tmp_path / "parts.parquet"
    run("embed", calls.parent, "-o", parts, "--channel", "separate", "--device", "cpu", "--quiet")
    assert "another corpus or channel" in run("embed", calls.parent, "-o", parts, status=2).stderr


def audio_frames(path: str) -> np.ndarray:
    return np.concatenate(list(audio.blocks(path)))

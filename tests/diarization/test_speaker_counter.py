"""The network that counts speakers: its features, its receptive field, and recordings read in blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.voices import spoken
from xvectors.audio.recording import WaveformRecording
from xvectors.diarization import ConversationStyle, simulate_conversation
from xvectors.diarization.overlap import SpeakerCounter, SpeakerCounts, count_speakers
from xvectors.diarization.overlap.counting import WEIGHTS, load_network
from xvectors.diarization.overlap.network import SAMPLES_PER_FRAME, centered
from xvectors.errors import AudioError

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that is loud and quiet by turns."""
    rng = np.random.default_rng(seed)
    samples = 0.1 * rng.standard_normal(round(seconds * RATE))
    return (samples * (1.1 + np.sin(np.arange(len(samples)) / 2000))).astype(np.float32)


def test_the_mean_is_that_of_the_frames_around_fewer_at_the_ends() -> None:
    features = torch.tensor([0.0, 3.0, 6.0, 0.0, 9.0]).reshape(1, 5, 1)
    # means of [0, 3], [0, 3, 6], [3, 6, 0], [6, 0, 9] and [0, 9]
    assert centered(features, 1).flatten().tolist() == [-1.5, 0.0, 3.0, -5.0, 4.5]
    assert centered(features, 100).flatten().tolist() == pytest.approx([-3.6, -0.6, 2.4, -3.6, 5.4])


def test_probabilities_sum_to_one_and_the_level_does_not_matter() -> None:
    network = load_network()
    samples = torch.from_numpy(noise(4.0))
    with torch.inference_mode():
        found = network(torch.stack([samples, 0.1 * samples])).exp()
    # 398 filterbank frames, of which four are a frame
    assert found.shape == (2, 100, 3)
    torch.testing.assert_close(found.sum(2), torch.ones(2, 100))
    torch.testing.assert_close(found[0], found[1], atol=0.02, rtol=0)


def test_a_frame_depends_on_its_context_alone() -> None:
    torch.manual_seed(0)
    network = SpeakerCounter(channels=8, dilations=(1, 2)).eval()
    at = 200
    samples = torch.from_numpy(noise(20.0))
    near, far = samples.clone(), samples.clone()
    far[(at + network.context_frames + 2) * SAMPLES_PER_FRAME :] *= -3
    near[(at + 1) * SAMPLES_PER_FRAME :][: 4 * SAMPLES_PER_FRAME] = 0
    with torch.inference_mode():
        same, changed, as_is = (network(part[None])[0, at] for part in (far, near, samples))
    torch.testing.assert_close(same, as_is, atol=1e-5, rtol=0)
    assert (changed - as_is).abs().max() > 1e-3


@pytest.mark.parametrize("seconds", [0.02, 0.03, 0.5, 24.8, 31.0])
def test_blocks_of_any_length_give_what_the_whole_gives(seconds: float) -> None:
    network = load_network()
    samples = noise(seconds)
    sound = WaveformRecording(samples, "noise", RATE)
    whole = count_speakers(sound, network, block_s=1e6).probabilities
    assert len(whole) == -(-max(0, (len(samples) - 240) // 160) // 4)
    for block_s in (3.0, 7.77):
        found = count_speakers(sound, network, block_s=block_s).probabilities
        np.testing.assert_allclose(found, whole, atol=2e-3)


def test_no_more_than_a_block_and_its_context_is_held() -> None:
    seen = list[int]()

    class Watched(SpeakerCounter):
        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            seen.append(waveforms.shape[1])
            return super().forward(waveforms)

    network = Watched(channels=4, dilations=(1,)).eval()
    count_speakers(WaveformRecording(noise(60.0), "noise", RATE), network, block_s=10.0)
    assert len(seen) >= 5
    assert max(seen) / RATE <= 2 * 10.0 + 2 * 0.04 * (network.context_frames + 1)


def test_samples_that_are_not_finite_are_an_error() -> None:
    samples = noise(1.0)
    samples[5000] = np.nan
    with pytest.raises(AudioError, match="noise"):
        count_speakers(WaveformRecording(samples, "noise", RATE))


def test_stretches_of_overlap_are_whole_and_not_too_short() -> None:
    several = np.zeros(40, dtype=np.float32)
    several[1:3] = 0.9  # 80 ms: too short
    several[10:14] = several[17:20] = 0.8  # a gap of 120 ms is closed
    several[30:35] = 0.6
    counts = SpeakerCounts(
        probabilities=np.stack([0.5 - several / 2, 0.5 - several / 2, several], axis=1), frame_s=0.04, start_s=0.0
    )
    counts = replace(counts, several_from=0.5)
    np.testing.assert_allclose(counts.overlap(), [[0.4, 0.8], [1.2, 1.4]])
    # over three frames, 0.6 has 0.4 at its ends
    np.testing.assert_allclose(replace(counts, smoothed_frames=3).overlap()[-1], [1.24, 1.36])
    np.testing.assert_allclose(replace(counts, several_from=0.7).overlap(), [[0.4, 0.8]])
    # nobody has 0.05, 0.1 and 0.2 in these stretches, and pauses of at most 0.4 s are closed
    np.testing.assert_allclose(counts.speech(0.5), [[0.04, 1.4]])
    np.testing.assert_allclose(counts.speech(0.15), [[0.04, 0.8]])


def test_overlap_of_a_simulated_conversation_is_found() -> None:
    voices = {f"v{at}": [speech.astype(np.float32)] for at, (speech, _) in enumerate(spoken(4, 4))}
    style = ConversationStyle(duration_s=40, turn_s=5, overlap=0.7, overlap_s=1.5, rt60_s=None, snr_db=30)
    samples, turns = simulate_conversation(voices, RATE, style, seed=1)
    found = count_speakers(WaveformRecording(samples, "talk", RATE)).overlap()
    times = np.arange(0, len(samples) / RATE, 0.01)
    speaking = sum(((times >= turn.start_s) & (times < turn.end_s)).astype(int) for turn in turns)
    heard = np.any([(times >= start) & (times < end) for start, end in found], axis=0)
    assert np.mean(speaking > 1) > 0.2
    assert np.mean(speaking[heard] > 1) > 0.75
    assert np.mean(heard[speaking > 1]) > 0.6


def test_the_weights_are_small() -> None:
    assert Path(WEIGHTS).stat().st_size < 1_500_000

"""pyannote's segmentation network: its filters, its file, and recordings in chunks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from xvectors.audio.recording import WaveformRecording
from xvectors.diarization.overlap import find_counter
from xvectors.diarization.overlap.pyannote import (
    CHUNK_SAMPLES,
    FIELD_SAMPLES,
    HOP_FRAMES,
    PyanNet,
    count_by_pyannote,
    load_pyannote,
    sinc_filters,
)
from xvectors.errors import CheckpointError

RATE = 16_000


def parameters(edges_hz: tuple[float, float]) -> tuple[torch.Tensor, ...]:
    """The four tensors of a filterbank in the file, all its filters passing the same band."""
    low, high = edges_hz
    return (
        torch.full((40, 1), low - 50.0),
        torch.full((40, 1), high - low - 50.0),
        2 * math.pi * torch.arange(-125, 0).reshape(1, -1) / RATE,
        torch.from_numpy(np.hamming(251)[:125]).float(),
    )


def checkpoint(path: Path) -> PyanNet:
    """Write random weights as pyannote's file has them, and return the network that they are of."""
    torch.manual_seed(0)
    network = PyanNet().eval()
    state = {
        name if name.split(".")[0] in ("lstm", "linear", "classifier") else f"sincnet.{name}": value
        for name, value in network.state_dict().items()
        if name != "conv1d.0.weight"
    }
    names = ("low_hz_", "band_hz_", "n_", "window_")
    bank = {
        f"sincnet.conv1d.0.filterbank.{name}": value for name, value in zip(names, parameters((300, 900)), strict=True)
    }
    torch.save({"state_dict": state | bank, "epoch": 1}, path)
    with torch.no_grad():
        network.conv1d[0].weight.copy_(sinc_filters(*parameters((300, 900))))
    return network


def test_filters_pass_their_band_evenly_and_oddly() -> None:
    filters = sinc_filters(*parameters((1000, 2000)))[:, 0]
    assert filters.shape == (80, 251)
    even, odd = filters[0], filters[40]
    torch.testing.assert_close(even, even.flip(0))
    torch.testing.assert_close(odd, -odd.flip(0))
    for taps in (even, odd):
        gain = np.abs(np.fft.rfft(taps.numpy(), 16_000))
        assert gain[1500] > 100 * max(gain[500], gain[2500], gain[6000])
        assert gain[[1000, 2000]] == pytest.approx(gain[1500] / 2, rel=0.05)


def test_the_file_is_read_and_nothing_else_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    network = checkpoint(path)
    waveform = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(load_pyannote(path)(waveform), network(waveform), atol=1e-5, rtol=0)
    other = tmp_path / "other.bin"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(CheckpointError, match=r"other\.bin.*segmentation-3\.0.*pytorch_model\.bin"):
        load_pyannote(other)
    with pytest.raises(CheckpointError, match=r"gone\.bin"):
        find_counter(tmp_path / "gone.bin")


def test_a_frame_is_270_samples(tmp_path: Path) -> None:
    network = checkpoint(tmp_path / "pytorch_model.bin")
    with torch.inference_mode():
        for samples, frames in ((FIELD_SAMPLES + 270, 2), (FIELD_SAMPLES + 539, 2), (160_000, 589)):
            assert network(torch.zeros(1, samples)).shape == (1, frames, 7)
    counter = find_counter(tmp_path / "pytorch_model.bin")
    assert counter is not None
    counts = counter(WaveformRecording(np.zeros(RATE, dtype=np.float32), "zeros", RATE))
    # the middle of frame 0 is that of the samples it sees
    assert counts.start_s + counts.frame_s / 2 == pytest.approx(FIELD_SAMPLES / 2 / RATE, abs=1e-4)
    assert len(counter(WaveformRecording(np.zeros(900, dtype=np.float32), "short", RATE)).overlap()) == 0


@pytest.mark.parametrize("seconds", [0.1, 3.0, 10.0, 12.3, 27.1])
def test_chunks_are_put_together_where_they_belong(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says how loud each frame is gives for chunks what it gives for the whole."""

    def loudness(self: PyanNet, waveforms: torch.Tensor) -> torch.Tensor:
        assert waveforms.shape[1] <= CHUNK_SAMPLES
        level = waveforms.unfold(1, FIELD_SAMPLES, 270).square().mean(2)
        several, one = level / (1 + level), 0.5 / (1 + level)
        parts = [1 - several - one, *[one / 3] * 3, *[several / 3] * 3]
        return torch.stack(parts, dim=2).log()

    monkeypatch.setattr(PyanNet, "forward", loudness)
    samples = np.random.default_rng(0).uniform(-2, 2, round(seconds * RATE)).astype(np.float32)
    samples *= np.linspace(0, 1, len(samples), dtype=np.float32)
    found = count_by_pyannote(WaveformRecording(samples, "noise", RATE), PyanNet())
    level = np.square(np.lib.stride_tricks.sliding_window_view(samples, FIELD_SAMPLES)[::270]).mean(axis=1)
    # of the last chunk, which ends with the recording, a frame that does not fit may be left out
    assert len(level) - 1 <= len(found) <= len(level)
    np.testing.assert_allclose(found[:, 2], (level / (1 + level))[: len(found)], atol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)


def test_chunks_overlap_by_half() -> None:
    assert pytest.approx(5.0, abs=0.01) == HOP_FRAMES * 270 / RATE

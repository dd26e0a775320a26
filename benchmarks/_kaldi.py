"""Filterbanks of kaldi-native-fbank, as toolkits compute them that torchaudio would be needed for."""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
import torch
from numpy.typing import NDArray

RATE_HZ = 16_000


def filterbanks(samples: NDArray[np.float32], *, window: str = "povey", scale: float = 1.0) -> torch.Tensor:
    """Return 80 log-mel filterbanks without dither, less their mean, of a waveform at 16 kHz: [1, frames, 80]."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = window
    options.mel_opts.num_bins = 80
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(RATE_HZ, (scale * samples).tolist())
    computer.input_finished()
    frames = np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])
    return torch.from_numpy(frames - frames.mean(axis=0))[None]

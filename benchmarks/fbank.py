"""Filterbanks beside kaldi-native-fbank, on one thread: recordings of 4 s at 16 kHz, alone and 32 at once.

`python benchmarks/fbank.py [--json FILE]`. The peer takes one recording after the other, as it
does in use, and its frames are gathered into an array, without which nothing can be done with them.
"""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
import torch

from _timing import Row, compare, parser, write_json
from xvectors.features import Fbank

RATE_HZ = 16_000
PEER = "kaldi-native-fbank"


def kaldi_fbank(wave: np.ndarray, num_mels: int) -> np.ndarray:
    """Features [frames, mels] of one recording by the peer, without dither."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = RATE_HZ
    options.mel_opts.num_bins = num_mels
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(RATE_HZ, wave)
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for num_mels in (24, 80):
        fbank = Fbank(num_mels=num_mels)
        for batch in (1, 32):
            waves = np.random.default_rng(0).normal(0.0, 0.1, (batch, 4 * RATE_HZ)).astype(np.float32)

            def ours(fbank: Fbank = fbank, waves: np.ndarray = waves) -> torch.Tensor:
                with torch.inference_mode():
                    return fbank(torch.from_numpy(waves))

            def peer(waves: np.ndarray = waves, num_mels: int = num_mels) -> list[np.ndarray]:
                return [kaldi_fbank(wave, num_mels) for wave in waves]

            difference = np.abs(ours().numpy() - np.stack(peer())).max()
            title = f"{batch} x 4 s, {num_mels} mels"
            rows += compare(title, {PEER: peer, "xvectors": ours}, PEER, options.rounds)
            print(f"{title:<34} largest difference {difference:.1e}")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()

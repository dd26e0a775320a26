"""EER of the published CAM++ by 3D-Speaker's own class, and by the import, on the same recordings.

    pip download --no-deps speakerlab-slim==0.1.0 && unzip -d peers speakerlab_slim-0.1.0-py3-none-any.whl
    PYTHONPATH=peers python benchmarks/campplus_peer.py exp/known/measure-speechocean762.csv campplus_cn_en_common.pt

Theirs reads filterbanks of kaldi-native-fbank, less their mean: 80 without dither, as its `FBank` has them from
torchaudio. Whole recordings of 16 kHz without a VAD, all pairs by cosine. The last row is the import with its VAD.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from _kaldi import RATE_HZ, filterbanks
from xvectors import SpeakerEncoder, open_corpus
from xvectors.audio import read
from xvectors.backends import all_pairs_scores
from xvectors.metrics import eer, min_dcf
from xvectors.system.importers import import_model


def main() -> None:
    from speakerlab.models.campplus.DTDNN import CAMPPlus

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("data", type=Path, help="what `xvectors train` takes")
    options.add_argument("model", type=Path, help="campplus_cn_en_common.pt")
    arguments = options.parse_args()
    corpus = open_corpus(arguments.data)
    waves = [read(corpus.full_path(row), sample_rate_hz=RATE_HZ)[0] for row in range(len(corpus))]
    network = CAMPPlus(feat_dim=80, embedding_size=192)
    network.load_state_dict(torch.load(arguments.model, weights_only=True))
    with torch.inference_mode():
        theirs = np.stack([network.eval()(filterbanks(wave))[0].numpy() for wave in waves])
    with tempfile.TemporaryDirectory() as scratch:
        encoder = SpeakerEncoder.from_pretrained(import_model(arguments.model, Path(scratch, "system")).path)
    found = {
        "3D-Speaker": theirs,
        "xvectors": encoder.encode(waves, trim_silence=None),
        "xvectors, with its VAD": encoder.encode(waves),
    }
    largest = np.abs(found["xvectors"] - theirs).max() / np.abs(theirs).max()
    print(f"{len(waves)} recordings, {len(corpus.speakers)} speakers; largest difference {largest:.1e}")
    for name, embeddings in found.items():
        scores = all_pairs_scores(embeddings, corpus.speaker_index)
        print(f"{name:24} EER {eer(*scores).eer:.4%}  minDCF(0.01) {min_dcf(*scores, p_target=0.01).min_dcf:.4f}")


if __name__ == "__main__":
    main()

"""The networks with the settings and sizes of their papers.

Sizes count the parameters up to the embedding, as `count_parameters` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Published(NamedTuple):
    """A network of `MODELS` with the settings of its paper, and the size published for it."""

    model: str
    settings: Mapping[str, bool | int | str | Sequence[int]]
    paper: str
    size_m: float | None = None
    """Millions of parameters, to the published digits; None where no size is published."""
    num_mels: int = 80
    """Coefficients per frame of the network that was counted."""


PUBLISHED = (
    Published("xvector", {}, "x-vector: Snyder et al., ICASSP 2018", 4.2, num_mels=24),
    Published("xvector", {"batch_norm": True}, "x-vector with BatchNorm, as in Kaldi's recipe and ECAPA-TDNN"),
    Published("etdnn", {}, "E-TDNN: Snyder et al., ICASSP 2019; size by Yu and Li, Interspeech 2020", 6.1, num_mels=30),
    Published(
        "ftdnn", {}, "F-TDNN: Villalba et al., Interspeech 2019; size by Yu and Li, Interspeech 2020", 12.4, num_mels=30
    ),
    Published("ecapa", {}, "ECAPA-TDNN: Desplanques et al., Interspeech 2020", 6.2),
    Published("ecapa", {"channels": 1024}, "ECAPA-TDNN: Desplanques et al., Interspeech 2020", 14.7),
    Published(
        "resnet34", {}, "ResNet-34, r-vector: Zeinali et al., arXiv 1910.12592; size by Wang et al., ICASSP 2023", 6.63
    ),
    Published("thin_resnet", {}, "thin ResNet: after Chung et al., Interspeech 2020, in our own size"),
    Published("campplus", {}, "CAM++: Wang et al., Interspeech 2023", 7.18),
    Published("bottleneck_resnet", {}, "ResNet-152: He et al., CVPR 2016, as in WeSpeaker"),
    Published(
        "bottleneck_resnet",
        {"depths": [6, 16, 48, 3]},
        "ResNet-221: He et al., CVPR 2016, as in WeSpeaker; size by WeSpeaker",
        23.79,
    ),
    Published(
        "bottleneck_resnet",
        {"depths": [10, 20, 64, 3]},
        "ResNet-293: He et al., CVPR 2016, as in WeSpeaker; size by WeSpeaker",
        28.62,
    ),
    Published("simam_resnet", {}, "SimAM-ResNet-34: Qin et al., ICASSP 2022, as in WeSpeaker"),
    Published(
        "simam_resnet",
        {"depths": [6, 16, 24, 3]},
        "SimAM-ResNet-100: Qin et al., ICASSP 2022, as in WeSpeaker; size by WeSpeaker",
        50.2,
    ),
    Published("preact_resnet", {}, "ResNet of pre-activation blocks: He et al., ECCV 2016, as in SpeechBrain"),
    Published("eres2netv2", {}, "ERes2NetV2: Chen et al., Interspeech 2024; size by 3D-Speaker", 17.8),
    Published("redimnet", {"size": "b0"}, "ReDimNet-B0: Yakovlev et al., Interspeech 2024", 1.0, num_mels=60),
    Published("redimnet", {}, "ReDimNet-B2: Yakovlev et al., Interspeech 2024, as in WeSpeaker", num_mels=72),
    Published("redimnet", {"size": "b6"}, "ReDimNet-B6: Yakovlev et al., Interspeech 2024", 15.0, num_mels=72),
    Published("redimnet2", {"size": "b0"}, "ReDimNet2-B0: Yakovlev and Okhotnikov, arXiv 2603.11841", 1.1, num_mels=72),
    Published("redimnet2", {"size": "b1"}, "ReDimNet2-B1: Yakovlev and Okhotnikov, arXiv 2603.11841", 2.1, num_mels=72),
    Published("redimnet2", {}, "ReDimNet2-B2: Yakovlev and Okhotnikov, arXiv 2603.11841", 3.6, num_mels=72),
    Published("redimnet2", {"size": "b3"}, "ReDimNet2-B3: Yakovlev and Okhotnikov, arXiv 2603.11841", 4.1, num_mels=72),
    Published("redimnet2", {"size": "b4"}, "ReDimNet2-B4: Yakovlev and Okhotnikov, arXiv 2603.11841", 6.6, num_mels=72),
    Published("redimnet2", {"size": "b5"}, "ReDimNet2-B5: Yakovlev and Okhotnikov, arXiv 2603.11841", 8.9, num_mels=72),
    Published(
        "redimnet2", {"size": "b6"}, "ReDimNet2-B6: Yakovlev and Okhotnikov, arXiv 2603.11841", 12.3, num_mels=72
    ),
    Published("lstm", {}, "LSTM of GE2E: Wan et al., ICASSP 2018, in the size of Resemblyzer", num_mels=40),
)
"""At least one row for each network, in the order of `MODELS`."""

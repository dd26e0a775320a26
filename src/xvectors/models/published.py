"""The networks with the settings and sizes of their papers.

Sizes count the parameters up to the embedding, as `count_parameters` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Published(NamedTuple):
    """A network of `MODELS` with the settings of its paper, and the size published for it."""

    model: str
    settings: Mapping[str, bool | int | Sequence[int]]
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
    Published("eres2netv2", {}, "ERes2NetV2: Chen et al., Interspeech 2024; size by 3D-Speaker", 17.8),
)
"""At least one row for each network, in the order of `MODELS`."""

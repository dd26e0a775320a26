"""The kinds of models that can be imported."""

from __future__ import annotations

from xvectors.system.importers import exercise, onnx, resemblyzer
from xvectors.system.importers.family import Family
from xvectors.system.importers.kaldi import network as kaldi
from xvectors.system.importers.redimnet import network as redimnet
from xvectors.system.importers.speechbrain import resnet as speechbrain_resnet
from xvectors.system.importers.speechbrain import tdnn as speechbrain_tdnn
from xvectors.system.importers.threedspeaker import campplus, eres2net
from xvectors.system.importers.wespeaker import resnet as wespeaker_resnet
from xvectors.system.importers.wespeaker import tdnn as wespeaker_tdnn

FAMILIES: tuple[Family, ...] = (
    *campplus.FAMILIES,
    *eres2net.FAMILIES,
    *wespeaker_resnet.FAMILIES,
    *wespeaker_tdnn.FAMILIES,
    *speechbrain_tdnn.FAMILIES,
    *speechbrain_resnet.FAMILIES,
    *redimnet.FAMILIES,
    *resemblyzer.FAMILIES,
    *exercise.FAMILIES,
    kaldi.FAMILY,
    onnx.FAMILY,
)
"""In the order in which they are tried."""

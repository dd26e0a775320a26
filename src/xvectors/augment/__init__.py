"""Augmentation. In: training chunks and seeds. Out: the same speech in other rooms, noises, microphones and lines.

Waveforms are numpy arrays, and importing this needs no torch; masks over features are in `augment.specaugment`.
"""

from xvectors.augment.augmenter import Augmenter, BabbleSource, speed
from xvectors.augment.own import register_augmentation

__all__ = ["Augmenter", "BabbleSource", "register_augmentation", "speed"]

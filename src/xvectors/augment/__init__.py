"""Data augmentation of training chunks: rooms, noise, microphones, telephone lines and codecs.

Waveforms are numpy arrays, without torch; masks over features are in `augment.specaugment`.
"""

from xvectors.augment.augmenter import Augmenter, BabbleSource, speed
from xvectors.augment.own import register_augmentation

__all__ = ["Augmenter", "BabbleSource", "register_augmentation", "speed"]

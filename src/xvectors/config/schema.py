"""The settings of a recipe as frozen dataclasses, one per table, with the explanations `xvectors recipes` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from xvectors.config.augmentation import AugmentConfig
from xvectors.config.tables import setting

Scalar = bool | int | float | str
Value = Scalar | list[int] | list[str]

_MARGIN = ("margin", "large_margin", "scale", "margin_start", "margin_end")
_MARGIN_SOFTMAX = (*_MARGIN, "label_smoothing", "sub_centers", "inter_top_k", "inter_top_k_margin")
SETTINGS_OF_LOSSES = {
    "softmax": ("label_smoothing",),
    "am_softmax": _MARGIN_SOFTMAX,
    "aam_softmax": _MARGIN_SOFTMAX,
    "sphereface2": (*_MARGIN, "positive_weight", "similarity_power", "margin_type"),
}
"""The built-in losses, and the keys of `loss` that each uses besides its name."""
BUILTIN_LOSSES = tuple(SETTINGS_OF_LOSSES)

MAX_HZ = 1_000_000
MAX_MELS = 1024
"""Far more than features of speech need; a larger value is a mistake, or an attempt to fill the memory."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Log-mel filterbanks or cepstra; the fields are the arguments of `xvectors.features.Fbank`."""

    sample_rate_hz: int = setting(
        16_000, "Sample rate in Hz; recordings of other rates are resampled to it.", f"[1, {MAX_HZ}]"
    )
    num_mels: int = setting(24, "Number of mel filterbanks.", f"[1, {MAX_MELS}]")
    frame_length_ms: float = setting(25.0, "Length of a frame in milliseconds.")
    frame_shift_ms: float = setting(10.0, "Time from one frame to the next in milliseconds.")
    preemphasis: float = setting(0.97, "Pre-emphasis coefficient; 0 for none.")
    remove_dc: bool = setting(True, "Subtract the mean of each frame's samples.")
    window: Literal["povey", "hamming", "hanning", "rectangular"] = setting(
        "povey", "Window function; povey is Kaldi's, a Hann window to the power 0.85."
    )
    snip_edges: bool = setting(
        True, "Use only frames that lie within the recording; false reflects the recording at both ends."
    )
    low_frequency_hz: float = setting(20.0, "Lower edge of the first filter in Hz.")
    high_frequency_hz: float = setting(
        0.0, "Upper edge of the last filter in Hz; 0 or less is relative to the Nyquist frequency."
    )
    use_power: bool = setting(True, "Filter the power spectrum; false filters the magnitude spectrum.")
    mean_normalization: bool = setting(False, "Subtract each filterbank's mean over the recording (CMN).")
    normalize_level: bool = setting(
        True, "Scale every recording to the same level first; false leaves the level as it is, as Kaldi does."
    )
    sample_scale: float = setting(
        1.0,
        "Factor on the samples, which lie in [-1, 1]; 32768 gives the 16-bit range of Kaldi and WeSpeaker.",
        "(0, inf)",
    )
    level_increase_only: bool = setting(
        False, "With normalize_level: raise the level of quiet recordings, and leave loud ones as they are."
    )
    preemphasis_over: Literal["frame", "recording"] = setting(
        "frame", "Apply pre-emphasis within each frame, as Kaldi does, or over the recording."
    )
    center_padding: Literal["none", "zeros", "reflect"] = setting(
        "none",
        "Center frames on the multiples of the shift, with zeros or the mirrored recording beyond its ends, as librosa "
        "does; none places them as snip_edges says.",
    )
    extra_frames: int = setting(
        0, "With center_padding zeros: number of frames after the last that is centered in the recording.", "[0, 1000]"
    )
    periodic_window: bool = setting(False, "Use a periodic window, as librosa does; false uses a symmetric one.")
    fft_length: int = setting(
        0, "Points of the Fourier transform; 0 takes the next power of two of the frame length.", "[0, 65536]"
    )
    mel_scale: Literal["htk", "slaney"] = setting(
        "htk", "Mel scale: logarithmic (htk, which is also Kaldi's), or linear below 1000 Hz (slaney)."
    )
    triangles: Literal["mel", "hz", "symmetric"] = setting(
        "mel",
        "Filters are triangles over mel (Kaldi), over frequency (hz: librosa, torchaudio), or over frequency with "
        "equal halves (symmetric: SpeechBrain).",
    )
    equal_area: bool = setting(False, "Scale the filters to equal area instead of equal peaks.")
    log: Literal["natural", "decibel", "none"] = setting("natural", "Logarithm of the filters' energies.")
    energy_floor: float = setting(2.0**-23, "Lower bound of the energies before the logarithm.", "(0, inf)")
    energy_offset: float = setting(0.0, "Number added to the energies before the logarithm.", "[0, inf)")
    top_db: float = setting(
        0.0, "With log decibel: largest distance below the recording's highest value; 0 sets no bound.", "[0, inf)"
    )
    num_ceps: int = setting(
        0, "Number of cepstral coefficients (MFCC); 0 keeps the log filterbanks.", f"[0, {MAX_MELS}]"
    )
    cepstral_lifter: float = setting(22.0, "Liftering of the cepstral coefficients; 0 for none.", "[0, inf)")
    energy_as_c0: bool = setting(True, "Replace the first cepstral coefficient by the frame's log energy.")
    mean_window_frames: int = setting(
        0,
        "With mean_normalization: number of frames around each frame for its mean; 0 takes the recording.",
        "[0, 100000]",
    )
    remove_dc_over: Literal["frame", "recording"] = setting(
        "frame", "With remove_dc: subtract the mean of each frame, or that of the recording before anything else."
    )
    edge_zeros_ms: float = setting(
        0.0, "Length of the zeros before and after the recording in milliseconds; frames may lie in them.", "[0, inf)"
    )
    power_floor: float = setting(0.0, "Lower bound of the spectrum's values, before the filters.", "[0, inf)")
    stretched_bins: bool = setting(
        False, "Leave out the bin at the Nyquist frequency, and take the others as evenly spaced up to it."
    )

    @property
    def dimension(self) -> int:
        """Number of features of a frame."""
        return self.num_ceps or self.num_mels


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A backbone, by its name in `xvectors.models.MODELS`, and the arguments of its class."""

    name: str = setting(
        "xvector",
        "Backbone: a name that `xvectors models` lists, or one of your own (docs/how-to/extend.md). The other keys of "
        "this table are its settings.",
    )
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a corpus is split and cut into chunks."""

    train_test_prop: float = setting(
        -1.0,
        "Share of the speakers for training and validation; the others are kept for testing. -1 takes 0.95, or less "
        "(down to 0.8) if that leaves fewer than 10 for testing.",
        "(0, 1]",
        also=-1,
    )
    train_val_prop: float = setting(
        0.9, "Share of those speakers' recordings for training; the others are for validation.", "(0, 1]"
    )
    held_out_prop: float = setting(
        -1.0,
        "Share of the training speakers in the held-out set, which measures the EER after every epoch and is the "
        "calibration set. -1 takes 0.1, or more (up to 0.2) if that is fewer than 10 speakers.",
        "[0, 1)",
        also=-1,
    )
    keep_sessions: bool = setting(False, "Keep all recordings of a session together, in training or in validation.")
    chunk_min_s: float = setting(
        2.0, "Shortest training chunk in seconds; all chunks of a batch have the same length.", "(0, inf)"
    )
    chunk_max_s: float = setting(4.0, "Longest training chunk in seconds.", "(0, inf)")
    large_margin_chunk_s: float = setting(4.0, "Length of the chunks of the large-margin stage in seconds.", "(0, inf)")
    validation_chunk_s: float = setting(
        5.0, "Length of validation chunks in seconds; they are cut from the middle of each recording.", "(0, inf)"
    )
    min_duration_s: float = setting(
        0.0,
        "Leave out recordings shorter than this many seconds; those shorter than the network's context always are.",
        "[0, inf)",
    )
    max_rejected: float = setting(0.5, "Largest share of unusable recordings; a run with more stops.", "[0, 1]")
    scan_contents: bool = setting(
        True, "Decode every recording before training, to find silence, NaN, clipping, truncation and duplicates."
    )
    sampler: Literal["shuffle", "gender_balanced", "speaker_balanced", "p_x_k"] = setting(
        "shuffle",
        "Recordings of an epoch: each once (shuffle), the same number of each gender (gender_balanced) or of each "
        "speaker (speaker_balanced), or batches of P speakers with K recordings each (p_x_k).",
    )
    utterances_per_speaker: int = setting(
        2, "K of the sampler p_x_k; P is the batch size over K. All K are played at the same speed.", "[2, inf)"
    )
    channel: int = setting(-1, "Channel of multichannel recordings, from 0; -1 mixes all channels.", "[-1, inf)")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss over the training speakers; `SETTINGS_OF_LOSSES` says which settings a loss uses."""

    name: str = setting(
        "softmax",
        "Loss: softmax, over the network's own classifier; am_softmax or aam_softmax, with an additive margin "
        "on the cosine (CosFace) or the angle (ArcFace) of the embeddings; sphereface2, a binary classification for "
        "each speaker; or one of your own (docs/how-to/extend.md).",
    )
    label_smoothing: float = setting(
        0.0, "Share of the target's probability that is spread evenly over all speakers.", "[0, 1)"
    )
    margin: float = setting(0.2, "Margin: radians with aam_softmax and margin_type angle, else a cosine.")
    large_margin: float = setting(0.4, "Margin of the large-margin stage.")
    scale: float = setting(30.0, "Factor on the cosines before the softmax.", "(0, inf)")
    margin_start: float = setting(0.1, "Share of the run after which the margin begins to grow from 0.", "[0, 1]")
    margin_end: float = setting(0.5, "Share of the run after which the margin has its full value.", "[0, 1]")
    sub_centers: int = setting(
        1, "Number of weight vectors per speaker; the one nearest to the embedding counts.", "[1, inf)"
    )
    inter_top_k: int = setting(0, "Number of nearest wrong speakers that get a margin too; 0 for none.")
    inter_top_k_margin: float = setting(0.06, "Margin for the nearest wrong speakers in radians.")
    positive_weight: float = setting(
        0.7, "With sphereface2: weight of the speaker's own classification; the others have the rest.", "(0, 1)"
    )
    similarity_power: int = setting(
        3, "With sphereface2: exponent of the similarities, which spreads those of unlike recordings.", "[1, inf)"
    )
    margin_type: Literal["cosine", "angle"] = setting(
        "cosine", "With sphereface2: whether the margin is on the similarity (type C) or on the angle (type A)."
    )
    settings: Mapping[str, Value] = field(default_factory=dict)
    """Arguments of a loss from outside xvectors."""


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """How a network learns the embeddings of a trained one, its teacher."""

    teacher: str = setting(
        "",
        "System whose embeddings the network learns: a system directory, starter, or the file of a published model; "
        "empty for none.",
    )
    cosine_weight: float = setting(
        1.0, "Weight of 1 minus the cosine between each embedding and the teacher's.", "[0, inf)"
    )
    relational_weight: float = setting(
        1.0, "Weight of the relative squared error of the cosines between the recordings of a batch.", "[0, inf)"
    )
    label_weight: float = setting(0.0, "Weight of the loss over the training speakers.", "[0, inf)")
    voices: int = setting(
        8,
        "Number of other voices made from each speaker by pitch, formants and tempo; each is another speaker, with the "
        "teacher's embeddings of its recordings.",
        "[0, 100]",
    )
    moods: int = setting(
        1,
        "Number of raised, low or lively copies of a speaker's recordings, which keep the embedding of the original.",
        "[0, 100]",
    )
    recordings_per_copy: int = setting(
        6, "Largest number of a speaker's recordings that each voice and mood is made of.", "[1, inf)"
    )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The optimizer, its schedule and the length of a run."""

    epochs: int = setting(10, "Number of epochs.", "[1, inf)")
    minutes: float = setting(
        0.0,
        "Length of the run in minutes, with validation and saving, instead of a number of epochs; 0 counts epochs.",
        "[0, inf)",
    )
    batch_size: int = setting(128, "Number of chunks in a batch.", "[2, inf)")
    accumulate: int = setting(
        1,
        "Number of parts of a batch that are computed one after another, with one optimizer step for all, which takes "
        "less memory. BatchNorm takes its statistics from each part.",
        "[1, inf)",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = setting(
        "adam", "Adam with weight decay in the gradient, AdamW with decoupled decay, or SGD with Nesterov momentum."
    )
    head_only_share: float = setting(
        0.0, "Share of the run, at its start, that trains only the class layer; for fine-tuning.", "[0, 1)"
    )
    backbone_rate: float = setting(1.0, "Factor on the learning rate of everything but the class layer.", "[0, inf)")
    average_width: float = setting(
        0.0,
        "Keep an average of the weights over about the latest share of the run of this size; 0 keeps none.",
        "[0, 0.28]",
    )
    large_margin_share: float = setting(
        0.0,
        "Share of the run, at its end, that trains with loss.large_margin on chunks of data.large_margin_chunk_s.",
        "[0, 1)",
    )
    momentum: float = setting(0.9, "Momentum of sgd.", "[0, 1)")
    learning_rate: float = setting(1e-3, "Highest learning rate.", "(0, inf)")
    weight_decay: float = setting(0.0, "Weight decay.", "[0, inf)")
    schedule: Literal["constant", "one_cycle", "exponential"] = setting(
        "constant",
        "Learning rate over the run: constant, or after a warm-up falling to 0 along a half cosine (one_cycle) or by a "
        "constant factor per step (exponential).",
    )
    warm_up: float = setting(0.1, "Share of the run over which the learning rate rises to its highest value.", "[0, 1)")
    final_share: float = setting(
        1e-3, "Last learning rate of the schedule exponential, as a share of the highest.", "(0, 1]"
    )
    max_gradient_norm: float = setting(
        0.0, "Largest norm of the gradient; longer gradients are clipped to it, and 0 does not clip.", "[0, inf)"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Precision of the network's matrix products; auto takes bfloat16 or float16 if the device has units for "
        "it, else float32. bfloat16 is an error on a device that has no units for it.",
    )
    embedding_map: bool = setting(
        False,
        "Learn an affine map of the embeddings at the end, which centers them and whitens the variation within "
        "speakers; it improves cosine scoring.",
    )
    best: Literal["val_accuracy", "val_loss", "val_eer", "last"] = setting(
        "val_accuracy", "Criterion for the epoch whose weights are kept; val_eer is the EER of the held-out set."
    )
    workers: int = setting(
        -1, "Number of loader processes; -1 chooses by device and cores, 0 loads in the training process.", "[-1, inf)"
    )
    decoded_mb: int = setting(
        1024,
        "Size in MiB of the cache of decoded recordings, which all loader processes share. It holds 16-bit FLAC at the "
        "features' sample rate, and is off for a corpus that does not fit.",
        "[0, inf)",
    )
    checkpoint_interval_s: float = setting(60.0, "Longest time between two checkpoints in seconds.", "[0, inf)")
    seed: int = setting(0, "Random seed; the same seed gives the same weights.", "[0, inf)")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of training, from features to optimizer."""

    name: str
    description: str = setting("", "What the recipe is for.")
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

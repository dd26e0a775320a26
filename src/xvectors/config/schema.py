"""The settings of a recipe as frozen dataclasses, one a table. In: values. Out: a Recipe.

Each setting carries its explanation, which `xvectors recipes NAME` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from xvectors.config.augmentation import AugmentConfig
from xvectors.config.tables import setting

Scalar = bool | int | float | str

BUILTIN_LOSSES = ("softmax", "am_softmax", "aam_softmax")


MOST_HZ = 1_000_000
MOST_MELS = 1024
"""Far more than features of speech have: what goes beyond is a mistake, or made to fill the memory."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Log-mel filterbanks; the fields are the arguments of `xvectors.features.Fbank`."""

    sample_rate_hz: int = setting(16_000, "Sample rate in Hz; recordings of other rates are resampled to it.")
    num_mels: int = setting(24, "Number of mel filterbanks.")
    frame_length_ms: float = setting(25.0, "Length of a frame in milliseconds.")
    frame_shift_ms: float = setting(10.0, "Time from one frame to the next in milliseconds.")
    preemphasis: float = setting(0.97, "Pre-emphasis coefficient; 0 for none.")
    remove_dc: bool = setting(True, "Subtract the mean of each frame's samples.")
    window: Literal["povey", "hamming", "hanning", "rectangular"] = setting(
        "povey", "Window function; povey is Kaldi's, a Hann window to the power 0.85."
    )
    snip_edges: bool = setting(
        True, "Only frames that lie inside the recording; false reflects the recording at both ends."
    )
    low_frequency_hz: float = setting(20.0, "Lower edge of the first filter in Hz.")
    high_frequency_hz: float = setting(
        0.0, "Upper edge of the last filter in Hz; 0 or less counts from the Nyquist frequency."
    )
    use_power: bool = setting(True, "Filter the power spectrum; false filters the magnitude spectrum.")
    mean_normalization: bool = setting(False, "Subtract each filterbank's mean over the recording (CMN).")
    normalize_level: bool = setting(
        True, "Bring every recording to one level first, so that its level does not matter; false is Kaldi's way."
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A backbone by its name in `xvectors.models.MODELS`, and that class's own arguments."""

    name: str = setting(
        "xvector",
        "Backbone: a name that `xvectors models` lists, or one of your own (docs/how-to/extend.md). The other keys of "
        "this table are the backbone's own settings.",
    )
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a corpus is divided and cut into chunks."""

    train_test_prop: float = setting(
        -1.0,
        "Share of the speakers that train and validate; the others are kept for testing. -1: 0.95, or less, down to "
        "0.8, where that keeps fewer than 10 for testing.",
    )
    train_val_prop: float = setting(0.9, "Share of those speakers' recordings that train; the others validate.")
    held_out_prop: float = setting(
        -1.0,
        "Share of the training speakers that are held out: their EER is measured after every epoch, and the "
        "calibration is learned from them. -1: 0.1, or more where that is fewer than 10, up to a fifth of all.",
    )
    keep_sessions: bool = setting(False, "Keep all recordings of a session on one side of training and validation.")
    chunk_min_s: float = setting(2.0, "Shortest training chunk in seconds; all chunks of a batch have one length.")
    chunk_max_s: float = setting(4.0, "Longest training chunk in seconds.")
    large_margin_chunk_s: float = setting(4.0, "Length of the chunks of the large-margin stage in seconds.")
    validation_chunk_s: float = setting(
        5.0, "Length of validation chunks in seconds, cut from the middle of each recording."
    )
    min_duration_s: float = setting(
        0.0,
        "Leave out recordings shorter than this many seconds; those shorter than the network's context always are.",
    )
    max_rejected: float = setting(0.5, "Largest share of unusable recordings with which a run starts and goes on.")
    scan_contents: bool = setting(
        True, "Decode every recording before training, to find silence, NaN, clipping, truncation and duplicates."
    )
    sampler: Literal["shuffle", "gender_balanced", "speaker_balanced", "p_x_k"] = setting(
        "shuffle",
        "Which recordings an epoch draws: each once, equally many of both genders, equally many of every speaker, or "
        "batches of P speakers with K recordings each.",
    )
    utterances_per_speaker: int = setting(
        2, "K of the sampler p_x_k; P is the batch size over K. All K are played at one speed."
    )
    channel: int = setting(-1, "Channel of recordings with several, from 0; -1 mixes them.")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss over training speakers; the margin losses of `xvectors.losses` act on the embeddings themselves.

    All but `label_smoothing` is theirs alone.
    """

    name: str = setting(
        "softmax",
        "Loss: softmax, over the network's own classifier; am_softmax or aam_softmax, with an additive margin on the "
        "embeddings' cosine (CosFace) or angle (ArcFace); or one of your own (docs/how-to/extend.md).",
    )
    label_smoothing: float = setting(0.0, "Share of the target's probability spread evenly over all speakers.")
    margin: float = setting(0.2, "Margin: a cosine with am_softmax, radians with aam_softmax.")
    large_margin: float = setting(0.4, "Margin of the large-margin stage.")
    scale: float = setting(30.0, "Factor on the cosines before the softmax.")
    margin_start: float = setting(0.1, "Share of the run after which the margin begins to grow from 0.")
    margin_end: float = setting(0.5, "Share of the run after which the margin has its full value.")
    sub_centers: int = setting(1, "Number of class weights for each speaker; the nearest to the embedding counts.")
    inter_top_k: int = setting(0, "Number of nearest wrong speakers that are made harder too; 0 for none.")
    inter_top_k_margin: float = setting(0.06, "Margin for these wrong speakers in radians.")
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """Arguments of a loss of one's own."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The optimizer, its schedule and the length of a run."""

    epochs: int = setting(10, "Number of epochs.")
    minutes: float = setting(
        0.0,
        "Length of the run in minutes, validation and saving included, instead of epochs; the schedule ends with it. "
        "0 goes by epochs.",
    )
    batch_size: int = setting(128, "Number of chunks in a batch.")
    optimizer: Literal["adam", "adamw", "sgd"] = setting(
        "adam", "Adam with weight decay in the gradient, AdamW with decoupled decay, or SGD with Nesterov momentum."
    )
    head_only_share: float = setting(
        0.0, "First share of the run that trains the class layer alone; for networks that are fine-tuned."
    )
    backbone_rate: float = setting(1.0, "Factor on the learning rate of everything but the class layer.")
    average_width: float = setting(
        0.0, "Keep an average of the weights over about this share of the run, the newest part; 0 keeps none."
    )
    large_margin_share: float = setting(
        0.0, "Last share of the run that trains with loss.large_margin on chunks of data.large_margin_chunk_s."
    )
    momentum: float = setting(0.9, "Momentum of sgd.")
    learning_rate: float = setting(1e-3, "Highest learning rate.")
    weight_decay: float = setting(0.0, "Weight decay.")
    schedule: Literal["constant", "one_cycle", "exponential"] = setting(
        "constant",
        "Learning rate over the run: constant; or after a warm-up falling to 0 along a half cosine (one_cycle) or by a "
        "constant factor a step (exponential).",
    )
    warm_up: float = setting(0.1, "Share of the run over which the learning rate climbs to its highest value.")
    final_share: float = setting(1e-3, "Share of the learning rate that the schedule exponential ends with.")
    max_gradient_norm: float = setting(0.0, "Largest norm of the gradient, which is clipped to it; 0 does not clip.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Arithmetic of the network's matrix products; auto takes bfloat16 or float16 where the device computes it "
        "natively, else float32. A device without units for bfloat16 refuses it.",
    )
    embedding_map: bool = setting(
        False,
        "End with an affine map of the embeddings, learned from training recordings, that centers them and evens out "
        "how one speaker's vary; it makes cosines better.",
    )
    best: Literal["val_accuracy", "val_loss", "val_eer", "last"] = setting(
        "val_accuracy", "Which epoch's weights are kept; val_eer is the EER of the held-out speakers."
    )
    workers: int = setting(
        -1, "Number of processes that read recordings; -1 chooses by device and cores, 0 reads in the training process."
    )
    decoded_mb: int = setting(
        1024,
        "Memory in MiB, of all reading processes together, in which 16-bit FLAC of the features' rate is kept decoded; "
        "nothing is kept of a corpus that does not fit.",
    )
    checkpoint_interval_s: float = setting(60.0, "Longest time between two checkpoints in seconds.")
    seed: int = setting(0, "Random seed; the same seed gives the same weights.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides how a system comes out of a corpus."""

    name: str
    description: str = setting("", "What the recipe is for.")
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

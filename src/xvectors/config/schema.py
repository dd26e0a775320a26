"""The settings of a recipe as frozen dataclasses, one a table. In: values. Out: a Recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from xvectors.config.augmentation import AugmentConfig

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Log-mel filterbanks; the fields are the arguments of `xvectors.features.Fbank`."""

    sample_rate_hz: int = 16_000
    num_mels: int = 24
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    preemphasis: float = 0.97
    remove_dc: bool = True
    window: Literal["povey", "hamming", "hanning", "rectangular"] = "povey"
    snip_edges: bool = True
    low_frequency_hz: float = 20.0
    high_frequency_hz: float = 0.0
    use_power: bool = True
    mean_normalisation: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A backbone by its name in `xvectors.models.MODELS`, and that class's own arguments."""

    name: str = "xvector"
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a corpus is divided and cut into chunks."""

    train_test_prop: float = 0.95
    """Share of the speakers that train and validate; the others are kept for testing."""
    train_val_prop: float = 0.9
    """Share of those speakers' utterances that train; the others validate."""
    held_out_prop: float = 0.0
    """Share of the training speakers that are never trained on, whose EER is measured after every epoch."""
    keep_sessions: bool = False
    """Keep all utterances of one session on one side of train/validation."""
    chunk_min_s: float = 2.0
    chunk_max_s: float = 4.0
    """Training chunks: one length a batch, drawn between these two, cut at random places."""
    large_margin_chunk_s: float = 4.0
    """Training chunks of the large-margin stage."""
    validation_chunk_s: float = 5.0
    """Validation chunks: from the middle of each utterance."""
    min_duration_s: float = 0.0
    """Recordings below this are left out; below the network's context they always are."""
    max_rejected: float = 0.5
    """Share of unusable recordings past which a run does not start or go on."""
    scan_contents: bool = True
    """Decode every recording before training, to find silence, NaN, clipping, truncation and duplicates."""
    sampler: Literal["shuffle", "gender_balanced", "speaker_balanced", "p_x_k"] = "shuffle"
    """How the recordings of an epoch are drawn: each once, or as many of both genders, or as many of every speaker, or
    in batches of P speakers x K recordings."""
    utterances_per_speaker: int = 2
    """K of `p_x_k`; P is the batch size over K. All K are played at one speed."""
    channel: int = -1
    """The channel of recordings with several; -1 mixes them down."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss over training speakers; the margin losses of `xvectors.losses` act on the embeddings themselves.

    All but `label_smoothing` is theirs alone.
    """

    name: Literal["softmax", "am_softmax", "aam_softmax"] = "softmax"
    label_smoothing: float = 0.0
    margin: float = 0.2
    large_margin: float = 0.4
    """The margin of the large-margin stage."""
    scale: float = 30.0
    margin_start: float = 0.1
    margin_end: float = 0.5
    """Shares of the run between which the margin grows from 0 to its value."""
    sub_centers: int = 1
    inter_top_k: int = 0
    inter_top_k_margin: float = 0.06


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The optimiser, its schedule and the length of a run."""

    epochs: int = 10
    minutes: float = 0.0
    """Length of the run by the clock, validation and saving included; the schedule ends when the time does. 0: by
    epochs."""
    batch_size: int = 128
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """Adam with the decay in the gradient, AdamW with it beside, or SGD with Nesterov's momentum."""
    head_only_share: float = 0.0
    """Share of the run, its first, that trains the class layer alone: for a network that has been trained before."""
    backbone_rate: float = 1.0
    """Factor on the learning rate of all but the class layer."""
    average_width: float = 0.0
    """Average the weights over about this share of the run, its newest part, and keep the average; 0 does not."""
    large_margin_share: float = 0.0
    """Share of the run, its last, that trains with `loss.large_margin` on chunks of `data.large_margin_chunk_s`."""
    momentum: float = 0.9
    """Of `sgd`."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle", "exponential"] = "constant"
    warm_up: float = 0.1
    """Share of the run over which the rate climbs to `learning_rate`; `one_cycle` then falls along a half cosine to 0,
    `exponential` by a constant factor a step to `final_share`."""
    final_share: float = 1e-3
    """What `exponential` leaves of the learning rate at the end."""
    max_gradient_norm: float = 0.0
    """Clip the gradient's norm to this; 0 does not clip."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the network's matrix products; `auto` is bfloat16 where the device multiplies it natively, float16
    on CUDA devices that have tensor cores for that alone, else float32."""
    embedding_map: bool = False
    """Whether the finished network is followed by an affine map of its embeddings, learnt from training recordings: it
    centres them and evens out how those of one speaker scatter. Cosines get better by it."""
    best: Literal["val_accuracy", "val_loss", "val_eer", "last"] = "val_accuracy"
    """What decides which epoch's weights are kept; `val_eer` is that of the held-out speakers."""
    workers: int = -1
    """Processes that read recordings; -1 chooses by device and cores, 0 reads in the training process."""
    decoded_mb: int = 1024
    """Memory that training recordings may be kept decoded in, all loader processes together, MiB; of a corpus that does
    not fit nothing is kept. Only 16-bit FLAC of the features' rate is, which saves decoding it in every epoch."""
    checkpoint_interval_s: float = 60.0
    """Most seconds of training between two saved states."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides how a system comes out of a corpus."""

    name: str
    description: str = ""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

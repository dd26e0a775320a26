"""One training step, from a batch of waveforms to the optimizer's update, and the measuring of batches in validation.

With the loss `softmax` the network's own segment layers and classifier are trained, as in the x-vector paper. Margin
losses act on the embeddings, through a head of class weights that only training needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xvectors.augment.specaugment import SpecAugment
from xvectors.config import Recipe
from xvectors.devices import choose_precision, survive_forks
from xvectors.losses import distillation_loss, make_head, softmax_loss
from xvectors.models import MODELS, Backbone
from xvectors.system.serialization import MAP_PREFIX, load_state, make_features, make_model, num_classes
from xvectors.training.averaging import WeightAverage
from xvectors.training.batch_statistics import SharedBatchStatistics
from xvectors.training.checkpoint import Checkpoint
from xvectors.training.data.dataset import Batch
from xvectors.training.distributed import ALONE, MIN_SHARE, Group
from xvectors.training.optimizer import in_head_only_stage, in_large_margin_stage, make_optimizer, margin_at, set_rates


class Learner:
    """The network, its features, its loss and its optimizer on one device, initialized from the recipe's seed.

    The processes of `group` take every step together: on their shares of a batch, they compute the gradients, the
    BatchNorm statistics and the masks that one process would compute on the whole batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        num_speakers: int,
        device: torch.device,
        group: Group = ALONE,
    ) -> None:
        survive_forks()
        group.check_batch_size(recipe.training.batch_size)
        self.recipe, self.num_speakers, self.device, self.group = recipe, num_speakers, device, group
        self.spec_augment = SpecAugment(recipe.augment) if recipe.augment.spec_augment_prob > 0 else None
        self.fbank = make_features(recipe).to(device)
        # layers draw their weights from the global generator, whose state is restored afterwards
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.training.seed)
            self.model = make_model(recipe, num_speakers)
            self.head = self._make_head()
        # a custom loss need not have a margin
        self._set_margin: Callable[[float], None] | None = getattr(self.head, "set_margin", None)
        self.dtype = choose_precision(recipe.training.precision, device)
        self.network = _Network(self.model, self.head, recipe, self.dtype).to(device)
        self._trained: nn.Module | None = None
        self.optimizer = make_optimizer(self.network, recipe.training)
        width = recipe.training.average_width
        self.average = WeightAverage(self.network, width) if width > 0 else None
        # small gradients underflow in float16; in other precisions the scaler does nothing
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    @property
    def learning_rate(self) -> float:
        """The backbone's learning rate in the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, batch: Batch, fraction: float, position: tuple[int, int]) -> tuple[float, int]:
        """Train on one batch; a loss that is not finite is returned before any weight has changed.

        Parameters
        ----------
        batch
            Waveforms and labels.
        fraction
            Share of the run that is done, in [0, 1]; learning rate, margin and stage follow from it.
        position
            Epoch and number of the batch in it, from which the masks over the features are drawn.

        Returns
        -------
        The mean loss of the batch in nats, and the number of chunks that were classified correctly; over the shares of
        all processes.
        """
        training, loss_settings = self.recipe.training, self.recipe.loss
        set_rates(self.optimizer, training, fraction)
        if self._set_margin is not None:
            margin = margin_at(fraction, loss_settings.margin_start, loss_settings.margin_end, loss_settings.margin)
            self._set_margin(loss_settings.large_margin if in_large_margin_stage(training, fraction) else margin)
        head_only = in_head_only_stage(training, fraction)
        self.network.train(not head_only)
        self.network.requires_grad_(not head_only)
        for parameter in self._class_layer().parameters():
            parameter.requires_grad_()
        if self._trained is None:
            self._trained = self.group.synchronized(self.network, self.device, some_unused=self._leaves_some_unused())
        self.optimizer.zero_grad(set_to_none=True)
        value, num_correct = self._gradients(self._trained, batch, position)
        if not math.isfinite(value):
            return value, 0
        if training.max_gradient_norm > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), training.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not head_only:
            self.model.after_step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return value, num_correct

    def _gradients(self, network: nn.Module, batch: Batch, position: tuple[int, int]) -> tuple[float, int]:
        """Compute the gradients of a batch, part by part; return its mean loss and its number of correct answers."""
        own, total, num_ranks = len(batch.rows), batch.total, self.group.num_ranks
        parts = parts_of(own, num_parts(self.recipe.training.accumulate, total, num_ranks))
        inputs = self._inputs(batch, self._generator(position)) if own else None
        measures = []
        for number, part in enumerate(parts, start=1):
            size = part.stop - part.start
            given = inputs.part(part) if inputs is not None and size else self._inputs(self._silence(batch))
            with self._exchanged(network, is_last=number == len(parts)):
                with self._shared_statistics(idle=not size):
                    loss, logits = self._forward(network, given)
                # gradients are averaged over the processes, whose shares may differ in size
                loss = loss * (size * num_ranks / total)
                torch.autograd.backward(self.scaler.scale(loss))
            correct = (logits.argmax(dim=1) == given.labels).sum()
            if size:
                measures.append(torch.stack((loss.detach() / num_ranks, correct.to(loss.dtype))))
        # one transfer for all, since each makes the GPU wait
        mean, num_correct = torch.stack(measures).sum(dim=0).tolist() if measures else (0.0, 0.0)
        mean, num_correct = self.group.sum(mean, num_correct)
        return mean, int(num_correct) if math.isfinite(num_correct) else 0

    @torch.no_grad()
    def measure(self, batch: Batch) -> tuple[float, int]:
        """Return a batch's mean cross-entropy over the speakers, without margin, and the number of correct answers."""
        given = self._inputs(batch)
        _, logits = self._forward(self._kept(), given)
        logits = logits[:, : self.num_speakers]
        return float(softmax_loss(logits, given.labels)), int((logits.argmax(dim=1) == given.labels).sum())

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """Return the embeddings of a batch, float32 [batch, embedding_dim] on the CPU."""
        network = self._kept()
        with network.autocast(self.device):
            return network.model.embed(self.fbank(batch.waveforms.to(self.device))).cpu()

    def kept_weights(self) -> dict[str, Tensor]:
        """Return the weights that a system uses: the averaged ones if the recipe averages."""
        return self._kept().model.state_dict()

    def start_from(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Take the backbone of a trained network of the same shape; the class layer stays newly initialized."""
        own = self.model.state_dict()
        classes = {key: value for key, value in own.items() if key.startswith("classifier.")}
        backbone = {key: value for key, value in weights.items() if not key.startswith(MAP_PREFIX)}
        load_state(self.model, backbone | classes, source)
        if self.average is not None:
            self.average.module.load_state_dict(self.network.state_dict())

    def _class_layer(self) -> nn.Module:
        return self.model.get_submodule("classifier") if self.head is None else self.head

    def _kept(self) -> _Network:
        """Return the network for validation: averaged if the recipe averages, in evaluation mode."""
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, _Network)
        network.eval()
        return network

    def _make_head(self) -> nn.Module | None:
        if self.recipe.loss.name == "softmax":
            return None
        return make_head(self.recipe.loss, self.model.embedding_dim, num_classes(self.recipe, self.num_speakers))

    def _generator(self, position: tuple[int, int]) -> torch.Generator:
        seeds = np.random.SeedSequence([self.recipe.training.seed, 0, *position])
        return torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))

    def _leaves_some_unused(self) -> bool:
        """Whether steps leave out parameters: a margin loss the network's class layer, a first stage the backbone."""
        known = self.recipe.model.name in MODELS
        return self.head is not None or self.recipe.training.head_only_share > 0 or not known

    def _shared_statistics(self, *, idle: bool) -> AbstractContextManager[object]:
        return nullcontext() if self.group.is_alone else SharedBatchStatistics(idle=idle)

    def _silence(self, batch: Batch) -> Batch:
        """Return what a process without chunks of a batch computes on, because the others wait for its part of every
        exchange. It counts nothing.
        """
        samples = round(self.recipe.data.chunk_max_s * self.recipe.features.sample_rate_hz)
        labels = torch.zeros(MIN_SHARE, dtype=torch.int64)
        targets = None if batch.targets is None else torch.ones(MIN_SHARE, self.model.embedding_dim)
        return Batch(torch.zeros(MIN_SHARE, samples), labels, labels, [], targets)

    def _exchanged(self, network: nn.Module, *, is_last: bool) -> AbstractContextManager[object]:
        """Within it, processes add up gradients; they exchange the sums after the last part of a batch."""
        if is_last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        without_exchange: Callable[[], AbstractContextManager[object]] = network.no_sync
        return without_exchange()

    def _forward(self, network: nn.Module, given: _Inputs) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits."""
        loss, logits = network(*given)
        return loss, logits

    def _inputs(self, batch: Batch, generator: torch.Generator | None = None) -> _Inputs:
        """Compute what the network is given; in training mode, `generator` draws the masks of SpecAugment."""
        waveforms = batch.waveforms.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        with torch.no_grad():
            features = self.fbank(waveforms)
            if self.spec_augment is not None and generator is not None and self.network.training:
                wanted = batch.total + (0 if self.group.is_alone else len(batch.failures))
                features = self.spec_augment(features, generator, part=self.group.share(wanted), of=wanted)
        targets = None if batch.targets is None else batch.targets.to(self.device, non_blocking=True)
        return _Inputs(features, labels, targets)

    def save_to(self, checkpoint: Checkpoint) -> None:
        """Put the state of network, head, optimizer, scaler and average into the checkpoint."""
        checkpoint.model = self.model.state_dict()
        checkpoint.head = {} if self.head is None else self.head.state_dict()
        checkpoint.optimizer = self.optimizer.state_dict()
        checkpoint.scaler = self.scaler.state_dict()
        if self.average is not None:
            checkpoint.average = self.average.module.state_dict()
            checkpoint.num_averaged = int(self.average.n_averaged)

    def load_from(self, checkpoint: Checkpoint, source: str) -> None:
        """Restore what `save_to` saved; `source` names the checkpoint in errors."""
        load_state(self.model, checkpoint.model, source)
        if self.head is not None:
            load_state(self.head, checkpoint.head, source)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if checkpoint.scaler:
            self.scaler.load_state_dict(checkpoint.scaler)
        if self.average is not None:
            load_state(self.average.module, checkpoint.average, source)
            self.average.n_averaged.fill_(checkpoint.num_averaged)


def num_parts(accumulate: int, total: int, num_ranks: int) -> int:
    """Return into how many parts a batch of `total` chunks is divided: fewer where a share would be below two."""
    return max(1, min(accumulate, total // (MIN_SHARE * num_ranks)))


def parts_of(size: int, number: int) -> list[slice]:
    """Divide `size` chunks in their order into parts that differ by at most one."""
    return [slice(size * i // number, size * (i + 1) // number) for i in range(number)]


class _Inputs(NamedTuple):
    """What the network is given of a batch."""

    features: Tensor
    labels: Tensor
    targets: Tensor | None

    def part(self, rows: slice) -> _Inputs:
        return _Inputs(self.features[rows], self.labels[rows], None if self.targets is None else self.targets[rows])


class _Network(nn.Module):
    """All trained parameters: the network and, with a margin loss, its head of class weights."""

    def __init__(self, model: Backbone, head: nn.Module | None, recipe: Recipe, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.head, self._recipe, self._dtype = model, head, recipe, dtype

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32)

    def forward(self, features: Tensor, labels: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its logits."""
        with self.autocast(features.device):
            output = self.model(features, return_embedding=self.head is not None)
        if self.head is None:
            logits = output.float()
            return softmax_loss(logits, labels, self._recipe.loss.label_smoothing), logits
        loss, logits = self.head(output, labels)
        if targets is not None:
            settings = self._recipe.distillation
            loss = settings.label_weight * loss + distillation_loss(output, targets, settings)
        return loss, logits

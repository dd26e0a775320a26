"""One step of learning. In: a batch of waveforms and the run's progress. Out: its loss, and the network a step better.

With the loss `softmax` the network's own segment layers and classifier decide, as in the x-vector paper; the margin
losses act on the embeddings themselves, through a head of class weights that only training needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.augment.specaugment import SpecAugment
from xvectors.config import Recipe
from xvectors.dataset import Batch
from xvectors.devices import multiplies_bfloat16
from xvectors.losses import ClassificationHead, MarginSoftmax, build_loss, margin_at
from xvectors.models import Backbone
from xvectors.system import MAP_PREFIX, load_state, make_features, make_model, num_classes
from xvectors.training.averaging import WeightAverage
from xvectors.training.checkpoint import Checkpoint
from xvectors.training.optimise import in_head_only_stage, in_large_margin_stage, make_optimiser, set_rates


class Learner:
    """The network, its features, its loss and its optimiser on one device, freshly initialised."""

    def __init__(self, recipe: Recipe, num_speakers: int, device: torch.device) -> None:
        self.recipe, self.num_speakers, self.device = recipe, num_speakers, device
        self.spec_augment = SpecAugment(recipe.augment) if recipe.augment.spec_augment_prob > 0 else None
        self.fbank = make_features(recipe).to(device)
        self.model = make_model(recipe, num_speakers).to(device)
        self.head: ClassificationHead | None = None
        if recipe.loss.name != "softmax":
            settings = asdict(recipe.loss)
            for key in ("name", "margin_start", "margin_end", "large_margin"):
                del settings[key]
            classes = num_classes(recipe, num_speakers)
            self.head = build_loss(recipe.loss.name, self.model.embedding_dim, classes, **settings).to(device)
        self.network = _Network(self.model, self.head)
        self.optimiser = make_optimiser(self.network, recipe.training)
        width = recipe.training.average_width
        self.average = WeightAverage(self.network, width) if width > 0 else None
        precision = recipe.training.precision
        self.bfloat16 = precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device))

    def step(self, batch: Batch, progress: float) -> tuple[float, int]:
        """Learn from `batch` at `progress` in [0, 1] of the run; returns its mean loss and how many were right.

        A loss that is not finite is returned before anything has been changed.
        """
        training, loss_settings = self.recipe.training, self.recipe.loss
        set_rates(self.optimiser, training, progress)
        if isinstance(self.head, MarginSoftmax):
            margin = margin_at(progress, loss_settings.margin_start, loss_settings.margin_end, loss_settings.margin)
            self.head.set_margin(loss_settings.large_margin if in_large_margin_stage(training, progress) else margin)
        head_only = in_head_only_stage(training, progress)
        self.network.train(not head_only)
        self.network.requires_grad_(not head_only)
        for parameter in self._class_layer().parameters():
            parameter.requires_grad_()
        loss, logits, labels = self._forward(self.model, self.head, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value, 0
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if training.max_gradient_norm > 0:
            nn.utils.clip_grad_norm_(self.network.parameters(), training.max_gradient_norm)
        self.optimiser.step()
        if not head_only:
            self.model.after_step()
        if self.average is not None:
            self.average.update(self.network)
        return value, int((logits.argmax(dim=1) == labels).sum())

    @torch.no_grad()
    def measure(self, batch: Batch) -> tuple[float, int]:
        """The mean cross-entropy of `batch` among the speakers, without any margin, and how many were right."""
        model, head = self._kept()
        _, logits, labels = self._forward(model, head, batch)
        logits = logits[:, : self.num_speakers]
        return float(functional.cross_entropy(logits, labels)), int((logits.argmax(dim=1) == labels).sum())

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """The embeddings of `batch`, float32 [batch, embedding_dim] on the CPU."""
        model, _ = self._kept()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            embeddings: Tensor = model(self.fbank(batch.waveforms.to(self.device)), return_embedding=True)
        return embeddings.float().cpu()

    def kept_weights(self) -> dict[str, Tensor]:
        """The network's weights as a system uses them: the average, where one is kept."""
        return self._kept()[0].state_dict()

    def start_from(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Take the backbone of a trained network of the same shape; the class layer stays freshly initialised."""
        own = self.model.state_dict()
        classes = {key: value for key, value in own.items() if key.startswith("classifier.")}
        backbone = {key: value for key, value in weights.items() if not key.startswith(MAP_PREFIX)}
        load_state(self.model, backbone | classes, source)
        if self.average is not None:
            self.average.module.load_state_dict(self.network.state_dict())

    def _class_layer(self) -> nn.Module:
        return self.model.get_submodule("classifier") if self.head is None else self.head

    def _kept(self) -> tuple[Backbone, ClassificationHead | None]:
        """Network and head as validation sees them, not training."""
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, _Network)
        network.eval()
        return network.model, network.head

    def _forward(self, model: Backbone, head: ClassificationHead | None, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        waveforms = batch.waveforms.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        with torch.no_grad():
            features = self.fbank(waveforms)
            if self.spec_augment is not None and model.training:
                features = self.spec_augment(features, torch.default_generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = model(features, return_embedding=head is not None)
        if head is not None:
            loss, logits = head(output, labels)
            return loss, logits, labels
        logits = output.float()
        smoothing = self.recipe.loss.label_smoothing
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing), logits, labels

    def save_to(self, checkpoint: Checkpoint) -> None:
        checkpoint.model = self.model.state_dict()
        checkpoint.head = {} if self.head is None else self.head.state_dict()
        checkpoint.optimiser = self.optimiser.state_dict()
        checkpoint.random_state = torch.get_rng_state()
        if self.average is not None:
            checkpoint.average, checkpoint.num_averaged = self.average.module.state_dict(), self.average.num_steps

    def load_from(self, checkpoint: Checkpoint, source: str) -> None:
        load_state(self.model, checkpoint.model, source)
        if self.head is not None:
            load_state(self.head, checkpoint.head, source)
        self.optimiser.load_state_dict(checkpoint.optimiser)
        if self.average is not None:
            load_state(self.average.module, checkpoint.average, source)
            self.average.num_steps = checkpoint.num_averaged


class _Network(nn.Module):
    """All that is trained: the network and, with a margin loss, its head of class weights."""

    def __init__(self, model: Backbone, head: ClassificationHead | None) -> None:
        super().__init__()
        self.model, self.head = model, head

"""One step of learning. In: a batch of waveforms and the run's progress. Out: its loss, and the network a step better.

With the loss `softmax` the network's own segment layers and classifier decide, as in the x-vector paper; the margin
losses act on the embeddings themselves, through a head of class weights that only training needs.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.augment.specaugment import SpecAugment
from xvectors.config import Recipe
from xvectors.dataset import Batch
from xvectors.devices import multiplies_bfloat16
from xvectors.losses import ClassificationHead, MarginSoftmax, build_loss, margin_at
from xvectors.system import load_state, make_features, make_model, num_classes
from xvectors.training.checkpoint import Checkpoint
from xvectors.training.optimise import learning_rate, make_optimiser


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
            for key in ("name", "margin_start", "margin_end"):
                del settings[key]
            classes = num_classes(recipe, num_speakers)
            self.head = build_loss(recipe.loss.name, self.model.embedding_dim, classes, **settings).to(device)
        self.optimiser = make_optimiser(self._parameters(), recipe.training)
        precision = recipe.training.precision
        self.bfloat16 = precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device))

    def _parameters(self) -> list[nn.Parameter]:
        head = [] if self.head is None else self.head.parameters()
        return list(chain(self.model.parameters(), head))

    def step(self, batch: Batch, progress: float) -> tuple[float, int]:
        """Learn from `batch` at `progress` in [0, 1] of the run; returns its mean loss and how many were right.

        A loss that is not finite is returned before anything has been changed.
        """
        training = self.recipe.training
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(training, progress)
        if isinstance(self.head, MarginSoftmax):
            loss_settings = self.recipe.loss
            margin = margin_at(progress, loss_settings.margin_start, loss_settings.margin_end, loss_settings.margin)
            self.head.set_margin(margin)
        self.model.train()
        loss, logits, labels = self._forward(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value, 0
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if training.max_gradient_norm > 0:
            nn.utils.clip_grad_norm_(self._parameters(), training.max_gradient_norm)
        self.optimiser.step()
        self.model.after_step()
        return value, int((logits.argmax(dim=1) == labels).sum())

    @torch.no_grad()
    def measure(self, batch: Batch) -> tuple[float, int]:
        """The mean cross-entropy of `batch` among the speakers, without any margin, and how many were right."""
        self.model.eval()
        _, logits, labels = self._forward(batch)
        logits = logits[:, : self.num_speakers]
        return float(functional.cross_entropy(logits, labels)), int((logits.argmax(dim=1) == labels).sum())

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        waveforms = batch.waveforms.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        with torch.no_grad():
            features = self.fbank(waveforms)
            if self.spec_augment is not None and self.model.training:
                features = self.spec_augment(features, torch.default_generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.model(features, return_embedding=self.head is not None)
        if self.head is not None:
            loss, logits = self.head(output, labels)
            return loss, logits, labels
        logits = output.float()
        smoothing = self.recipe.loss.label_smoothing
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing), logits, labels

    def save_to(self, checkpoint: Checkpoint) -> None:
        checkpoint.model = self.model.state_dict()
        checkpoint.head = {} if self.head is None else self.head.state_dict()
        checkpoint.optimiser = self.optimiser.state_dict()
        checkpoint.random_state = torch.get_rng_state()

    def load_from(self, checkpoint: Checkpoint, source: str) -> None:
        load_state(self.model, checkpoint.model, source)
        if self.head is not None:
            load_state(self.head, checkpoint.head, source)
        self.optimiser.load_state_dict(checkpoint.optimiser)

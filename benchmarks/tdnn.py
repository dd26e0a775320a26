"""XVector beside the form the laboratory exercise teaches: gather the spliced frames, then one nn.Linear.

`python benchmarks/tdnn.py [--json FILE] [--threads N]`: a training step (32 x 300 frames, cross-entropy,
Adam) and inference (1 x 500 and 32 x 500 frames), float32, with our bfloat16 autocast as a further row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from _timing import Row, compare, parser, write_json
from xvectors.models import XVector

PEER = "spliced linear"


class SplicedLinear(nn.Module):
    """The exercise's layer: a copy of the frames at each offset, side by side, into one affine map."""

    def __init__(self, input_dim: int, context: list[int], output_dim: int) -> None:
        super().__init__()
        self.context = context
        self.linear = nn.Linear(input_dim * len(context), output_dim)

    def forward(self, x: Tensor) -> Tensor:
        first, frames = min(self.context), x.shape[1] - max(self.context) + min(self.context)
        taps = [x[:, c - first : c - first + frames] for c in self.context]
        return self.linear(torch.cat(taps, dim=2))


class PeerXVector(nn.Module):
    """The exercise's network, with the same parameter names and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tdnn1 = SplicedLinear(24, [-2, -1, 0, 1, 2], 512)
        self.tdnn2 = SplicedLinear(512, [-2, 0, 2], 512)
        self.tdnn3 = SplicedLinear(512, [-3, 0, 3], 512)
        self.tdnn4 = SplicedLinear(512, [0], 512)
        self.tdnn5 = SplicedLinear(512, [0], 1500)
        self.seg_fc1 = nn.Linear(3000, 512)
        self.seg_fc2 = nn.Linear(512, 512)
        self.classifier = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.tdnn1, self.tdnn2, self.tdnn3, self.tdnn4, self.tdnn5):
            x = functional.relu(layer(x))
        pooled = torch.cat((x.mean(dim=1), x.std(dim=1, unbiased=False)), dim=1)
        return self.classifier(functional.relu(self.seg_fc2(functional.relu(self.seg_fc1(pooled)))))


def training_step(model: nn.Module, half: bool) -> Callable[[], None]:
    """A function that takes one Adam step on a fixed batch of 32 x 300 frames."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 300, 24, generator=generator)
    labels = torch.randint(0, 1000, (32,), generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference(model: nn.Module, batch: int, half: bool) -> Callable[[], Tensor]:
    """A function that runs the network on `batch` recordings of 500 frames."""
    x = torch.randn(batch, 500, 24, generator=torch.Generator().manual_seed(0))

    def run() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return model(x)

    return run


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours, normalized, peer = XVector(), XVector(batch_norm=True), PeerXVector()
    peer.load_state_dict(ours.state_dict())
    steps = {
        PEER: training_step(peer, half=False),
        "xvectors": training_step(ours, half=False),
        "xvectors, bfloat16": training_step(ours, half=True),
        "xvectors, BatchNorm": training_step(normalized, half=False),
        "xvectors, BatchNorm, bfloat16": training_step(normalized, half=True),
    }
    rows: list[Row] = compare("training step, 32 x 300 frames", steps, PEER, options.rounds)
    for batch in (1, 32):
        runs = {
            PEER: inference(peer, batch, half=False),
            "xvectors": inference(ours, batch, half=False),
            "xvectors, bfloat16": inference(ours, batch, half=True),
        }
        # A single recording takes milliseconds: many rounds cost nothing and tell small differences.
        rounds = options.rounds if batch > 1 else 10 * options.rounds
        rows += compare(f"inference, {batch} x 500 frames", runs, PEER, rounds)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()

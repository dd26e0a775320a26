"""Options of ECAPA-TDNN and the x-vector that other toolkits' networks need: padding, folding, gradients, ONNX; and the
layers against torch's own convolutions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_backbones import BANDS, convolved, padded, ran, seeded, small, trained_a_little
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, TooShortError
from xvectors.export.graph import WaveformGraph
from xvectors.export.onnx_file import build_onnx
from xvectors.features import Fbank
from xvectors.models import Backbone, Padding
from xvectors.models.folding import fold_norms
from xvectors.models.layers.padding import extended

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "speechbrain-ecapa": (
        "ecapa",
        {"summed": False, "edges": "reflect", "aggregated_norm": True, "pooling": "normalized_channel_context"},
    ),
    "wespeaker-ecapa": ("ecapa", {"summed": False, "pooling": "astp", "variance_floor": 1e-7}),
    "wespeaker-ecapa-plain": ("ecapa", {"summed": False, "pooling": "channel", "variance_floor": 1e-7}),
    "wespeaker-xvector": ("xvector", {"embedding_layer": 2, "pooling": "tstp"}),
    "speechbrain-xvector": (
        "xvector",
        {"activation": "leaky_relu", "edges": "reflect", "pooling": "unbiased_statistics"},
    ),
    "kaldi-xvector": (
        "xvector",
        {
            "contexts": ["-3 0", "-2 0 4", "0"],
            "widths": [9, 7, 11],
            "segment_dim": 5,
            "embedding_layer": 2,
            "batch_norm": True,
        },
    ),
    "xvector-of-layer-2": ("xvector", {"embedding_layer": 2, "batch_norm": False}),
}
EVERY = pytest.mark.parametrize("variant", list(VARIANTS))


def built(variant: str) -> Backbone:
    name, settings = VARIANTS[variant]
    return small(name, **settings)


@pytest.mark.parametrize("filler", [0.0, float("nan")])
@EVERY
def test_padding_changes_no_embedding(variant: str, filler: float) -> None:
    model = trained_a_little(built(variant))
    shortest = max(model.context_frames, 2)
    recordings = [seeded(n, BANDS, seed=n) for n in (*range(shortest, shortest + 9), 60, 201)]
    batch, lengths = padded(recordings, filler)
    for folded in (model, fold_norms(copy.deepcopy(model))):
        together = folded(batch.clone(), lengths=lengths, return_embedding=True)
        alone = torch.cat([model(r.unsqueeze(0), return_embedding=True) for r in recordings])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@EVERY
def test_padding_changes_neither_gradients_nor_running_statistics(variant: str) -> None:
    model = built(variant)
    twin = copy.deepcopy(model)
    counts, labels, losses = [40, 33, 36], torch.tensor([0, 1, 2]), []
    batch, lengths = padded([seeded(n, BANDS, seed=n + i) for i, n in enumerate(counts)], 0.0)
    wider = torch.cat((batch, torch.full((3, 27, BANDS), 7.0)), dim=1)
    for network, x in ((model, batch), (twin, wider)):
        losses.append(functional.cross_entropy(network(x, lengths=lengths), labels))
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for (key, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None, key
        assert ours.grad.any(), key
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)
    for ours, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["speechbrain-ecapa", "wespeaker-xvector"])
def test_the_onnx_file_computes_the_same(variant: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    fbank = Fbank(num_mels=BANDS)
    graph = WaveformGraph(fbank, trained_a_little(built(variant))).eval()
    model = build_onnx(graph, fbank.samples_for(graph.model.context_frames), fbank.sample_rate_hz)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for length in (6_000, 23_456):
        wave = 0.1 * seeded(2, length, seed=length)
        (found,) = session.run(None, {"waveform": wave.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), graph(wave).detach(), atol=1e-4, rtol=1e-4)


def mirrored(x: Tensor, block: nn.Module, kernel: int, dilation: int = 1) -> Tensor:
    """`convolved`, on the mirrored [batch, channels, frames]."""
    beside = dilation * (kernel // 2)
    return convolved(functional.pad(x, (beside, beside), mode="reflect"), block, kernel, dilation=dilation)


def test_ecapa_with_the_options_of_speechbrain_equals_convolutions() -> None:
    model, x = trained_a_little(built("speechbrain-ecapa")), seeded(2, 30, BANDS)
    _, pooled_input = ran(model, "pooling", x)
    outputs = [mirrored(x.transpose(1, 2), model.first, 5)]
    for block, dilation in zip(model.blocks, (2, 3, 4), strict=True):
        parts = list(convolved(outputs[-1], block.before, 1).split(4, dim=1))
        for i, layer in enumerate(block.parts, start=1):
            parts[i] = mirrored(parts[i] + parts[i - 1] if i > 1 else parts[i], layer, 3, dilation)
        hidden = convolved(torch.cat(parts, dim=1), block.after, 1)
        weights = torch.sigmoid(block.excite(functional.relu(block.squeeze(hidden.mean(dim=2)))))
        outputs.append(outputs[-1] + hidden * weights.unsqueeze(2))
    aggregated = functional.relu(model.aggregate(torch.cat(outputs[1:], dim=1).transpose(1, 2)))
    torch.testing.assert_close(pooled_input, model.aggregated_norm(aggregated), atol=1e-4, rtol=1e-4)


def test_recordings_are_mirrored_at_their_own_ends() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 0.0, 0.0]]).unsqueeze(2)
    whole = extended(x[:1], 2, 2, "reflect", None)
    assert whole.flatten().tolist() == [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0]
    both = extended(x, 2, 2, "reflect", Padding(torch.tensor([5, 3]), 5))
    assert both[0].flatten().tolist() == whole.flatten().tolist()
    assert both[1].flatten().tolist()[:7] == [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    zeros = extended(x[:1], 1, 2, "zeros", None)
    assert zeros.flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0]


def test_the_first_segment_layer_leads_to_the_second() -> None:
    first, second = (small("xvector", embedding_layer=layer).eval() for layer in (1, 2))
    second.load_state_dict(first.state_dict())
    x = seeded(2, 40, BANDS)
    expected = first.seg_fc2(first.seg_bn1(functional.relu(first.embed(x))))
    torch.testing.assert_close(second.embed(x), expected)
    torch.testing.assert_close(second(x), first(x))


def test_bad_settings_and_recordings_too_short_to_be_mirrored() -> None:
    for name, key, value, known in (
        ("ecapa", "edges", "none", "zeros, reflect"),
        ("xvector", "edges", "zeros", "none, reflect"),
        ("xvector", "activation", "gelu", "relu, leaky_relu"),
        ("xvector", "embedding_layer", 3, "1 or 2"),
    ):
        with pytest.raises(ConfigError, match=f"{key} is {value!r}; it must be (one of )?{known}"):
            small(name, **{key: value})
    for settings, message in (
        ({"contexts": ["-2 0 two"]}, "contexts is .*it must be a list of texts"),
        ({"contexts": "0"}, "contexts is '0'; it must be a list"),
        ({"contexts": ["0 1500", "0 1500"]}, "depend on 3,001 frames; at most 3,000"),
        ({"contexts": ["0 0"]}, "twice"),
        ({"contexts": ["0"], "edges": "reflect"}, "leave contexts empty"),
        ({"contexts": ["-1 1", "0"], "widths": [8]}, "widths is .8.; it must be a list of 2 whole numbers"),
        ({"widths": [8, 8, 8, 8, 0]}, "each at least 1 and at most 65,536"),
        ({"segment_dim": 4}, "segment_dim is 4; it must be at least 1, with embedding_layer 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            small("xvector", **settings)
    for name, shortest in (("ecapa", 5), ("xvector", 4)):
        model = small(name, edges="reflect").eval()
        assert model(seeded(1, shortest, BANDS)).shape == (1, 7)
        with pytest.raises(TooShortError, match=f"needs at least {shortest}"):
            model(seeded(1, shortest - 1, BANDS))

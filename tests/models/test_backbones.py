"""Every registered network: gradients, saving, padding, half precision, bad input, published sizes; and the
architectures beyond the x-vector against independent forms written with torch's own convolutions."""

from __future__ import annotations

import contextlib
import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.models import (
    MODELS,
    POOLINGS,
    PUBLISHED,
    Backbone,
    Padding,
    Published,
    TDNNLayer,
    build_model,
    count_flops,
    count_parameters,
)
from xvectors.models.campplus import segment_context
from xvectors.models.ftdnn import LAYERS, semi_orthogonal_step
from xvectors.models.layers.context import GroupedNorm, SelfAttention
from xvectors.models.layers.maps import BottleneckBlock, MapConv, simam

# Narrow enough for a quick test.
SMALL: dict[str, dict[str, Any]] = {
    "xvector": {"size": 0.05, "batch_norm": True},
    "etdnn": {"width": 16, "pooled_dim": 24},
    "ftdnn": {"first_dim": 16, "width": 24, "bottleneck_dim": 8, "pooled_dim": 20},
    "ecapa": {"channels": 16, "pooled_dim": 24, "bottleneck_dim": 6, "res2net_scale": 4},
    "resnet34": {"channels": 4},
    "thin_resnet": {"channels": 4},
    "campplus": {"map_channels": 4, "channels": 16, "growth": 4, "depths": [2, 3, 3]},
    "bottleneck_resnet": {"channels": 4, "depths": [1, 2, 2, 1]},
    "simam_resnet": {"channels": 4, "depths": [1, 2, 1, 1]},
    "preact_resnet": {"channels": 8, "depths": [1, 2, 1, 1]},
    "eres2netv2": {"channels": 16, "depths": [1, 2, 2, 1], "base_width": 28},
    "redimnet": {
        "channels": 4,
        "band_strides": [1, 3],
        "depths": [2, 1],
        "widths": [8, 12],
        "reductions": [0, 7],
        "block": "next",
        "group_width": 4,
    },
    "redimnet2": {
        "channels": 4,
        "band_strides": [1, 2, 1],
        "frame_strides": [1, 2, 2],
        "depths": [1, 2, 1],
        "widths": [8, 12, 8],
        "reductions": [7, 0, 7],
        "block": "excited",
        "head_channels": 8,
        "aggregate_norm": True,
        "sum_maps": True,
    },
    "lstm": {"width": 24, "depth": 2},
}
NEW = [name for name in MODELS if name != "xvector"]
# 21 bands: odd at each of the strides over frequency
SHARED = {"num_speakers": 7, "embedding_dim": 12, "input_dim": 21}
BANDS = 21
POOLED = [name for name, network in MODELS.items() if "pooling" in inspect.signature(network).parameters]
EVERY = pytest.mark.parametrize("name", list(MODELS))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(name: str, **settings: Any) -> Backbone:
    torch.manual_seed(0)
    return build_model(name, **{**SHARED, **SMALL[name], **settings})


WITHOUT_WEIGHTS: dict[str, Backbone] = {}


def without_weights(name: str, **settings: Any) -> Backbone:
    """A network on the meta device, one for all tests: the large ones take a second to build."""
    key = f"{name} {settings}"
    if key not in WITHOUT_WEIGHTS:
        with torch.device("meta"):
            WITHOUT_WEIGHTS[key] = build_model(name, **settings).eval()
    return WITHOUT_WEIGHTS[key]


def trained_a_little(model: Backbone) -> Backbone:
    """The model in eval mode after steps that move its BatchNorm statistics away from 0 and 1."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(3):
        loss = functional.cross_entropy(model(1 + 2 * seeded(4, 50, BANDS, seed=step)), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def padded(recordings: list[Tensor], filler: float) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(recording) for recording in recordings])
    batch = torch.full((len(recordings), int(lengths.max()), BANDS), filler)
    for row, recording in enumerate(recordings):
        batch[row, : len(recording)] = recording
    return batch, lengths


def test_every_model_has_a_small_form() -> None:
    assert list(SMALL) == list(MODELS)


@EVERY
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    model = small(name)
    x = seeded(4, 50, BANDS)
    logits = model(x)
    assert logits.shape == (4, 7)
    assert (model.input_dim, model.embedding_dim, model.num_speakers) == (BANDS, 12, 7)
    functional.cross_entropy(logits, torch.tensor([0, 3, 5, 6])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key


@EVERY
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    model, x = trained_a_little(small(name)), seeded(4, 50, BANDS)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = small(name)
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    loaded.eval()
    assert torch.equal(loaded(x), model(x))
    embedding = loaded(x, return_embedding=True)
    assert embedding.shape == (4, 12)
    assert torch.equal(embedding, model(x, return_embedding=True))


@pytest.mark.parametrize("filler", [0.0, 1e3, float("nan")])
@EVERY
def test_padding_changes_no_embedding(name: str, filler: float) -> None:
    model = trained_a_little(small(name))
    shortest = model.context_frames
    recordings = [seeded(n, BANDS, seed=n) for n in (*range(shortest, shortest + 9), 60, 201, 215)]
    batch, lengths = padded(recordings, filler)
    for return_embedding in (False, True):
        together = model(batch, lengths=lengths, return_embedding=return_embedding)
        alone = torch.cat([model(r.unsqueeze(0), return_embedding=return_embedding) for r in recordings])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(extra=st.lists(st.integers(0, 250), min_size=1, max_size=3))
def test_campplus_padding_at_any_length(extra: list[int]) -> None:
    """Segments of 100 frames begin and end anywhere in the batch."""
    model = small("campplus").eval()
    recordings = [seeded(3 + n, BANDS, seed=n) for n in extra]
    batch, lengths = padded(recordings, 5.0)
    alone = torch.cat([model(r.unsqueeze(0), return_embedding=True) for r in recordings])
    torch.testing.assert_close(model(batch, lengths=lengths, return_embedding=True), alone, atol=1e-4, rtol=1e-4)


@EVERY
@pytest.mark.parametrize("counts", [[40, 40, 40], [40, 33, 36]])
def test_padding_changes_neither_gradients_nor_running_statistics(name: str, counts: list[int]) -> None:
    """In training, more padding is the same batch; with equal lengths, that of no padding at all."""
    model = small(name)
    twin = copy.deepcopy(model)
    batch, lengths = padded([seeded(n, BANDS, seed=n + i) for i, n in enumerate(counts)], 0.0)
    wider = torch.cat((batch, torch.full((3, 27, BANDS), 7.0)), dim=1)
    wider[1, counts[1] :] = -50.0
    labels, losses = torch.tensor([0, 1, 2]), []
    for network, x in ((model, batch), (twin, wider)):
        losses.append(functional.cross_entropy(network(x, lengths=lengths), labels))
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for (key, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3, msg=lambda m, key=key: f"{key}: {m}")
    for (key, ours), theirs in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


@EVERY
@pytest.mark.parametrize("lengths", [None, torch.tensor([50, 40, 45, 36])])
def test_half_precision_steps_lower_the_loss(name: str, lengths: Tensor | None) -> None:
    """Four recordings, learned by heart. Rounding moves the loss of a single step, and so the step at which it has
    fallen by this much. With 12 seeds of each network, with and without lengths, the last of them took 21 steps on AVX2
    and 19 on AVX-512 with its bfloat16."""
    model = small(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = seeded(4, 50, BANDS) + 2 * seeded(4, 1, BANDS, seed=1)
    losses: list[float] = []
    share = 0.9 if name == "lstm" else 0.6  # a classifier of vectors of length 1 learns slowly
    while not losses or losses[-1] > share * losses[0]:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x, lengths=lengths)
        assert logits.dtype == torch.bfloat16
        loss = functional.cross_entropy(logits.float(), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        model.after_step()
        losses.append(loss.item())
        assert len(losses) < 80


@EVERY
def test_half_precision_embeds_almost_the_same(name: str) -> None:
    model = trained_a_little(small(name))
    batch, lengths = padded([seeded(n, BANDS, seed=n) for n in (50, 70)], 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch, lengths=lengths, return_embedding=True)
    similarity = functional.cosine_similarity(half.float(), model(batch, lengths=lengths, return_embedding=True))
    assert similarity.min() > 0.99


@EVERY
def test_embed_gives_float32_embeddings(name: str) -> None:
    model = trained_a_little(small(name))
    batch, lengths = padded([seeded(n, BANDS, seed=n) for n in (50, 70)], 3.0)
    assert torch.equal(model.embed(batch), model(batch, return_embedding=True))
    assert torch.equal(model.embed(batch, lengths), model(batch, return_embedding=True, lengths=lengths))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch, return_embedding=True)
        embedding = model.embed(batch)
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, half.float())
    assert model.double().embed(batch.double()).dtype == torch.float64


@EVERY
def test_silence_gives_finite_gradients(name: str) -> None:
    model = small(name)
    model(torch.full((2, 50, BANDS), -15.9424)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@EVERY
def test_bad_input(name: str) -> None:
    model, x = small(name), torch.zeros(2, 50, BANDS)
    title, shortest = type(model).__name__, model.context_frames
    for wrong in (x[0], x[:, :, 1:], x.transpose(1, 2), x.unsqueeze(1)):
        with pytest.raises(ShapeError, match=rf"{title}: expected \[batch, frames, 21\], got \[") as caught:
            model(wrong)
        assert str(list(wrong.shape)) in str(caught.value)
    with pytest.raises(
        TooShortError, match=rf"recordings have {shortest - 1} frames, but .* needs at least {shortest}"
    ):
        model(x[:, : shortest - 1])
    with pytest.raises(TooShortError, match=rf"recording 1 of the batch has {shortest - 1} frames, but"):
        model(x, lengths=torch.tensor([50, shortest - 1]))
    with pytest.raises(ShapeError, match=r"lengths\[0\] is 51, but the features hold 50 frames"):
        model(x, lengths=torch.tensor([51, 50]))
    with pytest.raises(ShapeError, match=r"lengths must be 2 integers, one per recording, got \[1\] of torch.int64"):
        model(x, lengths=torch.tensor([50]))
    with pytest.raises(ShapeError, match=r"integers.*float32"):
        model(x, lengths=torch.tensor([50.0, 50.0]))
    if any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        with pytest.raises(ShapeError, match=f"{title}: a training batch of 1 has no batch statistics; give at least"):
            model(x[:1])
    for third, said in ((torch.tensor([50, 45]), r"a tensor \[2\]"), (torch.tensor(True), r"a tensor \[\]"), (1, "1")):
        with pytest.raises(
            ShapeError, match=rf"{title}: return_embedding must be True or False, not {said};.* lengths=..."
        ):
            model(x, third)
    assert model.eval()(x[:1, :shortest]).shape == (1, 7)


@EVERY
def test_all_networks_are_called_as_the_exercise_calls_its_own(name: str) -> None:
    model, x = small(name).eval(), seeded(2, 50, BANDS)
    signature = inspect.signature(model.forward)
    kinds = [(key, parameter.kind.name) for key, parameter in signature.parameters.items()]
    assert kinds == [
        ("x", "POSITIONAL_OR_KEYWORD"),
        ("return_embedding", "POSITIONAL_OR_KEYWORD"),
        ("lengths", "KEYWORD_ONLY"),
    ]
    assert torch.equal(model(x, True), model(x, return_embedding=True))
    assert model(x, True).shape == (2, 12)
    assert torch.equal(model(x, False), model(x))
    assert model(x).shape == (2, 7)
    with pytest.raises(TypeError, match="positional"):
        model(x, True, torch.tensor([50, 45]))


@pytest.mark.parametrize("name", NEW)
def test_impossible_settings(name: str) -> None:
    for key in ("num_speakers", "embedding_dim", "input_dim"):
        with pytest.raises(
            ConfigError, match=f"{MODELS[name].__name__}: {key} is 0; it must be a whole number, at least 1"
        ):
            small(name, **{key: 0})
    if name in POOLED:
        with pytest.raises(ConfigError, match=r"unknown pooling 'statistic'; did you mean 'statistics'\?"):
            small(name, pooling="statistic")
    with pytest.raises(
        ConfigError, match=f"model '{name}' has no setting 'embeding_dim'; did you mean 'embedding_dim'"
    ):
        small(name, embeding_dim=12)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ecapa", {"res2net_scale": 5}, "res2net_scale is 5; it must be at least 2 and divide the 16 channels"),
        ("resnet34", {"depths": [3, 4, 6]}, r"ResNet34: depths is \[3, 4, 6\]; it must be a list of 4 whole numbers"),
        (
            "campplus",
            {"depths": [3, 0, 6]},
            r"CAMPlusPlus: depths is \[3, 0, 6\]; it must be a list of 3 whole numbers",
        ),
        ("resnet34", {"depths": 3}, r"ResNet34: depths is 3; it must be a list of 4 whole numbers, each at least 1"),
        ("ecapa", {"channels": 16.5}, r"model.channels must be a whole number, not 16.5"),
        ("eres2netv2", {"channels": 4}, "channels 4 with base_width 28 leave chunks of fewer than 4 channels"),
        ("lstm", {"shift_frames": 161}, "GE2ELSTM: shift_frames 161 must be at most window_frames, 160"),
        ("lstm", {"tail_frames": -1}, "GE2ELSTM: tail_frames is -1; it must be at least 0"),
        ("campplus", {"growth": 3}, "growth 3 and channels 16 must be even; they are halved"),
        ("redimnet", {"size": "b7"}, "ReDimNet: unknown size 'b7'; known are b0, b1, b2"),
        ("redimnet2", {"block": "dense"}, "ReDimNet2: block is 'dense'; it must be one of residual, excited, next"),
        ("redimnet", {"widths": [8, 12, 12]}, r"widths is \[8, 12, 12\]; it must hold a whole number of at least 1"),
        ("redimnet", {"group_width": 5, "widths": [15, 13]}, "groups of 5 channels do not divide the width 13"),
        ("ftdnn", {"bottleneck_dim": -1}, "FTDNN: bottleneck_dim is -1; it must be a whole number, at least 1"),
        ("etdnn", {"pooled_dim": 0}, "ETDNN: pooled_dim is 0; it must be a whole number, at least 1"),
    ],
)
def test_impossible_settings_of_one_model(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(name, **settings)


# Widths that the four heads of `multi_head` divide.
DIVISIBLE: dict[str, dict[str, Any]] = {"xvector": {"size": 0.08}, "resnet34": {"channels": 16}}


@pytest.mark.parametrize("pooling", list(POOLINGS))
@pytest.mark.parametrize("name", POOLED)
def test_every_pooling_trains_every_model_and_ignores_padding(name: str, pooling: str) -> None:
    model = small(name, pooling=pooling, **DIVISIBLE.get(name, {}))
    recordings = [x[:n] for x, n in zip(seeded(4, 50, BANDS), (50, 40, 45, 36), strict=True)]
    batch, lengths = padded(recordings, 7.0)
    functional.cross_entropy(model(batch, lengths=lengths), torch.tensor([0, 3, 5, 6])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key
    model.eval()
    together = model(batch, lengths=lengths, return_embedding=True)
    assert together.shape == (4, 12)
    alone = torch.cat([model(recording.unsqueeze(0), return_embedding=True) for recording in recordings])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "input_dim", "published"),
    [
        # Snyder et al., ICASSP 2018: without segment7 and the output layer
        ("xvector", {}, 24, 4.2e6),
        # Yu and Li, Interspeech 2020: 30 coefficients a frame, counted up to the embedding
        ("etdnn", {}, 30, 6.1e6),
        ("ftdnn", {}, 30, 12.4e6),
        # the papers of the networks: 80 filterbanks, without the classifier
        ("ecapa", {}, 80, 6.2e6),
        ("ecapa", {"channels": 1024}, 80, 14.7e6),
        ("resnet34", {}, 80, 6.63e6),
        ("campplus", {}, 80, 7.18e6),
        # WeSpeaker's table, without the classifier
        ("bottleneck_resnet", {"depths": [6, 16, 48, 3]}, 80, 23.79e6),
        ("bottleneck_resnet", {"depths": [10, 20, 64, 3]}, 80, 28.62e6),
        ("simam_resnet", {"depths": [6, 16, 24, 3]}, 80, 50.2e6),
        # 3D-Speaker's
        ("eres2netv2", {}, 80, 17.8e6),
        # the tables of the papers; B2's size in the first is that of another layout
        ("redimnet", {"size": "b0"}, 60, 1.0e6),
        ("redimnet", {}, 72, None),
        ("redimnet", {"size": "b6"}, 72, 15.0e6),
        ("redimnet2", {"size": "b0"}, 72, 1.1e6),
        ("redimnet2", {"size": "b1"}, 72, 2.1e6),
        ("redimnet2", {}, 72, 3.6e6),
        ("redimnet2", {"size": "b3"}, 72, 4.1e6),
        ("redimnet2", {"size": "b4"}, 72, 6.6e6),
        ("redimnet2", {"size": "b5"}, 72, 8.9e6),
        ("redimnet2", {"size": "b6"}, 72, 12.3e6),
        # our own
        ("xvector", {"batch_norm": True}, 80, None),
        ("thin_resnet", {}, 80, None),
        ("bottleneck_resnet", {}, 80, None),
        ("simam_resnet", {}, 80, None),
        ("preact_resnet", {}, 80, None),
        ("lstm", {}, 40, None),
    ],
)
def test_published_sizes(name: str, settings: dict[str, Any], input_dim: int, published: float | None) -> None:
    (row,) = [row for row in PUBLISHED if (row.model, row.settings) == (name, settings)]
    assert row.num_mels == input_dim
    assert row.size_m == (published and pytest.approx(published / 1e6))
    model = without_weights(name, input_dim=input_dim, **settings)
    behind = [model.classifier]
    if name in ("etdnn", "ftdnn"):
        behind += [model.segment.norm1, model.segment.fc2, model.segment.norm2]
    if name == "xvector":
        behind += [model.seg_fc2, *([model.seg_bn1, model.seg_bn2] if model.batch_norm else [])]
    count = sum(p.numel() for p in model.parameters()) - sum(p.numel() for m in behind for p in m.parameters())
    assert count_parameters(model) == count
    if name == "redimnet2":  # cut to one digit
        assert published <= count < published + 0.1e6
    else:
        assert published is None or count == pytest.approx(published, rel=0.01)


def test_every_model_has_a_row_among_the_published() -> None:
    assert list(dict.fromkeys(row.model for row in PUBLISHED)) == list(MODELS)


@pytest.mark.parametrize(
    "row", [row for row in PUBLISHED if row.model != "lstm"], ids=lambda row: "-".join([row.model, *row.settings])
)
def test_flops_are_twice_each_layers_weights_times_its_places(row: Published) -> None:
    """Counted at the layers, not at the operations: an output place takes each weight once, and attention compares
    all frames with each other, then weighs them."""
    model = without_weights(row.model, input_dim=row.num_mels, **row.settings)
    counted, found = count_flops(model, 250), 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal found
        weight = module.linear.weight if isinstance(module, TDNNLayer) else module.weight
        assert output.shape[-1] == weight.shape[0], "channels come last"
        found += 2 * weight.numel() * output[..., 0].numel()

    def note_attention(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal found
        found += 2 * 2 * output.shape[1] ** 2 * output.shape[2]

    inside = {id(module.linear) for module in model.modules() if isinstance(module, TDNNLayer)}
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            if isinstance(module, SelfAttention):
                hooks.enter_context(module.register_forward_hook(note_attention))
            if isinstance(module, TDNNLayer | MapConv | nn.Linear) and id(module) not in inside:
                hooks.enter_context(module.register_forward_hook(note))
        model(torch.zeros(1, 250, row.num_mels, device="meta"), return_embedding=True)
    assert counted == found > 1e8


@pytest.mark.parametrize(
    ("size", "published"),
    [("b0", 0.33e9), ("b1", 0.56e9), ("b2", 0.95e9), ("b3", 2.70e9), ("b4", 4.62e9), ("b5", 9.62e9), ("b6", 13.05e9)],
)
def test_operations_of_redimnet2_as_published(size: str, published: float) -> None:
    """Multiply-adds for 2 s. The authors' pooling multiplies the recording's statistics once per frame, ours once."""
    model = without_weights("redimnet2", input_dim=72, size=size)
    with torch.device("meta"):
        repeated = 199 * model.pooling.context.weight.numel()
        assert count_flops(model, 200) / 2 + repeated == pytest.approx(published, rel=0.025)


def test_grouped_norm_by_hand() -> None:
    """Two channels in one group: 1 and 3 in the only frame of the second recording have mean 2 and variance 1."""
    norm, x = GroupedNorm(1, 2, eps=0.0), torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[1.0, 3.0], [9.0, 9.0]]])
    found = norm(x, Padding(torch.tensor([2, 1]), 2))
    torch.testing.assert_close(found[0], (x[0] - 3) / 3.5**0.5)
    torch.testing.assert_close(found[1, 0], torch.tensor([-1.0, 1.0]))
    rolled = seeded(2, 9, 6)
    expected = functional.group_norm(rolled.transpose(1, 2), 3, eps=1e-5).transpose(1, 2)
    torch.testing.assert_close(GroupedNorm(3, 6)(rolled, None), expected, atol=1e-5, rtol=1e-5)


def test_flops_by_hand_and_as_published() -> None:
    # 296, 292 and 286 of 300 frames are left behind the spliced layers; an embedding takes the first segment layer
    frame_layers = 296 * 120 * 512 + 292 * 1536 * 512 + 286 * (1536 * 512 + 512 * 512 + 512 * 1500)
    model = build_model("xvector")
    before = copy.deepcopy(model.state_dict())
    assert count_flops(model, 300) == 2 * (frame_layers + 3000 * 512)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # WeSpeaker states 4.55 G multiply-adds for 2 s
    assert count_flops(without_weights("resnet34", input_dim=80), 200) == pytest.approx(2 * 4.55e9, rel=0.01)
    with pytest.raises(TooShortError, match="needs at least 15"):
        count_flops(model, 14)
    # two windows of 160 frames: four gates of each layer see its input and its state
    layers = 1024 * (40 + 256) + 2 * 1024 * (256 + 256)
    assert count_flops(without_weights("lstm", input_dim=40), 250) == 2 * 2 * (160 * layers + 256 * 256)


def ran(model: Backbone, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """The embedding of `x`, and what the sub-module `layer` was given first."""
    seen: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    embedding = model(x, return_embedding=True)
    handle.remove()
    return embedding, seen[0]


def normalized(x: Tensor, norm: nn.Module) -> Tensor:
    """BatchNorm in eval mode on [batch, channels, ...]."""
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def convolved(x: Tensor, block: nn.Module, kernel: int, padding: int = 0, dilation: int = 1) -> Tensor:
    """A TDNN layer, ReLU and BatchNorm as conv1d on [batch, channels, frames]."""
    linear = block.tdnn.linear
    weight = linear.weight.unflatten(1, (kernel, -1)).transpose(1, 2)
    x = functional.conv1d(x, weight, linear.bias, padding=padding, dilation=dilation)
    return normalized(functional.relu(x), block.norm)


def test_etdnn_equals_convolutions() -> None:
    model, x = trained_a_little(small("etdnn")), seeded(2, 40, BANDS)
    embedding, pooled_input = ran(model, "pooling", x)
    hidden = x.transpose(1, 2)
    kernels = [(5, 1), (1, 1), (3, 2), (1, 1), (3, 3), (1, 1), (3, 4), (1, 1), (1, 1), (1, 1)]
    for block, (kernel, dilation) in zip(model.frame_layers, kernels, strict=True):
        hidden = convolved(hidden, block, kernel, dilation=dilation)
    assert hidden.shape == (2, 24, 40 - 22)
    torch.testing.assert_close(pooled_input, hidden.transpose(1, 2), atol=1e-4, rtol=1e-4)
    pooled = torch.cat((hidden.mean(dim=2), hidden.std(dim=2, unbiased=False)), dim=1)
    torch.testing.assert_close(embedding, model.segment.fc1(pooled), atol=1e-4, rtol=1e-4)


def test_ftdnn_equals_a_loop_over_absolute_frames() -> None:
    """Each bottleneck and output is kept under the frame t it belongs to, so that a skip cannot be misplaced."""
    model, x = trained_a_little(small("ftdnn")), seeded(1, 41, BANDS)
    _, pooled_input = ran(model, "pooling", x)
    first = convolved(x.transpose(1, 2), model.first, 5)[0].T
    outputs = {t + 2: frame for t, frame in enumerate(first)}
    bottlenecks: dict[int, dict[int, Tensor]] = {}
    for number, spec in LAYERS.items():
        block, k = model.factorized[str(number)], spec.offset
        weight = block.bottleneck.linear.weight
        kept = bottlenecks[number] = {
            t: weight @ (torch.cat((outputs[t - k], outputs[t])) if k else outputs[t])
            for t in outputs
            if t - k in outputs
        }
        later = {}
        for t in kept:
            if t + k in kept:
                taps = [kept[t], kept[t + k]] if k else [kept[t]]
                spliced = torch.cat([*taps, *[bottlenecks[n][t] for n in spec.skips]])
                later[t] = normalized(functional.relu(block.expand(spliced)).unsqueeze(0), block.norm)[0]
        outputs = later
    # 33 frames of context in all, the same on both sides
    assert list(outputs) == list(range(16, 41 - 16))
    last = convolved(torch.stack(list(outputs.values())).T.unsqueeze(0), model.last, 1)
    torch.testing.assert_close(pooled_input, last.transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_ecapa_equals_convolutions() -> None:
    model, x = trained_a_little(small("ecapa")), seeded(2, 30, BANDS)
    _, pooled_input = ran(model, "pooling", x)
    outputs = [convolved(x.transpose(1, 2), model.first, 5, padding=2)]
    for block, dilation in zip(model.blocks, (2, 3, 4), strict=True):
        entering = torch.stack(outputs).sum(dim=0)
        parts = list(convolved(entering, block.before, 1).split(4, dim=1))
        for i, layer in enumerate(block.parts, start=1):
            total = parts[i] + parts[i - 1] if i > 1 else parts[i]
            parts[i] = convolved(total, layer, 3, padding=dilation, dilation=dilation)
        hidden = convolved(torch.cat(parts, dim=1), block.after, 1)
        weights = torch.sigmoid(block.excite(functional.relu(block.squeeze(hidden.mean(dim=2)))))
        outputs.append(entering + hidden * weights.unsqueeze(2))
    aggregated = functional.relu(model.aggregate(torch.cat(outputs[1:], dim=1).transpose(1, 2)))
    torch.testing.assert_close(pooled_input, aggregated, atol=1e-4, rtol=1e-4)


def residual(x: Tensor, block: nn.Module, stride: tuple[int, int]) -> Tensor:
    hidden = functional.conv2d(x, block.conv1.weight, stride=stride, padding=1)
    hidden = functional.relu(normalized(hidden, block.norm1))
    hidden = normalized(functional.conv2d(hidden, block.conv2.weight, padding=1), block.norm2)
    if block.shortcut is not None:
        x = normalized(functional.conv2d(x, block.shortcut.weight, stride=stride), block.shortcut_norm)
    return functional.relu(x + hidden)


def test_resnet_equals_convolutions() -> None:
    model, x = trained_a_little(small("resnet34")), seeded(2, 30, BANDS)
    _, pooled_input = ran(model, "pooling", x)
    hidden = functional.conv2d(x.unsqueeze(1), model.first.weight, padding=1)
    hidden = functional.relu(normalized(hidden, model.first_norm))
    for i, block in enumerate(model.blocks):
        hidden = residual(hidden, block, (2, 2) if i in (3, 7, 13) else (1, 1))
    assert hidden.shape == (2, 32, 4, 3)
    torch.testing.assert_close(pooled_input, hidden.permute(0, 2, 3, 1).flatten(2), atol=1e-4, rtol=1e-4)


def test_bottleneck_block_equals_convolutions() -> None:
    torch.manual_seed(0)
    block, x = BottleneckBlock(6, 8, (2, 2)), seeded(3, 9, 7, 6)
    block(1 + 2 * x, None)  # moves the statistics of the BatchNorms
    found, _ = block.eval()(x, None)
    maps = x.permute(0, 3, 1, 2)
    hidden = functional.relu(normalized(functional.conv2d(maps, block.conv1.weight), block.norm1))
    hidden = functional.conv2d(hidden, block.conv2.weight, stride=2, padding=1)
    hidden = functional.relu(normalized(hidden, block.norm2))
    hidden = normalized(functional.conv2d(hidden, block.conv3.weight), block.norm3)
    skipped = normalized(functional.conv2d(maps, block.shortcut.weight, stride=2), block.shortcut_norm)
    expected = functional.relu(hidden + skipped).permute(0, 2, 3, 1)
    assert expected.shape == (3, 5, 4, 8)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_simam_by_hand() -> None:
    # two frames of two bands, in the second recording one frame: 1, 2, 3, 6 have mean 3, variance (4 + 1 + 0 + 9) / 3
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [0.0, 0.0]]]).unsqueeze(3)
    found = simam(x, Padding(torch.tensor([2, 1]), 2), regularization=0.25).flatten(1)
    squares, variance = torch.tensor([4.0, 1.0, 0.0, 9.0]), 14 / 3
    weights = torch.sigmoid(squares / (4 * (variance + 0.25)) + 0.5)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 2.0, 3.0, 6.0]) * weights)
    weight = 1 / (1 + torch.e ** -(1 / (4 * (2 + 0.25)) + 0.5))  # mean 6, variance 2
    torch.testing.assert_close(found[1], torch.tensor([5 * weight, 7 * weight, 0.0, 0.0]))


def test_campplus_equals_convolutions() -> None:
    model, x = trained_a_little(small("campplus")), seeded(2, 441, BANDS)
    _, pooled_input = ran(model, "pooling", x)
    front = model.front
    hidden = functional.conv2d(x.unsqueeze(1), front.first.weight, padding=1)
    hidden = functional.relu(normalized(hidden, front.first_norm))
    for block, stride in zip(front.blocks, (2, 1, 2, 1), strict=True):
        hidden = residual(hidden, block, (1, stride))
    hidden = functional.conv2d(hidden, front.last.weight, stride=(1, 2), padding=1)
    hidden = functional.relu(normalized(hidden, front.last_norm))  # [2, 4, 441, 3]
    hidden = hidden.permute(0, 3, 1, 2).flatten(1, 2)
    hidden = functional.conv1d(hidden, model.first.weight.squeeze(3), stride=2, padding=2)
    hidden = functional.relu(normalized(hidden, model.first_norm))
    assert hidden.shape == (2, 16, 221)
    for block, dilation in zip(model.blocks, (1, 2, 2), strict=True):
        for layer in block.layers:
            entering = functional.relu(normalized(hidden, layer.input_norm))
            entering = functional.conv1d(entering, layer.bottleneck.weight.unsqueeze(2))
            entering = functional.relu(normalized(entering, layer.norm))
            weight = layer.tdnn.linear.weight.unflatten(1, (3, -1)).transpose(1, 2)
            local = functional.conv1d(entering, weight, padding=dilation, dilation=dilation)
            segments = functional.avg_pool1d(entering, 100, 100, ceil_mode=True).repeat_interleave(100, dim=2)
            context = entering.mean(dim=2, keepdim=True) + segments[:, :, :221]
            inner = functional.relu(layer.squeeze(context.transpose(1, 2)))
            hidden = torch.cat((hidden, local * torch.sigmoid(layer.excite(inner)).transpose(1, 2)), dim=1)
        hidden = functional.relu(normalized(hidden, block.norm))
        hidden = functional.conv1d(hidden, block.halve.weight.unsqueeze(2))
    hidden = functional.relu(normalized(hidden, model.last_norm))
    torch.testing.assert_close(pooled_input, hidden.transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_segment_context_by_hand() -> None:
    x = torch.ones(2, 250, 1)
    x[0, 100:200], x[0, 200:] = 2.0, 6.0
    x[1, 120:] = 0.0
    expected = torch.tensor([[2.4 + 1, 2.4 + 2, 2.4 + 6], [2.0, 2.0, 1.0]]).unsqueeze(2)
    context = segment_context(x, Padding(torch.tensor([250, 120]), 250, x.device))
    torch.testing.assert_close(context, expected)
    torch.testing.assert_close(segment_context(x[:1], None), expected[:1])


def off_by(matrix: Tensor) -> float:
    """How far the rows (columns, where fewer) are from orthogonal and of one length, relative to that length."""
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    gram = wide @ wide.T
    scale = gram.square().sum() / gram.trace()
    return float((gram / scale - torch.eye(len(gram))).norm())


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 48),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 99),
)
def test_semi_orthogonal_steps_converge(rows: int, columns: int, scale: float, seed: int) -> None:
    matrix = scale * nn.init.orthogonal_(torch.empty(rows, columns), generator=torch.Generator().manual_seed(seed))
    moved = matrix + 0.1 * scale * seeded(rows, columns, seed=seed + 1) / columns**0.5
    before = off_by(moved)
    for _ in range(8):
        moved = semi_orthogonal_step(moved)
    assert off_by(moved) <= max(1e-4, 1e-3 * before)
    torch.testing.assert_close(semi_orthogonal_step(matrix), matrix, atol=1e-5 * scale, rtol=1e-4)


def test_semi_orthogonal_step_by_hand() -> None:
    # P = diag(4, 1), alpha^2 = 17 / 5, ratio = 2 * 17 / 25: each length s becomes s - (s^2 / alpha^2 - 1) s / (2 ratio)
    speed, scale = 0.5 / (34 / 25), 17 / 5
    expected = torch.diag(torch.tensor([2 - speed * (4 / scale - 1) * 2, 1 - speed * (1 / scale - 1)]))
    torch.testing.assert_close(semi_orthogonal_step(torch.diag(torch.tensor([2.0, 1.0]))), expected)


def test_semi_orthogonal_step_far_from_the_goal_and_at_zero() -> None:
    for wild in (torch.diag(torch.tensor([100.0, 1.0, 1e-2])), seeded(8, 8), 1 + 1e-2 * seeded(16, 40)):
        moved = wild
        for _ in range(400):
            moved = semi_orthogonal_step(moved)
        assert off_by(moved) < 1e-3
    assert torch.equal(semi_orthogonal_step(torch.zeros(3, 5)), torch.zeros(3, 5))


@EVERY
def test_after_step_moves_the_bottlenecks_alone(name: str) -> None:
    model = small(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * seeded(*parameter.shape))
    before = copy.deepcopy(model.state_dict())
    model.after_step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    bottlenecks = {f"factorized.{number}.bottleneck.linear.weight" for number in LAYERS}
    assert moved == (bottlenecks if name == "ftdnn" else set())
    for key in moved:
        assert off_by(model.state_dict()[key]) < off_by(before[key])

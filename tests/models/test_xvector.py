"""Every registered network, and XVector against the exercise: parameters, names, and a loop over frames."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.models import XVector, build_model

# Small enough for a quick test, and every setting away from its default.
VARIANTS = [
    pytest.param("xvector", settings, id=f"xvector-{number}")
    for number, settings in enumerate(
        [{"size": 0.05}, {"size": 0.05, "batch_norm": True}, {"size": 0.1, "depth": 2, "batch_norm": True}]
    )
]
SMALL = {"num_speakers": 11, "embedding_dim": 16, "input_dim": 24}


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padded(recordings: list[Tensor], filler: float) -> tuple[Tensor, Tensor]:
    """A batch of recordings [frames, mels] with `filler` behind the shorter ones, and their frame counts."""
    lengths = torch.tensor([len(recording) for recording in recordings])
    batch = torch.full((len(recordings), int(lengths.max()), recordings[0].shape[1]), filler)
    for row, recording in enumerate(recordings):
        batch[row, : len(recording)] = recording
    return batch, lengths


def trained_a_little(model: nn.Module) -> nn.Module:
    """The model after steps that move its BatchNorm statistics away from 0 and 1."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(3):
        loss = functional.cross_entropy(model(1 + 2 * seeded(6, 40, 24, seed=step)), torch.tensor([0, 1, 2, 3, 4, 5]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_walk_forward_backward_save_load(name: str, settings: dict[str, float], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(name, **SMALL, **settings)
    x = seeded(4, 40, 24)
    logits = model(x)
    assert logits.shape == (4, 11)
    functional.cross_entropy(logits, torch.tensor([0, 3, 5, 10])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key
    model = trained_a_little(model).eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(1)
    loaded = build_model(name, **SMALL, **settings).eval()
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    for twin in (loaded, copy.deepcopy(model)):
        assert torch.equal(twin(x), model(x))
        embedding = twin(x, return_embedding=True)
        assert embedding.shape == (4, 16)
        assert torch.equal(embedding, model(x, return_embedding=True))


@pytest.mark.parametrize("filler", [0.0, 1e3])
@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_padding_changes_no_embedding(name: str, settings: dict[str, float], filler: float) -> None:
    torch.manual_seed(0)
    model = trained_a_little(build_model(name, **SMALL, **settings)).eval()
    recordings = [seeded(frames, 24, seed=frames) for frames in (15, 16, 60, 33)]
    batch, lengths = padded(recordings, filler)
    for return_embedding in (False, True):
        together = model(batch, lengths=lengths, return_embedding=return_embedding)
        alone = torch.cat([model(r.unsqueeze(0), return_embedding=return_embedding) for r in recordings])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("extra", [0, 25])
def test_padding_changes_neither_gradients_nor_running_statistics(extra: int) -> None:
    """In training, a batch with more padding is the same batch, garbage in the padding included."""
    torch.manual_seed(0)
    model = XVector(size=0.05, batch_norm=True, **SMALL)
    twin = copy.deepcopy(model)
    recordings = [seeded(frames, 24, seed=frames) for frames in (20, 31, 26)]
    batch, lengths = padded(recordings, 0.0)
    wider = torch.cat((batch, torch.full((3, extra, 24), 7.0)), dim=1)
    wider[0, 20:] = -50.0
    labels = torch.tensor([0, 1, 2])
    losses = [functional.cross_entropy(m(x, lengths=lengths), labels) for m, x in ((model, batch), (twin, wider))]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for loss in losses:
        loss.backward()
    for (key, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-3, msg=key)
    for (key, ours), theirs in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, msg=key)


def test_batch_statistics_are_those_of_the_own_frames() -> None:
    torch.manual_seed(0)
    model = XVector(size=0.05, batch_norm=True, **SMALL)
    recordings = [seeded(frames, 24, seed=frames) for frames in (20, 31)]
    batch, lengths = padded(recordings, 100.0)
    with torch.no_grad():
        frames = torch.cat([functional.relu(model.tdnn1(r.unsqueeze(0)))[0] for r in recordings])
    model(batch, lengths=lengths)
    torch.testing.assert_close(model.bn1.running_mean, 0.1 * frames.mean(dim=0), atol=1e-6, rtol=1e-5)
    expected = 0.9 + 0.1 * frames.var(dim=0, unbiased=True)
    torch.testing.assert_close(model.bn1.running_var, expected, atol=1e-6, rtol=1e-5)


def test_full_lengths_are_no_lengths() -> None:
    torch.manual_seed(0)
    model = XVector(size=0.05, batch_norm=True, **SMALL)
    x = seeded(3, 20, 24)
    assert torch.equal(model(x), model(x, lengths=torch.tensor([20, 20, 20])))


def test_parameters_and_names_of_the_exercise() -> None:
    model = XVector(size=1, depth=1, num_speakers=1000, embedding_dim=512, input_dim=24)
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_980_164
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == {
        "tdnn1.linear.weight": (512, 120),
        "tdnn1.linear.bias": (512,),
        "tdnn2.linear.weight": (512, 1536),
        "tdnn2.linear.bias": (512,),
        "tdnn3.linear.weight": (512, 1536),
        "tdnn3.linear.bias": (512,),
        "tdnn4.linear.weight": (512, 512),
        "tdnn4.linear.bias": (512,),
        "tdnn5.linear.weight": (1500, 512),
        "tdnn5.linear.bias": (1500,),
        "seg_fc1.weight": (512, 3000),
        "seg_fc1.bias": (512,),
        "seg_fc2.weight": (512, 512),
        "seg_fc2.bias": (512,),
        "classifier.weight": (1000, 512),
        "classifier.bias": (1000,),
    }
    assert (model.context_frames, model.embedding_dim, model.num_speakers) == (15, 512, 1000)


def test_poolings_widen_what_follows_and_take_the_variance_floor() -> None:
    model = XVector(size=0.08, batch_norm=True, pooling="multi_head", **SMALL)
    assert (model.seg_fc1.in_features, model.pool_bn.num_features) == (120, 120)
    assert XVector(size=0.08, pooling="attentive", variance_floor=0.5, **SMALL).pooling.variance_floor == 0.5
    with pytest.raises(ConfigError, match=r"unknown pooling 'statistic'; did you mean 'statistics'\?"):
        XVector(pooling="statistic")


def test_size_depth_and_batch_norm_name_and_scale_the_layers() -> None:
    model = XVector(size=0.5, depth=3, num_speakers=7, embedding_dim=32, internal_dim=101, batch_norm=True)
    widths = [model.get_submodule(f"tdnn{i}").output_dim for i in range(1, 8)]
    assert widths == [50, 50, 50, 50, 50, 50, 750]
    assert [model.get_submodule(f"bn{i}").num_features for i in range(1, 8)] == widths
    assert [name for name, _ in model.named_children() if name.startswith("seg")] == [
        "seg_fc1",
        "seg_fc2",
        "seg_bn1",
        "seg_bn2",
    ]
    assert model.seg_fc1.in_features == 1500
    assert not hasattr(XVector(depth=0, size=0.1), "tdnn5")


def looped(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding and logits of one recording [frames, mels] from the weights, frame by frame, in float64."""
    contexts = {1: (-2, -1, 0, 1, 2), 2: (-2, 0, 2), 3: (-3, 0, 3), 4: (0,), 5: (0,)}
    frames = dict(enumerate(x.double()))
    for number, context in contexts.items():
        weight, bias = (state[f"tdnn{number}.linear.{kind}"].double() for kind in ("weight", "bias"))
        frames = {
            t: (weight @ torch.cat([frames[t + c] for c in context]) + bias).clamp(min=0.0)
            for t in frames
            if all(t + c in frames for c in context)
        }
    stacked = torch.stack([frames[t] for t in sorted(frames)])
    pooled = torch.cat((stacked.mean(dim=0), stacked.var(dim=0, unbiased=False).clamp(min=1e-10).sqrt()))
    embedding = state["seg_fc1.weight"].double() @ pooled + state["seg_fc1.bias"].double()
    hidden = state["seg_fc2.weight"].double() @ embedding.clamp(min=0.0) + state["seg_fc2.bias"].double()
    logits = state["classifier.weight"].double() @ hidden.clamp(min=0.0) + state["classifier.bias"].double()
    return embedding, logits


def test_equals_a_loop_over_frames() -> None:
    torch.manual_seed(0)
    model = XVector(size=0.1, num_speakers=13, embedding_dim=20).eval()
    x = seeded(2, 22, 24)
    expected = [looped(model.state_dict(), recording) for recording in x]
    embeddings, logits = (torch.stack(values).float() for values in zip(*expected, strict=True))
    torch.testing.assert_close(model(x, return_embedding=True), embeddings, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(x), logits, atol=1e-5, rtol=1e-4)


def test_batch_norm_follows_the_activation() -> None:
    """With running statistics 0 and 1, weight 2 and bias 1, a layer gives 2 relu(...) + 1, the pooling 2 (...) + 1."""
    torch.manual_seed(0)
    model = XVector(size=0.02, batch_norm=True, **SMALL).eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            if "bn" in name:
                module.weight.fill_(2.0)
                module.bias.fill_(1.0)
    x = seeded(2, 20, 24)
    hidden = x
    scale = 2 / math.sqrt(1 + 1e-5)
    for i in range(1, 6):
        hidden = scale * functional.relu(model.get_submodule(f"tdnn{i}")(hidden)) + 1
    embedding = model.seg_fc1(scale * model.pooling(hidden) + 1)
    torch.testing.assert_close(model(x, return_embedding=True), embedding, atol=1e-5, rtol=1e-5)
    hidden = scale * functional.relu(model.seg_fc2(scale * functional.relu(embedding) + 1)) + 1
    torch.testing.assert_close(model(x), model.classifier(hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("lengths", [None, torch.tensor([30, 50, 41, 15])])
def test_training_steps_lower_the_loss(half: bool, batch_norm: bool, lengths: Tensor | None) -> None:
    torch.manual_seed(0)
    model = XVector(size=0.1, batch_norm=batch_norm, **SMALL)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    labels = torch.tensor([0, 1, 2, 3])
    x = seeded(4, 50, 24) + seeded(4, 1, 24, seed=1)
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(x, lengths=lengths)
        assert logits.dtype == (torch.bfloat16 if half else torch.float32)
        loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1])
    assert losses[-1] < 0.5 * losses[0]


def test_batch_norm_keeps_its_statistics_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    model, x = XVector(size=0.1, batch_norm=True, **SMALL), 3 + seeded(8, 60, 24)
    half = copy.deepcopy(model)
    model(x)
    with torch.autocast("cpu", torch.bfloat16):
        half(x)
    for i in range(1, 6):
        ours, theirs = half.get_submodule(f"bn{i}"), model.get_submodule(f"bn{i}")
        assert ours.running_mean.dtype == torch.float32
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, atol=3e-3, rtol=0.03)
        torch.testing.assert_close(ours.running_var, theirs.running_var, atol=3e-3, rtol=0.03)


def test_silence_gives_finite_gradients() -> None:
    model = XVector(size=0.05, **SMALL)
    functional.cross_entropy(model(torch.full((2, 30, 24), -15.9424)), torch.tensor([0, 1]), reduction="sum").backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_hook_on_seg_fc2_collects_its_output() -> None:
    model = XVector(size=0.05, num_speakers=5, embedding_dim=16).eval()
    seen: list[Tensor] = []
    handle = model.seg_fc2.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    x = seeded(3, 20, 24)
    logits = model(x)
    assert [tuple(output.shape) for output in seen] == [(3, 16)]
    torch.testing.assert_close(model.classifier(functional.relu(seen[0])), logits)
    handle.remove()


def test_embedding_skips_the_classifier() -> None:
    model = XVector(size=0.05, num_speakers=5, embedding_dim=16)
    model.classifier.register_forward_hook(lambda *_: pytest.fail("the classifier ran"))
    assert model(seeded(2, 15, 24), return_embedding=True).shape == (2, 16)


@pytest.mark.parametrize("shape", [(40, 24), (2, 40, 23), (2, 24, 40), (1, 2, 40, 24)])
def test_bad_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"XVector: expected \[batch, frames, 24\], got \[") as caught:
        XVector(size=0.05)(torch.zeros(shape))
    assert str(list(shape)) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_bad_lengths() -> None:
    model, x = XVector(size=0.05), torch.zeros(2, 40, 24)
    with pytest.raises(TooShortError, match=r"the recordings have 14 frames, but .* needs at least 15"):
        model(x[:, :14])
    with pytest.raises(TooShortError, match=r"recording 1 of the batch has 9 frames, but .* needs at least 15"):
        model(x, lengths=torch.tensor([40, 9]))
    with pytest.raises(ShapeError, match=r"lengths\[0\] is 41, but the features hold 40 frames"):
        model(x, lengths=torch.tensor([41, 40]))
    with pytest.raises(ShapeError, match=r"lengths must be 2 integers, one per recording, got \[3\]"):
        model(x, lengths=torch.tensor([40, 40, 40]))
    with pytest.raises(ShapeError, match=r"integers.*float32"):
        model(x, lengths=torch.tensor([1.0, 0.5]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_norm": "False"}, "model.batch_norm must be true or false, not 'False'"),
        ({"size": True}, "model.size must be a number, not True"),
        ({"depth": 1.5}, "model.depth must be a whole number, not 1.5"),
        ({"embedding_dim": "abc"}, "model.embedding_dim must be a whole number, not 'abc'"),
    ],
)
def test_settings_of_the_wrong_kind(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build_model("xvector", **setting)


def test_a_training_batch_of_one_has_no_batch_statistics() -> None:
    model = XVector(size=0.05, batch_norm=True)
    for return_embedding in (False, True):
        with pytest.raises(ShapeError, match="give at least 2 recordings"):
            model(torch.zeros(1, 40, 24), return_embedding=return_embedding)
    assert model.eval()(torch.zeros(1, 40, 24)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": -1}, "depth is -1; it must be at least 0"),
        ({"size": 0}, "size 0 times internal_dim 512 leaves layers of no width"),
        ({"num_speakers": 0}, "num_speakers is 0; it must be a whole number, at least 1"),
        ({"embedding_dim": 0}, "embedding_dim is 0; it must be a whole number, at least 1"),
        ({"input_dim": 0}, "input_dim is 0; it must be a whole number, at least 1"),
        ({"variance_floor": -1.0}, "variance_floor is -1.0; it must be above 0"),
    ],
)
def test_impossible_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model("xvector", **settings)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'xvektor'; did you mean 'xvector'\?"):
        build_model("xvektor")
    with pytest.raises(ConfigError, match=r"has no setting 'bach_norm'; did you mean 'batch_norm'\?"):
        build_model("xvector", bach_norm=True)
    with pytest.raises(
        ConfigError, match=r"model 'xvector' has no setting 'zzz'; known are activation, batch_norm, contexts, depth"
    ):
        build_model("xvector", zzz=1)

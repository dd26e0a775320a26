"""Backbones, losses and augmentations of one's own: those of docs/how-to/extend.md, and wrong ones."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from support.commands import run
from xvectors import SpeakerEncoder
from xvectors.augment import Augmenter, register_augmentation
from xvectors.config import AugmentConfig, LossConfig, extensions, load_recipe, trust
from xvectors.errors import ConfigError
from xvectors.losses import make_head, register_loss
from xvectors.models import Backbone, build_model, find_backbone, register_backbone
from xvectors.system import SystemFolder
from xvectors.system.serialization import make_model, write_description, write_weights

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "extend.md"
WITHOUT = ["--set", "training.epochs=1", "--set", "training.workers=0", "--set", "data.train_test_prop=0.7"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def write_package(folder: Path) -> None:
    """The page's `mypackage` and its recipe, and what pip would note of a package with its entry points."""
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "__init__.py").touch()
    for block in blocks("python"):
        if name := re.match(r"# (mypackage/\w+\.py)\n", block):
            (folder / name[1]).write_text(block)
    recipe, points = blocks("toml")
    (folder / "tiny.toml").write_text(recipe)
    about = folder / "mypackage-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.2\n")
    (about / "top_level.txt").write_text("mypackage\n")
    groups = tomllib.loads(points)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trusted or registered, before and after."""
    monkeypatch.delenv(extensions.TRUST_VARIABLE, raising=False)
    monkeypatch.setattr(extensions, "_trusted", set())
    for kind in (extensions.BACKBONES, extensions.LOSSES, extensions.AUGMENTATIONS):
        monkeypatch.setattr(kind, "registered", {})


@pytest.fixture
def package(tmp_path: Path, clean: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.slow
def test_the_pages_network_loss_and_augmentation_in_every_command(package: Path, toy_corpus: Path) -> None:
    """Trained here; loaded, asked and evaluated in a process that knows nothing but the folder and the trust."""
    out, recipe = package / "exp" / "tiny", package / "tiny.toml"
    train = ["train", toy_corpus, "-o", out, "--recipe", recipe, *WITHOUT, "--device", "cpu", "-q"]
    refused = run(*train, status=2).stderr
    assert "'mypackage.nets:Tiny' is code from outside xvectors" in refused
    assert "add --trust mypackage, set XVECTORS_TRUST=mypackage, or call xvectors.trust('mypackage')" in refused
    assert "mypackage" not in sys.modules
    assert not out.exists()

    run(*train, "--trust", "mypackage")
    described = tomllib.loads((out / "system.toml").read_text())
    assert described["recipe"]["model"] == {"name": "mypackage.nets:Tiny", "channels": 32}
    assert described["recipe"]["loss"]["temperature"] == 0.1
    assert described["code"] == [
        {"key": key, "name": f"mypackage.{name}", "module": f"mypackage.{name.split(':')[0]}",
         "class": name.split(":")[1], "distribution": "mypackage", "version": "1.2"}
        for key, name in [("model.name", "nets:Tiny"), ("loss.name", "losses:NormSoftmax"),
                          ("augment.custom", "effects:hum")]
    ]  # fmt: skip

    script = f"""
import sys
from pathlib import Path
import xvectors
from xvectors.errors import ConfigError
out = {str(out)!r}
try:
    xvectors.SpeakerEncoder.from_pretrained(out)
except ConfigError as error:
    assert "add --trust mypackage" in str(error), error
else:
    raise AssertionError("loaded unasked")
assert "mypackage" not in sys.modules
xvectors.trust("mypackage")
encoder = xvectors.SpeakerEncoder.from_pretrained(out, device="cpu")
a, b = sorted(Path({str(toy_corpus)!r}).rglob("*.flac"))[:2]
print(encoder.verify(a, b).answer)
assert encoder.encode([a, b]).shape == (2, 32)
assert "mypackage.losses" not in sys.modules, "what only training needs is not imported"
result = xvectors.evaluate(out, device="cpu", audio=False)
assert 0 <= result.eer <= 1
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(package)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("same speaker", "different speakers", "cannot tell")


@pytest.mark.slow
def test_the_pages_network_is_exported_to_a_file_that_needs_no_trust(package: Path, clean: None) -> None:
    trust("mypackage")
    recipe = load_recipe(package / "tiny.toml")
    folder = SystemFolder(package / "system")
    model = make_model(recipe, 3)
    write_description(folder, recipe, ["a", "b", "c"])
    write_weights(folder, model.state_dict(), 1)
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    embedding = SpeakerEncoder.from_pretrained(folder.path, device="cpu").encode([wave])
    run("export", folder.path, "-o", package / "tiny.onnx", "--trust", "mypackage")
    extensions._trusted.clear()
    np.testing.assert_allclose(
        SpeakerEncoder.from_pretrained(package / "tiny.onnx").encode([wave]), embedding, atol=1e-4
    )


def test_the_pages_short_names(package: Path) -> None:
    """Entry points need no trust; registered names last as long as the process, and xvectors' own stay."""
    assert find_backbone("tiny").__module__ == "mypackage.nets"
    assert build_model("tiny", num_speakers=3, input_dim=24, channels=8).embedding_dim == 32
    recipe = load_recipe("lab", ["loss.name=norm_softmax", "augment.custom=hum", "augment.custom_prob=1"])
    assert type(make_head(recipe.loss, 8, 3)).__name__ == "NormSoftmax"
    wave = np.zeros(16_000, np.float32)
    hummed = Augmenter(recipe.augment, 16_000)(wave, seed=1)
    assert hummed.max() == pytest.approx(0.01, rel=0.01)
    spectrum = np.abs(np.fft.rfft(hummed))
    assert spectrum.argmax() in (50, 60)
    assert not wave.any()
    with pytest.raises(ConfigError, match="did you mean 'norm_softmax'"):
        load_recipe("lab", ["loss.name=norm_sofmax"])
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        build_model("tyny", num_speakers=3, input_dim=24)


def test_registering(clean: None, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    code = [block for block in blocks("python") if "# mypackage/" in block or "register_backbone" in block]
    exec("\n".join(code), found)
    assert find_backbone("tiny") is found["Tiny"]
    assert isinstance(make_head(LossConfig(name="norm_softmax"), 8, 3), found["NormSoftmax"])
    for name in ("resnet34", "a:b"):
        with pytest.raises(ConfigError, match=f"'{name}' cannot be registered"):
            register_backbone(name)(found["Tiny"])
    with pytest.raises(ConfigError, match="'softmax' cannot be registered"):
        register_loss("softmax")(found["NormSoftmax"])
    with pytest.raises(ConfigError, match=r"derived from xvectors\.models\.Backbone"):
        register_backbone("linear")(nn.Linear)  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="must be called as effect"):
        register_augmentation("wrong")(lambda waveform: waveform)


@pytest.mark.parametrize(
    ("trusted", "name", "message"),
    [
        ("", "mypackage.nets:Tiny", "set XVECTORS_TRUST=mypackage"),
        ("mypackage.losses, other", "mypackage.nets:Tiny", "set XVECTORS_TRUST=mypackage"),
        ("mypack", "mypackage.nets:Tiny", "set XVECTORS_TRUST=mypackage"),
        (
            "mypackage",
            "mypackage.net:Tiny",
            "mypackage.net cannot be imported: No module named 'mypackage.net'; install",
        ),
        (
            "nowhere",
            "nowhere:Tiny",
            "nowhere cannot be imported: No module named 'nowhere'; install its package, or add",
        ),
        ("mypackage", "mypackage.nets:Tinny", "mypackage.nets has no Tinny; did you mean 'Tiny'?"),
        ("mypackage", "mypackage.nets:nn.Linear", "is not a backbone: it must be a class derived from xvectors.models"),
        ("mypackage", "mypackage.effects:hum", "is not a backbone: it must be a class derived from xvectors.models"),
        ("mypackage", "mypackage.nets:", "must have the form module:Name"),
        ("mypackage", "../mypackage:Tiny", "must have the form module:Name"),
        ("os", "os:system", "is not a backbone"),
    ],
)
def test_a_name_that_leads_nowhere(
    package: Path, trusted: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XVECTORS_TRUST", trusted)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        build_model(name, num_speakers=3, input_dim=24)
    assert f"model.name = {name!r}" in str(raised.value)


def test_trusting_a_module_alone(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XVECTORS_TRUST", "other mypackage.nets")
    assert find_backbone("mypackage.nets:Tiny").__name__ == "Tiny"
    with pytest.raises(ConfigError, match=r"loss\.name = 'mypackage\.losses:NormSoftmax' is code from outside"):
        make_head(LossConfig(name="mypackage.losses:NormSoftmax"), 8, 3)
    with pytest.raises(ConfigError, match="'my-package' cannot be trusted"):
        trust("my-package")


class Right(Backbone):
    def __init__(self, num_speakers: int, input_dim: int, *, width: int = 4) -> None:
        super().__init__(num_speakers=num_speakers, input_dim=input_dim, embedding_dim=width, context_frames=1)
        self.linear = nn.Linear(input_dim, width)
        self.classifier = nn.Linear(width, num_speakers)

    def embed_frames(self, x, padding):
        return self.linear(x.mean(dim=1) if padding is None else padding.mean(x))


class NoSpeakers(Right):
    def __init__(self, input_dim: int) -> None:
        super().__init__(3, input_dim)


class OtherSpeakers(Right):
    def __init__(self, num_speakers: int, input_dim: int) -> None:
        super().__init__(num_speakers + 1, input_dim)


class Required(Right):
    def __init__(self, num_speakers: int, input_dim: int, depth: int) -> None:
        super().__init__(num_speakers, input_dim)


class NoClassifier(Right):
    def __init__(self, num_speakers: int, input_dim: int) -> None:
        super().__init__(num_speakers, input_dim)
        self.output, self.classifier = self.classifier, None


class FramesOut(Right):
    def embed_frames(self, x, padding):
        return self.linear(x)


class IgnoresPadding(Right):
    def embed_frames(self, x, padding):
        return super().embed_frames(x, None)


class Tuple(Right):
    def embed_frames(self, x, padding):
        return super().embed_frames(x, padding), x


class EmbeddingOut(Right):
    def classify(self, embedding):
        return embedding


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoSpeakers, "its constructor must take the arguments num_speakers and input_dim; it lacks num_speakers"),
        (OtherSpeakers, "its num_speakers is 4 where 3 was asked for"),
        (Required, "cannot be built: missing a required argument: 'depth'"),
        (NoClassifier, "must have its class layer as the module self.classifier"),
        (FramesOut, "its embed_frames must give embeddings [batch, 4]; for 2 recordings it gave [2, 7, 4]"),
        (IgnoresPadding, "a recording padded in a batch must have the embedding that it has alone"),
        (Tuple, "its embed_frames must give embeddings [batch, 4]; for 2 recordings it gave tuple"),
        (EmbeddingOut, "its classify must give logits [batch, 3]; for 2 recordings it gave [2, 4]"),
    ],
)
def test_a_wrong_backbone_is_told_what_it_breaks(clean: None, cls: type[Backbone], message: str) -> None:
    extensions.BACKBONES.registered["mine"] = cls
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        build_model("mine", num_speakers=3, input_dim=24)
    assert "model.name = 'mine'" in str(raised.value)


def test_a_backbones_settings_are_checked_and_its_random_state_left_alone(clean: None) -> None:
    register_backbone("right")(Right)
    torch.manual_seed(0)
    alone = Right(3, 24)
    after = torch.rand(1)
    torch.manual_seed(0)
    built = build_model("right", num_speakers=3, input_dim=24)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(built.linear.weight, alone.linear.weight)
    assert built.training
    with pytest.raises(ConfigError, match=r"model 'right' has no setting 'widht'; did you mean 'width'"):
        build_model("right", num_speakers=3, input_dim=24, widht=5)
    with pytest.raises(ConfigError, match=r"model\.width must be a whole number, not 'x'"):
        build_model("right", num_speakers=3, input_dim=24, width="x")


class Plain(nn.Module):
    """A loss that takes a margin loss's scale, and nothing else of it."""

    def __init__(self, embedding_dim: int, num_classes: int, *, scale: float = 1.0, power: int = 2) -> None:
        super().__init__()
        self.scale, self.power = scale, power
        self.weight = nn.Parameter(torch.eye(num_classes, embedding_dim))

    def forward(self, embeddings, labels):
        logits = self.scale * embeddings @ self.weight.T
        return nn.functional.cross_entropy(logits, labels), logits


class NoLogits(Plain):
    def forward(self, embeddings, labels):
        return super().forward(embeddings, labels)[0]


class LossPerRow(Plain):
    def forward(self, embeddings, labels):
        _, logits = super().forward(embeddings, labels)
        return nn.functional.cross_entropy(logits, labels, reduction="none"), logits


class Echo(Plain):
    def forward(self, embeddings, labels):
        return embeddings, None


def test_a_loss_of_ones_own_gets_its_settings(clean: None) -> None:
    register_loss("plain")(Plain)
    head = make_head(load_recipe("lab", ["loss.name=plain", "loss.power=3", "loss.scale=5"]).loss, 8, 3)
    assert (head.scale, head.power) == (5.0, 3)
    assert make_head(load_recipe("resnet", ["loss.name=plain"]).loss, 8, 3).scale == 30.0  # not the recipe's 15
    for setting in ("margin=0.3", "pwer=2"):
        with pytest.raises(ConfigError, match=rf"loss\.name = 'plain' has no setting '{setting.partition('=')[0]}'"):
            make_head(load_recipe("lab", ["loss.name=plain", f"loss.{setting}"]).loss, 8, 3)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (NoLogits, "must return two tensors, the loss and the logits"),
        (LossPerRow, r"must return a scalar loss and logits [batch, 3]; for 2 embeddings it gave [2] of torch.float32"),
        (Echo, "its forward(embeddings, labels) must return two tensors"),
        (nn.Bilinear, "cannot be built as Bilinear(embedding_dim, num_classes, ...): missing a required argument"),
        (len, "is not a loss: it must be a class derived from torch.nn.Module"),
    ],
)
def test_a_wrong_loss_is_told_what_it_breaks(clean: None, found: Any, message: str) -> None:
    extensions.LOSSES.registered["mine"] = found
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_head(LossConfig(name="mine"), 8, 3)


def shorter(waveform, sample_rate_hz, generator):
    return waveform[1:]


def integers(waveform, sample_rate_hz, generator):
    return np.zeros(len(waveform), int)


def not_finite(waveform, sample_rate_hz, generator):
    return np.full(len(waveform), np.nan)


def nothing(waveform, sample_rate_hz, generator):
    waveform[:] = 0.0


class Halved:
    def __call__(self, waveform, sample_rate_hz, generator):
        waveform *= 0.5
        return waveform


class Built(Halved):
    def __init__(self, factor):
        self.factor = factor


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            shorter,
            "must return finite floating-point samples [1600], as many as it was given; it returned float32 [1599]",
        ),
        (integers, "it returned int"),
        (not_finite, "must return finite floating-point samples"),
        (nothing, "it returned NoneType"),
        (Built, "a class built without arguments: missing a required argument: 'factor'"),
        (lambda waveform: waveform, "must be called as effect(waveform, sample_rate_hz, generator)"),
        (3, "is not an augmentation: give a function, or a class"),
    ],
)
def test_a_wrong_augmentation_is_told_what_it_breaks(clean: None, found: Any, message: str) -> None:
    extensions.AUGMENTATIONS.registered["mine"] = found
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        Augmenter(AugmentConfig(custom=["mine"], custom_prob=0.5), 16_000)
    assert "augment.custom: 'mine'" in str(raised.value)


def test_augmentations_of_ones_own_are_drawn_each_on_its_own(clean: None) -> None:
    register_augmentation("half")(Halved)
    register_augmentation("again")(Halved)
    augmenter = Augmenter(AugmentConfig(custom=["half", "again"], custom_prob=0.5), 16_000)
    wave = np.ones(100, np.float32)
    levels = [float(augmenter(wave, seed)[0]) for seed in range(400)]
    assert set(levels) == {0.25, 0.5, 1.0}
    # binomial: 100 +- 8.7, 200 +- 10
    assert abs(levels.count(0.25) - 100) < 40
    assert abs(levels.count(0.5) - 200) < 45
    assert wave.all()
    for settings in ({"custom": ["half"]}, {"custom_prob": 0.5}):
        with pytest.raises(ConfigError, match=r"augment\.custom = .* belong together"):
            AugmentConfig(**settings)
    with pytest.raises(ConfigError, match=r"augment\.custom: 'halve' is not known; did you mean 'half'"):
        load_recipe("lab", ["augment.custom=halve", "augment.custom_prob=1"])

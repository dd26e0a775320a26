from __future__ import annotations

import dataclasses
import re

import pytest

from xvectors.config import (
    FeaturesConfig,
    LossConfig,
    Recipe,
    differences,
    load_recipe,
    parse_toml,
    recipe_from_mapping,
    recipe_lines,
    recipe_names,
    recipe_to_mapping,
    settings_of,
    to_toml,
)
from xvectors.config.tables import flatten
from xvectors.errors import ConfigError
from xvectors.models import MODELS, settings_of_model


def test_the_lab_recipe_is_the_exercise() -> None:
    recipe = load_recipe("lab")
    assert dataclasses.asdict(recipe.training) | {"workers": -1} == {
        "epochs": 10,
        "minutes": 0.0,
        "batch_size": 128,
        "accumulate": 1,
        "optimizer": "adam",
        "head_only_share": 0.0,
        "backbone_rate": 1.0,
        "average_width": 0.0,
        "embedding_map": False,
        "large_margin_share": 0.0,
        "momentum": 0.9,
        "final_share": 1e-3,
        "learning_rate": 5e-3,
        "weight_decay": 1e-5,
        "schedule": "constant",
        "warm_up": 0.1,
        "max_gradient_norm": 0.0,
        "precision": "float32",
        "best": "val_accuracy",
        "workers": -1,
        "decoded_mb": 1024,
        "checkpoint_interval_s": 60.0,
        "seed": 0,
    }
    assert (recipe.data.chunk_min_s, recipe.data.chunk_max_s) == (5.0, 5.0)
    assert recipe.features.num_mels == 24
    assert not recipe.features.mean_normalization
    assert not recipe.features.normalize_level
    assert "batch_norm" not in recipe.model.settings


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_survives_toml(name: str) -> None:
    recipe = load_recipe(name)
    text = to_toml(recipe_to_mapping(recipe))
    assert recipe_from_mapping(parse_toml(text, "test"), "test") == recipe


def test_overrides_take_toml_values_and_plain_words() -> None:
    recipe = load_recipe(
        "lab",
        ["training.epochs=3", "training.schedule=one_cycle", "data.keep_sessions=true", "model.size=0.5"],
    )
    assert recipe.training.epochs == 3
    assert recipe.training.schedule == "one_cycle"
    assert recipe.data.keep_sessions is True
    assert recipe.model.settings["size"] == 0.5
    assert load_recipe("lab", ["training.learning_rate=1"]).training.learning_rate == 1.0


def test_another_network_takes_the_settings_of_the_recipes_own_away() -> None:
    recipe = load_recipe("xvector", ["model.channels=32", "model.name=ecapa"])
    assert (recipe.model.name, recipe.model.settings) == ("ecapa", {"channels": 32})
    same = load_recipe("xvector", ["model.name=xvector"])
    assert same.model.settings == load_recipe("xvector").model.settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'training.epochs'?"),
        ("trainig.epochs=3", "unknown key 'trainig'; did you mean 'training'?"),
        ("training.epochs=many", "training.epochs must be a whole number, not 'many'"),
        ("training.epochs=1.5", "training.epochs must be a whole number, not 1.5"),
        ("training.epochs=true", "training.epochs must be a whole number, not True"),
        ("training.epochs=0", "training.epochs = 0 must be at least 1"),
        (
            "training.schedule=one_cicle",
            "training.schedule = 'one_cicle' is not known; did you mean 'one_cycle'?",
        ),
        ("data.chunk_max_s=1", "data.chunk_max_s = 1.0 must be at least data.chunk_min_s"),
        ("data.train_test_prop=1.5", "data.train_test_prop = 1.5 must be above 0 and at most 1, or -1"),
        ("data.train_test_prop=0", "data.train_test_prop = 0.0 must be above 0 and at most 1, or -1"),
        ("training.learning_rate=inf", "training.learning_rate = inf must be above 0"),
        ("training.weight_decay=nan", "training.weight_decay = nan must be at least 0"),
        ("training.warm_up=1", "training.warm_up = 1.0 must be at least 0 and below 1"),
        ("training", "override 'training' must have the form section.key=value"),
        ("training.epochs.x=1", "override 'training.epochs.x=1': 'epochs' is a value, not a section"),
        ("training=3", "training must be a table, not 3"),
        ("model.size=[1, 2.5]", "model.size must be a number, true, false, a string or a list of whole numbers"),
    ],
)
def test_a_wrong_override_names_key_and_remedy(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe("lab", [override])


@pytest.mark.parametrize(
    ("override", "speeds"),
    [
        ("[0.8, 1.2]", (0.8, 1.2)),
        ("[2]", (2.0,)),
        ("0.8,1.2", (0.8, 1.2)),
        ("0.8 1.2", (0.8, 1.2)),
        ('"0.8 1.2"', (0.8, 1.2)),
        ("1.2", (1.2,)),
        ("", ()),
    ],
)
def test_an_override_of_a_list_is_toml_or_separated_by_commas(override: str, speeds: tuple[float, ...]) -> None:
    recipe = load_recipe("lab", [f"augment.speeds={override}"])
    assert recipe.augment.speeds == speeds
    assert recipe_from_mapping(parse_toml(to_toml(recipe_to_mapping(recipe)), "test"), "test") == recipe


def test_an_override_of_a_list_takes_plain_words() -> None:
    for text in ('["gsm", "mp3"]', "[gsm, mp3]", "gsm,mp3"):
        assert load_recipe("lab", [f"augment.codecs={text}"]).augment.codecs == ("gsm", "mp3")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('speeds = "0.9 1.1"', "augment.speeds must be a list of numbers, not '0.9 1.1'; write it as [0.9, 1.1]"),
        ("speeds = 0.9", "augment.speeds must be a list of numbers, not 0.9; write it as [0.9, 1.1]"),
        ('speeds = [0.9, "x"]', "augment.speeds must be a list of numbers, not [0.9, 'x']; write it as [0.9]"),
        ("speeds = [0.9, 3]", "augment.speeds = 3.0 must be between 0.5 and 2"),
        ("speeds = [true]", "augment.speeds must be a list of numbers, not [True]; write it as [0.9, 1.1]"),
        ("speeds = [1]", "augment.speeds holds 1, the speed of the recordings themselves; leave it out"),
        ("speeds = []\nspeed_prob = 0.5", "augment.speeds is empty, but augment.speed_prob is above 0; set augment"),
        ('codecs = "gsm"', "augment.codecs must be a list of strings, not 'gsm'; write it as [\"gsm\"]"),
    ],
)
def test_a_wrong_list_names_key_and_remedy(line: str, message: str, tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(f"[augment]\n{line}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "setting", ["margin=0.3", "large_margin=0.5", "scale=15", "sub_centers=2", "inter_top_k=5", "margin_end=0.9"]
)
def test_settings_that_the_plain_softmax_would_ignore_are_refused(setting: str, tmp_path) -> None:
    key = setting.partition("=")[0]
    message = (
        f"loss.{key} is not a setting of loss.name = 'softmax'; leave it out, or set loss.name to am_softmax or "
        "aam_softmax"
    )
    with pytest.raises(ConfigError, match=f"^recipe xvector: {re.escape(message)}( or sphereface2)?$"):
        load_recipe("xvector", [f"loss.{setting}"])
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe("resnet", [f"loss.{setting}", "loss.name=softmax"])
    (tmp_path / "mine.toml").write_text(f"[loss]\n{setting}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe(tmp_path / "mine.toml")


def test_the_plain_softmax_takes_the_recipes_own_margin_away() -> None:
    recipe = load_recipe("resnet", ["loss.label_smoothing=0.1", "loss.name=softmax"])
    assert recipe.loss == LossConfig(name="softmax", label_smoothing=0.1)
    assert load_recipe("resnet", ["loss.name=am_softmax"]).loss.margin == load_recipe("resnet").loss.margin == 0.1


def test_sphereface2_has_settings_of_its_own(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text('base = "resnet"\n[loss]\nsub_centers = 3\n')
    recipe = load_recipe(tmp_path / "mine.toml", ["loss.name=sphereface2", "loss.margin_type=angle", "loss.margin=1.2"])
    loss = recipe.loss
    assert (loss.margin, loss.sub_centers, loss.positive_weight, loss.similarity_power) == (1.2, 1, 0.7, 3)
    for setting, message in {
        "sub_centers=2": "loss.sub_centers is not a setting of loss.name = 'sphereface2'; leave it out, or set "
        "loss.name to am_softmax or aam_softmax",
        "margin=1.2": "loss.margin = 1.2 must be at least 0 and below 1 with sphereface2",
        "positive_weight=1": "loss.positive_weight = 1.0 must be above 0 and below 1",
        "margin_type=C": "loss.margin_type = 'C' is not known; known are angle, cosine",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_recipe("resnet", ["loss.name=sphereface2", f"loss.{setting}"])
    with pytest.raises(
        ConfigError, match=r"loss\.positive_weight is not a setting of .* set loss\.name to sphereface2$"
    ):
        load_recipe("resnet", ["loss.positive_weight=0.5"])


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'xvektor'; did you mean 'xvector'"):
        load_recipe("xvektor")


def test_a_recipe_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 2\n")
    assert load_recipe(path).name == "mine"
    assert load_recipe(path).training.epochs == 2
    path.write_text("[training\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: not valid TOML"):
        load_recipe(path)


def test_a_base_lies_under_a_recipe_of_ones_own(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text('base = "resnet"\n[training]\nepochs = 2\n[model]\nchannels = 8\n')
    recipe, base = load_recipe(tmp_path / "mine.toml"), load_recipe("resnet")
    assert differences(base, recipe) == ["model.channels: None -> 8", "training.epochs: 60 -> 2"]
    assert (recipe.name, recipe.description) == ("mine", "based on resnet")
    assert "base" not in recipe_to_mapping(recipe)

    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "next.toml").write_text('base = "../mine.toml"\ndescription = "x"\n[training]\nseed = 7\n')
    further = load_recipe(tmp_path / "below" / "next.toml", ["training.epochs=3"])
    assert differences(recipe, further) == ["training.epochs: 2 -> 3", "training.seed: 0 -> 7"]
    assert further.description == "x"


def test_another_network_and_the_plain_softmax_take_the_bases_settings_away(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "starter"\n[model]\nname = "ecapa"\n[loss]\nname = "softmax"\n')
    recipe = load_recipe(path)
    assert (recipe.model.name, recipe.model.settings, recipe.loss) == ("ecapa", {}, LossConfig())
    path.write_text('base = "starter"\n[model]\nname = "thin_resnet"\n[loss]\nmargin = 0.3\n')
    assert load_recipe(path).model.settings == {"channels": 32}
    assert load_recipe(path).loss == dataclasses.replace(load_recipe("starter").loss, margin=0.3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": 'base = "a.toml"'}, "a.toml: base = 'a.toml' leads in a circle: a.toml -> a.toml; remove one"),
        (
            {"a": 'base = "b.toml"', "b": 'base = "a.toml"'},
            "b.toml: base = 'a.toml' leads in a circle: a.toml -> b.toml",
        ),
        (
            {"a": 'base = "resnt"'},
            "a.toml: base = 'resnt' is not a recipe; did you mean 'resnet'?, and no file beside a.toml",
        ),
        ({"a": "base = 3"}, "a.toml: base must be the name of a recipe or a file, not 3"),
        ({"a": 'base = "b.toml"', "b": "[training]\nepoch = 3"}, "b.toml: unknown key 'training.epoch'; did you mean"),
        ({"a": 'base = "resnet"\n[training]\nepoch = 3'}, "a.toml: unknown key 'training.epoch'; did you mean"),
        ({"a": 'base = "resnet"\ntraining = 3'}, "a.toml: training must be a table, not 3"),
        ({"a": 'base = "resnet"\nmodel = 3'}, "a.toml: model must be a table with a name"),
    ],
)
def test_a_wrong_base_names_file_and_remedy(files: dict[str, str], message: str, tmp_path) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_printed_with_every_key_explained_and_read_again(name: str, tmp_path) -> None:
    recipe = load_recipe(name)
    settings = settings_of(recipe, settings_of_model(MODELS[recipe.model.name]))
    keys = [setting.key for setting in settings]
    assert flatten(recipe_to_mapping(recipe)).keys() - set(keys) == {"name"}
    for setting in settings:
        assert re.fullmatch(r"[A-Z].*[.]", setting.explanation), setting
        assert setting.kind, setting
    text = "\n".join(recipe_lines(settings))
    assert len(re.findall(r"^# [A-Z]", text, re.MULTILINE)) == len(keys)
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_of_a_network_is_explained_by_its_docstring(name: str) -> None:
    for setting in settings_of_model(MODELS[name]).values():
        assert re.match(r"[A-Z][^`]* .*[.]$", setting.explanation), setting


def test_differences_name_keys() -> None:
    one, two = load_recipe("lab"), load_recipe("lab", ["training.epochs=3", "model.size=2"])
    assert differences(one, two) == ["model.size: None -> 2", "training.epochs: 10 -> 3"]
    assert differences(one, one) == []


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe(name="x", features=FeaturesConfig()).name = "y"

import functools
import importlib
import json
import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from pictures_of_noise import noise_crop, noise_jpeg

import config_check
import experiment
from configs import (
    aaipr,
    asmr,
    default,
    duke,
    folder,
    jsreid,
    market1501,
    pa100k,
    peta,
    recognition,
    rendered_market,
    sal,
    study_rendered,
    two_stream,
)
from input_pipeline import pipeline, splits
from input_pipeline.attributes import REGIONS
from input_pipeline.augmentation import Augmentation
from input_pipeline.datasets.load import BUILDERS
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.datasets.readers import READERS
from input_pipeline.rendering import render
from input_pipeline.rendering.layouts import LAYOUTS
from jsreid_jax import losses, protocols
from jsreid_jax.errors import ModelError
from jsreid_jax.train_step import LOSS_NAMES

MODULES = {
    "duke": duke,
    "folder": folder,
    "market1501": market1501,
    "pa100k": pa100k,
    "peta": peta,
    "rendered_market": rendered_market,
    "recognition": recognition,
    "two_stream": two_stream,
    "aaipr": aaipr,
    "asmr": asmr,
    "sal": sal,
    "jsreid": jsreid,
}
# What study.py reads: tests/test_study.py.
STUDIES = {"study_rendered", "study_tuning"}
ALL = {
    f"{name}{preset and ':'}{preset}": functools.partial(module.get_config, preset)
    for name, module in MODULES.items()
    for preset in ("", "debug")
}


def field_names(config: ConfigDict, prefix: str = "") -> set[str]:
    names = set()
    for key, value in config.items():
        names |= (
            field_names(value, f"{prefix}{key}.")
            if isinstance(value, ConfigDict)
            else {f"{prefix}{key}"}
        )
    return names


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_a_difference_to_the_default(name):
    config = ALL[name]()
    assert field_names(config) == field_names(default.get_config())
    assert {f"{loss}.weight" for loss in LOSS_NAMES} <= field_names(config.losses)


def test_every_config_file_is_tested(root):
    files = {file.stem for file in (root / "configs").glob("*.py")} - {"__init__", "default"}
    assert files == set(MODULES) | STUDIES
    assert {module.get_config().data.name for module in MODULES.values()} == set(READERS)
    assert set(READERS) == set(BUILDERS) == set(LAYOUTS)


@pytest.mark.parametrize("name", ["default", *MODULES])
def test_docstrings_say_what_a_config_is_of(name):
    module = importlib.import_module(f"configs.{name}")
    assert module.__doc__
    if name != "default":
        assert ("Paper:" in module.__doc__) == (name != "folder")
        assert f"python train.py --config configs/{name}.py" in module.__doc__
    if name in ("duke", "market1501", "pa100k", "peta"):
        assert "unverified" in module.__doc__


def test_every_field_of_the_default_has_a_comment(root):
    text = (root / "configs" / "default.py").read_text()
    lines = text[: text.index("def debug")].splitlines()
    field = re.compile(r"    (config|data|render|model|losses|optimizer|train|evaluation)\.\w+ = ")
    fields = [i for i, line in enumerate(lines) if field.match(line) and "ConfigDict" not in line]
    assert len(fields) > 40

    def is_explained(i: int) -> bool:
        """By a comment above it, or above the lines of the same block that it ends."""
        while field.match(lines[i]):
            i -= 1
        return lines[i].lstrip().startswith("#")

    assert [lines[i] for i in fields if not is_explained(i)] == []


@pytest.mark.parametrize("name", MODULES)
def test_an_unknown_preset_is_refused(name):
    with pytest.raises(ValueError, match=f"'large' of {name}.py"):
        MODULES[name].get_config("large")


@pytest.mark.parametrize("name", MODULES)
def test_debug_reads_a_look_alike_of_its_benchmark(name, tmp_path, monkeypatch):
    """Render, check, prepare, train and rank sets: all that a run asks of the data."""
    monkeypatch.setattr(render, "render_crop", noise_crop)
    monkeypatch.setattr(render, "render_jpeg", noise_jpeg)
    config: Any = MODULES[name].get_config("debug")
    config_check.check_config(config)
    config.data.dir = str(tmp_path / "data")
    data = splits.load_data(config.data)
    assert data.listing.reader == config.data.name and data.listing.is_rendered
    assert data.listing.failed_facts() == []
    train, validation = splits.train_and_validation(
        data, validation_fraction=config.data.validation_fraction, seed=config.seed
    )
    assert len(train.images) >= config.train.batch_size and validation is not None
    batch = next(
        pipeline.train_batches(
            train.images,
            train.attributes,
            train.label,
            group_sizes=data.schema.group_sizes,
            batch_size=config.train.batch_size,
            image_size=experiment.image_size(config),
            augmentation=Augmentation(),
            description_dropout=0.5,
            seed=0,
        )
    )
    assert batch["image"].shape == (config.train.batch_size, 64, 32, 3)
    test = splits.test_set(data)
    assert 0 < test.seen.sum() < len(test.seen) or (~test.seen).all()
    for images in (test, validation):
        task = protocols.create_task("category", experiment.candidates(images))
        assert all(len(row) for row in protocols.rows_of(task.positives))
    description = data.schema.describe(test.categories[0], mention_absent=False)
    assert description and data.schema.parse(description).any()


@pytest.mark.parametrize(("stage", "expected"), [(0, "1 or more"), (3, "1 .the last. to 2")])
def test_attention_looks_at_a_stage_that_there_is(stage, expected):
    config: Any = rendered_market.get_config("debug")
    config.model.attention_stage = stage
    with pytest.raises(ModelError, match=f"attention_stage is {stage}, .*expected {expected}"):
        config_check.check_config(config)


def train_set() -> splits.TrainSet:
    """Three random descriptions of four images each."""
    rng = np.random.default_rng(0)
    categories = rng.choice([-1, 1], (3, MARKET_SCHEMA.num_attributes)).astype(np.int8)
    label = np.arange(12) % 3
    return splits.TrainSet([b""] * 12, categories[label], label, categories)


def test_losses_that_ask_for_the_training_set_get_it():
    people = train_set()

    def options(config):
        return experiment.create_options(config, people, steps_per_epoch=1, num_train_steps=1)

    weights = losses.balanced_weights(people.attributes)
    np.testing.assert_array_equal(options(market1501.get_config()).map_weights, weights)
    np.testing.assert_array_equal(options(asmr.get_config()).categories, people.categories)
    assert options(market1501.get_config()).categories is None


def test_epochs_become_steps_once():
    config = market1501.get_config()
    options = experiment.create_options(
        config, train_set(), steps_per_epoch=10, num_train_steps=2600
    )

    def weights(step):
        return {name: float(schedule(step)) for name, schedule in options.weights.items()}

    alone, joint, adversarial = weights(999), weights(1000), weights(2100)
    assert alone["image_concept"] == joint["image_concept"] == 1.0
    only_attributes = (
        *("attribute_concept", "attribute_head", "description_head"),
        *("consistency", "adversary"),
    )
    assert [alone[name] for name in only_attributes] == [0.0] * 5
    assert joint["attribute_concept"] == 1.0
    assert joint["adversary"] == 0.0
    assert adversarial["adversary"] == pytest.approx(config.losses.adversary.weight)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "attention", "sharp"),
        ("model", "dtype", "float16"),
        ("model", "backbone", "resnet99"),
        ("losses", "generator", "nobody"),
        ("losses", "discriminator_conditioning", "person"),
        ("optimizer", "schedule", "linear"),
        ("optimizer", "name", "lion"),
        ("model", "last_stride", 3),
    ],
)
def test_a_value_that_is_no_choice_is_named(section, field, value):
    config = rendered_market.get_config("debug")
    config[section][field] = value
    with pytest.raises(ModelError, match=rf"config\.{section}\.{field} is {value!r}, expected one"):
        config_check.check_config(config)


def test_differences_between_configs_are_named():
    config = experiment.as_json(rendered_market.get_config())
    assert experiment.differing_fields(config, json.loads(json.dumps(config))) == []
    other = rendered_market.get_config()
    other.optimizer.weight_decay = 0.5
    other.seed = 1
    assert experiment.differing_fields(config, experiment.as_json(other)) == [
        "config.optimizer.weight_decay (0.0001 there, 0.5 now)",
        "config.seed (0 there, 1 now)",
    ]


def test_numbers_and_widths_that_cannot_be_meant_are_named():
    for field, value in [("train.log_every_steps", 0), ("eval.pictured_queries", -1)]:
        config: Any = rendered_market.get_config("debug")
        section, name = field.split(".")
        config[section][name] = value
        with pytest.raises(ModelError, match=rf"config\.{field} is {value}, expected 1 or more"):
            config_check.check_config(config)
    for field, value, sentence in [
        ("optimizer.image_learning_rate", -1.0, "expected 0 or more"),
        ("model.place_prior", -1.0, "expected 0 or more"),
        ("model.place_prior", math.inf, "expected 0 or more"),
        ("model.place_prior", math.nan, "expected 0 or more"),
        ("train.eval_every_epochs", 0.0, "expected more than 0"),
        ("data.dir", "", "expected the folder"),
    ]:
        config = rendered_market.get_config("debug")
        section, name = field.split(".")
        config[section][name] = value
        with pytest.raises(ModelError, match=rf"config\.{field} is .*{sentence}"):
            config_check.check_config(config)
    config = rendered_market.get_config("debug")
    config.seed = -1
    with pytest.raises(ModelError, match=r"config\.seed is -1"):
        config_check.check_config(config)
    config = rendered_market.get_config("debug")
    config.model.projection_widths = (32, 8)
    with pytest.raises(ModelError, match="both ending in the embedding width"):
        config_check.check_config(config)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"eval.rerank": 10}, "eval.rerank is set, but config.model.attention is 'guided'"),
        (
            {"eval.rerank": 10, "model.attention": "guided+conditioned"},
            "losses.conditioned.weight is 0, expected more: attention that was never trained",
        ),
        ({"losses.group_prediction.weight": 0.0}, "losses.group_prediction.weight is 0"),
        (
            {"losses.attribute_head.weight": 0.0, "model.attention": "none"},
            "eval.score is 'fused', but config.losses.attribute_head.weight is 0",
        ),
        ({"losses.cycle.weight": 1.0}, "losses.synthesis.weight is 0"),
        ({"data.description_dropout": 1.0}, "description_dropout is 1, but .*adversary.weight is"),
        ({"eval.fusion_weights": ("small",)}, "fusion_weights is .*, expected numbers"),
        ({"eval.fusion_weights": (-1.0,)}, "expected numbers from 0 on, and finite"),
        ({"eval.fusion_weights": (np.inf,)}, "expected numbers from 0 on, and finite"),
        ({"eval.rerank_weights": ()}, r"rerank_weights is \(\), expected one or more"),
        ({"optimizer.drop_epochs": (-1,)}, "drop_epochs is .*, expected numbers from 0 on"),
        ({"optimizer.drop_factor": -1.0}, "drop_factor is -1.0, expected more than 0, at most 1"),
        ({"model.projection_widths": (32.0, 16.0)}, "expected two or more whole numbers"),
        ({"losses.adversary.weight": -1.0}, "adversary.weight is -1.0, expected 0 or more"),
        ({"losses.arc_face.weight": np.nan}, "arc_face.weight is nan, expected 0 or more"),
        ({"losses.image_concept.start_epoch": np.inf}, "start_epoch is inf, expected 0 or more"),
        ({"losses.adversary.warmup_epochs": np.nan}, "warmup_epochs is nan, expected 0 or more"),
        ({"model.concept_scale": 0.0}, "concept_scale is 0.0, expected more than 0"),
        ({"train.eval_every_epochs": np.inf}, "eval_every_epochs is inf, expected more than 0"),
        (
            {"losses.group_prediction.start_epoch": 9.0},
            "group_prediction.weight is 0 or it begins after config.train.num_epochs",
        ),
        (
            {
                f"losses.{name}.start_epoch": 4.0
                for name in ("attribute_concept", "adversary", "consistency", "contrastive")
            },
            "begins before config.train.num_epochs .4., expected one: descriptions would lie",
        ),
        (
            {"losses.group_prediction.weight": 0.0, "eval.score": "cosine"},
            "attention is 'guided', but config.losses.group_prediction.weight is 0",
        ),
        ({"optimizer.drop_epochs": ("half",)}, "drop_epochs is .*, expected numbers"),
    ],
)
def test_fields_that_do_not_fit_together_are_named(fields, sentence):
    config: Any = rendered_market.get_config("debug")
    with config.ignore_type():
        config.update_from_flattened_dict(fields)
    with pytest.raises(ModelError, match=sentence):
        config_check.check_config(config)


def test_parts_that_a_later_stage_teaches_are_known_to_rest(monkeypatch):
    monkeypatch.setattr(losses, "balanced_weights", lambda attributes: None)
    config: Any = market1501.get_config()
    train_set: Any = SimpleNamespace(attributes=None)

    def found():
        return experiment.create_options(
            config, train_set, steps_per_epoch=10, num_train_steps=3000
        ).first_steps

    descriptions = ("attribute_stream/mlp", "attribute_stream/token_norm", "attribute_head")
    rest = dict.fromkeys(descriptions, 1000)
    assert found() == rest
    # Tokens ask for maps from the start; without maps they rest as all that descriptions teach.
    config.model.attention = "none"
    assert found() == rest | {"attribute_stream/tokens": 1000}
    config.model.attention = "guided"
    config.optimizer.name = "sgd"
    assert found() == {}
    config = rendered_market.get_config()
    assert found() == {}


def test_a_study_is_no_config_of_a_run():
    with pytest.raises(ModelError, match=r"has no field data.*a study is for study\.py"):
        config_check.check_config(study_rendered.get_config())


def test_the_config_and_the_schema_tell_where_attention_begins():
    config = rendered_market.get_config()
    config.model.place_prior = 1.5
    embedder = experiment.create_embedder(config, MARKET_SCHEMA, 3)
    regions = dict(zip(MARKET_SCHEMA.group_names, embedder.group_regions, strict=True))
    assert embedder.place_prior == 1.5
    assert regions["hat"] == REGIONS["head"]
    assert regions["handbag"] == REGIONS["hand"]
    assert regions["gender"] == REGIONS["whole"]


def test_a_stored_config_may_be_older_but_not_strange(tmp_path):
    stored = experiment.as_json(rendered_market.get_config())
    del stored["model"]["concept_scale"], stored["model"]["place_prior"]
    config = experiment.stored_config(stored, source=tmp_path)
    assert config.model.concept_scale == default.get_config().model.concept_scale
    # Attention began anywhere before it could be told where.
    assert config.model.place_prior == 0.0
    assert config.model.backbone == "resnet_small"
    stored["model"]["wings"] = 2
    with pytest.raises(ModelError, match='Key "wings" does not exist'):
        experiment.stored_config(stored, source=tmp_path)


def test_json_files_are_whole_or_refused(tmp_path):
    file = tmp_path / "x.json"
    experiment.write_json(file, {"a": 1})
    assert experiment.read_json(file) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    for content in ("[]", "{", ""):
        file.write_text(content)
        with pytest.raises(ModelError, match=r"x\.json"):
            experiment.read_json(file)


def test_a_loss_that_would_never_count_is_refused_when_trained_alone():
    config: Any = rendered_market.get_config()
    config.train.num_epochs = 2
    with pytest.raises(
        ModelError, match=r"losses\.adversary has a weight and begins at epoch 2, b"
    ):
        config_check.check_training(config)
    # What has been trained can be evaluated.
    config_check.check_config(config)
    config.losses.adversary.start_epoch = 1.5
    config_check.check_training(config)


def test_one_image_on_a_device_has_no_company():
    config: Any = rendered_market.get_config()
    experiment._check_company(config, rows=1)
    config.losses.conditioned.weight = 1.0
    experiment._check_company(config, rows=2)
    with pytest.raises(ModelError, match=r"1 image on each of .*config\.losses\.conditioned s"):
        experiment._check_company(config, rows=1)

"""The whole way, as a user goes it: render, train, kill, resume, evaluate, export; and misuse."""

import base64
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import experiment
import train
import trained_model
from configs import rendered_market
from input_pipeline.attributes import Group, Schema
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA
from input_pipeline.whole_folder import LOCK_NAME, only_writer
from jsreid_jax.checkpoints import write_checksums
from jsreid_jax.errors import ModelError

CONFIG = "configs/rendered_market.py:debug"

# As in conftest: compiling small programs well takes longer than running them badly.
ENVIRONMENT = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def command(script: str, *arguments) -> list[str]:
    return [sys.executable, script, *map(str, arguments)]


def run(root: Path, script: str, *arguments, exit_code: int = 0) -> str:
    """Run a script of the project and return what it said; its exit code must be as given."""
    done = subprocess.run(
        command(script, *arguments),
        cwd=root,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == exit_code, said[-4000:]
    return said


_forking: dict[str, subprocess.Popen] = {}


def forking(root: Path, script: str) -> subprocess.Popen:
    """tests/forking.py of a script, started once."""
    if script not in _forking:
        _forking[script] = subprocess.Popen(
            command("tests/forking.py", script),
            cwd=root,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    return _forking[script]


@pytest.fixture(scope="module", autouse=True)
def end_forking():
    yield
    for server in _forking.values():
        server.communicate()
    _forking.clear()


def refused(root: Path, script: str, *arguments) -> str:
    """The one sentence with which a script refuses; no stack trace."""
    server = forking(root, script)
    assert server.stdin is not None and server.stdout is not None
    print(json.dumps([str(argument) for argument in arguments]), file=server.stdin, flush=True)
    answer = json.loads(server.stdout.readline())
    said = answer["said"]
    assert answer["exit_code"] == 2, said[-4000:]
    assert "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def train_arguments(workdir: Path, data: Path) -> list:
    return ["--config", CONFIG, "--workdir", workdir, f"--config.data.dir={data}"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Rendered by the first training run; all tests of this file read it."""
    return tmp_path_factory.mktemp("data") / "rendered"


@pytest.fixture(scope="module")
def trained(root, data, tmp_path_factory) -> Path:
    """The workdir of an undisturbed debug run."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    said = run(root, "train.py", *train_arguments(workdir, data), "--profile=3")
    assert "ETA" in said
    assert "Embedder:" in said
    return workdir


def last_checkpoint(workdir: Path) -> Path:
    steps = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
    return workdir / "checkpoints" / str(max(steps))


def saved_arrays(checkpoint: Path) -> dict[str, bytes]:
    """Every array of a checkpoint, without the code under test."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((checkpoint / "state").absolute())
    flat = ocp.tree.to_flat_dict(tree)
    return {"/".join(map(str, k)): np.asarray(v).tobytes() for k, v in flat.items()}


def test_a_run_leaves_what_it_promises(trained):
    names = {p.name for p in trained.iterdir()}
    assert {"config.json", "checkpoints", "finished.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert list((trained / "profile").rglob("*.xplane.pb"))
    config = json.loads((trained / "config.json").read_text())
    assert config["model"]["backbone"] == "resnet_tiny"
    finished = json.loads((trained / "finished.json").read_text())
    assert last_checkpoint(trained).name == str(finished["step"])
    assert (trained / "checkpoints" / str(finished["best_step"])).is_dir()
    assert finished["seconds"] > 0
    told = json.loads((last_checkpoint(trained) / "meta" / "metadata").read_text())
    best = np.mean(told["best_validation"]["average_precisions"])
    own = told["validation"]["mAP"]
    assert best >= own or best == pytest.approx(own)
    # Debug validates twice, and of the same mAP the later one is chosen.
    assert (best > own and best != pytest.approx(own)) or finished["best_step"] == finished["step"]


def test_a_finished_run_ends_at_once(root, trained, data):
    before = sorted(p.name for p in trained.rglob("*"))
    said = run(root, "train.py", *train_arguments(trained, data))
    assert "finished" in said
    assert sorted(p.name for p in trained.rglob("*")) == before


def test_killed_at_a_random_step_it_ends_bit_identical(root, trained, data, tmp_path):
    workdir = tmp_path / "killed"
    final_step = int(last_checkpoint(trained).name)
    rng = random.Random(os.urandom(8))
    kill_after = rng.randrange(1, final_step)
    process = subprocess.Popen(
        command("train.py", *train_arguments(workdir, data)),
        cwd=root,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        step = line.partition("] [")[2].partition("]")[0]
        if "train/" in line and int(step) >= kill_after:
            break
    time.sleep(rng.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    has_checkpoint = any(p.name.isdigit() for p in (workdir / "checkpoints").iterdir())
    said = run(root, "train.py", *train_arguments(workdir, data))
    print(f"killed after step {kill_after}, checkpoint: {has_checkpoint}")
    assert ("Resuming from" in said) == has_checkpoint
    assert saved_arrays(last_checkpoint(workdir)) == saved_arrays(last_checkpoint(trained))
    # Also what has been seen so far, by which the checkpoint is chosen.
    told, undisturbed = (
        (
            json.loads((last_checkpoint(folder) / "meta" / "metadata").read_text()),
            json.loads((folder / "finished.json").read_text()),
        )
        for folder in (workdir, trained)
    )
    assert told[0]["best_validation"] == undisturbed[0]["best_validation"]
    assert told[1]["best_step"] == undisturbed[1]["best_step"]


def test_other_validation_images_are_not_compared_with(caplog):
    told = {"best_validation": {"of": "a", "average_precisions": [0.5, 0.25]}}
    assert train.highest_validation(told, "a") == [0.5, 0.25]
    for begun in ({}, {"best_validation": None}):
        assert train.highest_validation(begun, "a") == []
    assert not caplog.records
    assert train.highest_validation(told, "b") == []
    assert "not those that this run has been judged by" in caplog.text


def test_a_run_does_not_go_on_with_other_data(root, trained, data, tmp_path):
    workdir, folder = tmp_path / "run", tmp_path / "data"
    shutil.copytree(trained, workdir)
    (workdir / "finished.json").unlink()
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("prepared"))
    first, second, *_ = sorted((folder / "bounding_box_train").glob("*.jpg"))
    first.write_bytes(second.read_bytes())
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["dir"] = str(folder)
    (workdir / "config.json").write_text(json.dumps(config))
    message = refused(root, "train.py", *train_arguments(workdir, folder))
    assert f"{folder}: the training data differs" in message


@pytest.fixture(scope="module")
def bundle(root, trained, tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    arguments = ("--workdir", trained, "--export_dir", folder, "--split", "test")
    return folder, run(root, "eval.py", *arguments)


def test_evaluation_writes_numbers_and_a_picture(trained, bundle):
    said = bundle[1]
    report = json.loads((trained / "eval_test" / "metrics.json").read_text())
    assert report["protocol"] == "category"
    assert set(report["metrics"]) == {"all", "seen", "unseen"}
    everything = report["metrics"]["all"]
    forms = {"mAP", "mAP_step", "mAP_trapezoid"}
    ranks = {"rank1", "rank5", "rank10", "rank20"}
    assert set(everything) == ranks | forms | {"mINP", "valid_queries"}
    assert everything["mAP"] == everything["mAP_step"] != everything["mAP_trapezoid"]
    assert everything["valid_queries"] == report["queries"]
    counts = [report["metrics"][part]["valid_queries"] for part in ("seen", "unseen")]
    assert sum(counts) == report["queries"]
    assert f"{100 * everything['mAP']:.1f}" in said
    low, high = report["intervals"]["all"]["rank1"]
    assert low <= everything["rank1"] <= high
    assert [point["known"] for point in report["partial"]["curve"]] == list(range(1, 13))
    whole = report["partial"]["curve"][-1]
    assert whole["all"] == everything and whole["unseen"] == report["metrics"]["unseen"]
    assert set(report["wrong_top1"]["groups"]) == set(MARKET_SCHEMA.group_names)
    asked = {row["group"] for row in report["single_groups"]}
    assert asked == set(MARKET_SCHEMA.group_names)
    # The checkpoint from before the adversary's first step was kept, and is not the newest two.
    before = report["modalities"]["before"]["step"]
    assert before == json.loads((trained / "finished.json").read_text())["step"] // 4
    assert (trained / "checkpoints" / str(before)).is_dir()
    page = (trained / "eval_test" / "report.html").read_text()
    # Four lists of four images; four images with a map for each group.
    assert "category" in page and page.count("data:image/jpeg") == 16 + 4 * (1 + 12)
    assert (
        "before the adversary"
        in base64.b64decode(
            page.split('class="wide" src="data:image/svg+xml;base64,')[1].split('"')[0]
        ).decode()
    )
    picture = (trained / "eval_test" / "ranked_lists.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_a_bundle_evaluates_to_the_same_numbers(root, trained, bundle, tmp_path):
    folder, _ = bundle
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "variables"]
    assert "best_validation" not in json.loads((folder / "config.json").read_text())
    run(root, "eval.py", "--checkpoint", folder, "--output_dir", tmp_path / "out")
    of_bundle = json.loads((tmp_path / "out" / "metrics.json").read_text())
    of_run = json.loads((trained / "eval_test" / "metrics.json").read_text())
    # A bundle holds one moment of the training.
    assert of_run["modalities"].pop("before") and of_bundle["modalities"].pop("before") is None
    assert of_bundle == of_run


def test_a_damaged_bundle_or_one_of_other_variables_is_refused(bundle, tmp_path, monkeypatch):
    """In this process, whose devices are made already."""
    monkeypatch.setattr(experiment, "set_up_devices", lambda *args, **kwargs: None)
    folder = tmp_path / "damaged"
    shutil.copytree(bundle[0], folder)
    files = [file for file in (folder / "variables").rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0x20
    largest.write_bytes(content)
    with pytest.raises(ModelError, match=rf"this bundle is damaged \(.*{largest.name}"):
        trained_model.load_bundle(folder)
    content[len(content) // 2] ^= 0x20
    largest.write_bytes(content)
    trained_model.load_bundle(folder)
    file = folder / "config.json"
    described = json.loads(file.read_text())
    for change, sentence in (
        ({"variables_checksum": "0"}, "are not those that config.json was written with"),
        ({"seen_categories": ["+-"]}, "seen_categories does not read"),
        ({"seen_categories": "abc"}, "seen_categories does not read"),
    ):
        file.write_text(json.dumps(described | change))
        with pytest.raises(ModelError, match=sentence):
            trained_model.load_bundle(folder)


def test_a_flag_that_would_not_count_is_refused(root, bundle):
    message = refused(
        root, "eval.py", "--checkpoint", bundle[0], "--query", "female", "--split", "validation"
    )
    assert "--split would not count" in message


def test_checkpoints_without_their_config_are_not_gone_on_with(trained, tmp_path):
    config: Any = experiment.stored_config(
        experiment.read_json(trained / "config.json"), source=trained
    )
    shutil.copytree(trained, tmp_path / "run")
    experiment.check_workdir(config, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has checkpoints but no config\.json"):
        experiment.check_workdir(config, tmp_path / "run")


def test_another_protocol_and_a_typed_query(root, bundle, data, tmp_path):
    """One process is started for each, from the bundle alone."""
    folder, _ = bundle
    out = tmp_path / "per_image"
    arguments = ["--checkpoint", folder, "--output_dir", out]
    said = run(root, "eval.py", *arguments, "--protocol", "per_image")
    report = json.loads((out / "metrics.json").read_text())
    assert report["protocol"] == "per_image" and "protocol per_image" in said
    assert report["queries"] == len(list((data / "query").glob("*.jpg")))
    gallery = [p for p in (data / "bounding_box_test").glob("*.jpg") if p.name[:4].isdigit()]
    assert report["gallery"] == len([p for p in gallery if not p.name.startswith("0000")])

    out = tmp_path / "query"
    arguments = ["--checkpoint", folder, "--output_dir", out, "--top", "5"]
    said = run(root, "eval.py", *arguments, "--query", "female, long hair, red upper")
    assert "gender: female, hair: long, upper_colour: red" in said and "left open: age" in said
    ranking = json.loads((out / "ranking.json").read_text())
    assert ranking["understood"] == {"gender": "female", "hair": "long", "upper_colour": "red"}
    assert [image["rank"] for image in ranking["images"]] == [1, 2, 3, 4, 5]
    scores = [image["score"] for image in ranking["images"]]
    assert scores == sorted(scores, reverse=True)
    assert all((data / image["file"]).is_file() for image in ranking["images"])
    assert (out / "ranked_lists.png").read_bytes().startswith(b"\x89PNG")
    message = refused(root, "eval.py", *arguments, "--query", "purple cape")
    assert "unknown word 'cape' in the description" in message


def test_validation_categories_are_ranked_too(root, trained, data):
    run(root, "eval.py", "--workdir", trained, "--split", "validation", "--which", "last")
    report = json.loads((trained / "eval_validation_last" / "metrics.json").read_text())
    assert report["split"] == "validation"
    assert report["metrics"]["seen"]["valid_queries"] == 0
    assert report["metrics"]["seen"]["mAP"] is None
    assert report["metrics"]["unseen"]["mAP"] == report["metrics"]["all"]["mAP"]


def test_a_diverging_run_stops_with_step_and_loss(root, data, tmp_path):
    arguments = [*train_arguments(tmp_path / "run", data), "--config.losses.temperature=1e-45"]
    message = refused(root, "train.py", *arguments)
    assert "step 1: contrastive_loss is nan, expected a finite number" in message
    assert not (tmp_path / "run" / "finished.json").exists()


def test_the_first_loss_that_went_bad_is_named():
    good = {"b_loss": 1.0, "embedder_loss": 2.0, "gradient_norm": 3.0, "parameter_norm": 4.0}
    assert train.summarise([good, good | {"b_loss": 3.0}], 8)["train/b_loss"] == 2.0
    for bad, named in [
        ({"b_loss": math.nan, "embedder_loss": math.nan, "gradient_norm": math.nan}, "b_loss"),
        ({"parameter_norm": math.inf}, "parameter_norm"),
    ]:
        with pytest.raises(ModelError, match=f"step 7: {named} is "):
            train.summarise([good, good | bad, good | dict.fromkeys(good, math.nan)], 8)


def test_a_trace_of_more_steps_than_are_left_is_not_begun(tmp_path):
    assert train.traces(tmp_path, 7, 12, 0) == []
    assert train.traces(tmp_path, 7, 12, 1) == []
    [trace] = train.traces(tmp_path, 6, 12, 1)
    for step in range(7, 11):
        trace(step)
    assert not (tmp_path / "profile").exists()


def test_a_collapsed_game_is_warned_of_once():
    watch = train.GameWatch()

    def see(accuracy, weight=1.0, steps=100):
        means = {"train/discriminator_accuracy": accuracy, "train/adversary_weight": weight}
        return watch.see(means, steps)

    assert see(1.0) == ""
    assert "never errs (accuracy 1.000) for 200 steps" in see(1.0)
    assert see(1.0) == ""
    assert see(0.8) == see(0.5) == ""
    assert "guesses" in see(0.5)
    assert [see(1.0, weight=0.0) for _ in range(5)] == [""] * 5

    features = {"train/feature_discriminator_accuracy": 1.0, "train/synthesis_weight": 1.0}
    both = features | {"train/discriminator_accuracy": 0.8, "train/adversary_weight": 1.0}
    assert watch.see(both, 100) == ""
    assert "of made features never errs" in (said := watch.see(both, 100))
    assert "config.losses.synthesis.weight" in said


def test_another_config_in_the_workdir_is_refused(root, trained, data):
    before = (trained / "config.json").read_bytes()
    message = refused(
        root, "train.py", *train_arguments(trained, data), "--config.model.attention_width=4"
    )
    assert "config.model.attention_width (8 there, 4 now)" in message
    assert (trained / "config.json").read_bytes() == before


def test_a_second_run_in_the_workdir_is_refused(root, trained, data, tmp_path):
    with only_writer(tmp_path / "checkpoints"):
        message = refused(root, "train.py", *train_arguments(tmp_path, data))
    assert "another process is writing there" in message
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.data.no_such_field=1"], "no_such_field"),
        (["--config.train.batch_size=many"], "batch_size"),
        (["--config.train.batch_size=15", "--config.num_cpu_devices=2"], "set it to 14 or 16"),
        (["--config.model.backbone=resnet99"], "config.model.backbone is 'resnet99'"),
        (["--config.model.pretrained=a.pth"], "no such files of config.model.backbone 'resnet_t"),
        (
            ["--config.model.pretrained=/no/a.pth", "--config.model.backbone=resnet18"],
            "/no/a.pth: cannot be read (No such file or directory); expected the weights of",
        ),
        (["--config.train.log_every_steps=0"], "log_every_steps is 0, expected 1 or more"),
        (["--config.data.dir=/nowhere", "--config.data.render.train_persons=0"], "/nowhere"),
        (["--no_such_flag"], "no_such_flag"),
    ],
)
def test_bad_arguments_are_one_sentence_and_leave_nothing(
    root, data, trained, tmp_path, arguments, sentence
):
    workdir = tmp_path / "run"
    message = refused(root, "train.py", *train_arguments(workdir, data), *arguments)
    assert sentence in message
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("train.py", ["--config", "configs/missing.py", "--workdir", "x"], "configs/missing.py"),
        ("train.py", ["--config", "Makefile", "--workdir", "x"], "--config Makefile"),
        ("train.py", ["--config", CONFIG, "--workdir", "Makefile/run"], "Makefile"),
        ("train.py", ["--config", CONFIG], "workdir"),
        ("eval.py", ["--workdir", "/nowhere"], "/nowhere"),
        ("eval.py", ["--checkpoint", "/nowhere"], "/nowhere/config.json: does not read"),
        ("eval.py", [], "either --workdir or --checkpoint"),
    ],
)
def test_bad_paths_are_one_sentence(root, script, arguments, sentence):
    assert sentence in refused(root, script, *arguments)


def test_a_bad_image_is_named_and_can_be_skipped(root, data, trained, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("prepared"))
    victim = sorted((folder / "bounding_box_train").glob("*.jpg"))[3]
    victim.write_bytes(victim.read_bytes()[:200])
    arguments = [
        *train_arguments(tmp_path / "run", folder),
        "--config.data.render.train_persons=0",
    ]
    assert victim.name in refused(root, "train.py", *arguments)
    assert not (tmp_path / "run").exists()
    said = run(
        root,
        "train.py",
        *arguments,
        "--config.data.skip_bad_images=True",
        "--config.train.num_epochs=1",
        "--config.losses.adversary.start_epoch=0",
    )
    assert f"Left out 1 image(s) that do not decode: bounding_box_train/{victim.name}" in said


def test_a_checkpoint_of_another_model_is_refused(root, trained, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["model"]["projection_widths"] = [16, 16]
    (workdir / "config.json").write_text(json.dumps(config))
    message = refused(root, "eval.py", "--workdir", workdir)
    assert "of another model" in message
    assert "projection" in message


def test_arrays_that_do_not_read_are_one_sentence(root, trained, tmp_path):
    """In a process of its own: a failed restore leaves readers of orbax behind."""
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    damaged = [f for f in (workdir / "checkpoints").rglob("d/*") if f.is_file()]
    assert damaged
    for file in damaged:
        file.write_bytes(file.read_bytes()[:20])
    # As if they had been written so: other harm is found before anything is read.
    for checkpoint in (workdir / "checkpoints").iterdir():
        write_checksums(checkpoint)
    assert "this checkpoint does not read" in refused(root, "eval.py", "--workdir", workdir)


def test_a_run_whose_checkpoints_are_all_damaged_says_so_before_it_begins_anew():
    checkpoints: Any = SimpleNamespace(set_aside=["9: is damaged"], latest_step=lambda: None)
    nothing: Any = None
    with pytest.raises(ModelError, match=r"9: is damaged; no other is left, .*to begin at step 0"):
        train.resume(checkpoints, nothing, {}, "data")


def test_what_a_config_will_not_learn_from_this_data_is_told(caplog):
    config: Any = rendered_market.get_config()
    sided = Schema("mine", (Group("bag", ("left hand", "right hand", "none_of_it")),))
    data: Any = SimpleNamespace(schema=sided, data_dir="mine", has=lambda split: True)
    train._warn_of_doubts(config, data, None)
    assert "mine has images of the split 'val'" in caplog.text
    assert "bag of mine may tell left from right" in caplog.text
    caplog.clear()
    config.data.flip, config.eval.mirror = 0.0, False
    validation: Any = SimpleNamespace(categories=np.zeros((9, 3)))
    train._warn_of_doubts(config, data, validation)
    assert "asks for 9 description(s)" in caplog.text and "left" not in caplog.text
    caplog.clear()
    validation.categories = np.zeros((10, 3))
    data.schema = MARKET_SCHEMA
    train._warn_of_doubts(rendered_market.get_config(), data, validation)
    assert not caplog.text


def test_a_bundle_alone_is_written_without_an_evaluation(root, trained, tmp_path):
    said = run(root, "eval.py", "--workdir", trained, "--export_dir", tmp_path / "bundle")
    assert "Bundle written" in said and "protocol" not in said


def test_fields_of_another_machine_can_be_changed_and_no_others(root, trained, bundle, tmp_path):
    arguments = ("--workdir", trained, "--output_dir", tmp_path)
    fields = ("--config.num_cpu_devices=1", "--config.eval.batch_size=5")
    run(root, "eval.py", *arguments, *fields, f"--config.data.prepared_dir={tmp_path / 'here'}")
    assert any((tmp_path / "here").iterdir())
    numbers, before = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path, trained / "eval_test")
    )
    # Other batches round otherwise, which can change a place or two.
    assert numbers["queries"] == before["queries"] and numbers["step"] == before["step"]
    once = 1.001 / before["metrics"]["all"]["valid_queries"]
    assert abs(numbers["metrics"]["all"]["rank1"] - before["metrics"]["all"]["rank1"]) < once
    said = refused(root, "eval.py", *arguments, "--config.data.labels=other.csv")
    assert "--config.data.labels would not count, it is of the folder --data_dir" in said
    said = refused(root, "eval.py", *arguments, "--config.eval.batch_size=0")
    assert "config.eval.batch_size is 0, expected 1 or more" in said
    said = refused(root, "eval.py", *arguments, "--config.model.dtype=bfloat16")
    assert "config.model.dtype" in said

"""Studies: what is refused, what runs in which order, and what the tables say of it."""

import csv
import fcntl
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

import command_line
import experiment
from configs import study_rendered, study_tuning
from input_pipeline.errors import DataError
from input_pipeline.whole_folder import only_writer
from jsreid_jax import comparison
from jsreid_jax.checkpoints import Checkpoints
from jsreid_jax.errors import ModelError
from jsreid_jax.retrieval import MEANS
from studies import results, running, tables
from studies.plan import plan

DEBUG = "configs/rendered_market.py:debug"
DESCRIPTIONS = ["male", "female, red top", "male, hat", "female"]
SEEN = np.array([True, True, False, False])


@pytest.fixture(autouse=True)
def in_root(root, monkeypatch):
    """Config files are named from here."""
    monkeypatch.chdir(root)


def study(**fields) -> Any:
    """Two runs with two seeds, and the given fields instead of that."""
    config: Any = ConfigDict(
        {
            "name": "small",
            "title": "Small",
            "question": "Does it work?",
            "reference": "a",
            "runs": (
                {"name": "a", "config": DEBUG, "overrides": ()},
                {"name": "b", "config": DEBUG, "overrides": ("losses.contrastive.weight=0.5",)},
            ),
            "seeds": (0, 3),
            "overrides": ("train.num_epochs=2",),
            "protocol": "category",
        }
    )
    config.update(fields)
    return config


def queries(value: float, descriptions=DESCRIPTIONS) -> comparison.Queries:
    """Every metric of query q is value + q / 100, but of the last query nothing is known."""
    values = value + np.arange(len(descriptions)) / 100
    values[-1] = np.nan
    return comparison.Queries(descriptions, SEEN, dict.fromkeys(MEANS, values))


class FakeRuns:
    """In the place of `running.run_command`: leaves what train.py and eval.py would."""

    def __init__(self, monkeypatch):
        self.ran: list[str] = []
        self.fails: set[str] = set()
        self.descriptions: dict[str, list[str]] = {}
        self.code: dict[str, str] = {}
        monkeypatch.setattr(running, "run_command", self)

    def __call__(self, command, log, *, stopped, lock):
        assert os.fstat(lock) and not stopped
        script, workdir = Path(command[1]).name, Path(command[command.index("--workdir") + 1])
        name = f"{workdir.parent.name}{workdir.name.removeprefix('seed_')}"
        self.ran.append(f"{script} {name}")
        with log.open("a") as out:
            out.write(f"{script} says\n")
            if name in self.fails:
                out.write("error: it has failed\n")
                return 2
        workdir.mkdir(parents=True, exist_ok=True)
        if script == "train.py":
            left = {
                "step": 10,
                "best_step": 5,
                "seconds": 7.5,
                "code": [self.code.get(name, "abc")],
            }
            experiment.write_json(workdir / "finished.json", left)
            return 0
        out = Path(command[command.index("--output_dir") + 1])
        out.mkdir(exist_ok=True)
        score = 0.5 + 0.1 * name.startswith("b") + 0.02 * name.endswith("3")
        scored = queries(score, self.descriptions.get(name, DESCRIPTIONS))
        experiment.write_text(out / "per_query.csv", comparison.as_csv(scored))
        metrics: dict[str, Any] = {"gallery": 9, "average_precision": "step", "step": 5}
        metrics["queries"] = len(scored.descriptions)
        # As of runs b, which use a joint space, and a, which do not.
        metrics["modalities"] = {"probe": 0.75} if name.startswith("b") else None
        experiment.write_json(out / "metrics.json", metrics)
        return 0


@pytest.fixture
def fake(monkeypatch) -> FakeRuns:
    return FakeRuns(monkeypatch)


def carry_out(config, workdir, stopped=()) -> bool:
    runs = plan(config, workdir)
    with only_writer(workdir / "runs" / "any", wait=False) as lock:
        return running.carry_out(
            config, runs, workdir, command="python study.py", stopped=stopped, lock=lock
        )


# --- Numbers --------------------------------------------------------------------------------------


def test_the_interval_is_that_of_all_possible_draws():
    """Two seeds and four queries can be drawn in 4 x 256 equally likely ways."""
    rng = np.random.default_rng(0)
    values, reference = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    difference = values - reference
    draws = [
        difference[np.ix_(seeds, columns)].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for columns in itertools.product(range(4), repeat=4)
    ]
    mean, low, high = comparison.paired_difference(values, reference)
    assert mean == pytest.approx(difference.mean())
    spread = np.std(draws)
    assert low == pytest.approx(np.quantile(draws, 0.025), abs=0.1 * spread)
    assert high == pytest.approx(np.quantile(draws, 0.975), abs=0.1 * spread)
    assert comparison.paired_difference(values, reference) == (mean, low, high)


def test_pairing_sees_what_two_single_intervals_would_not():
    """Queries differ a lot, the runs by little on each; a difference of seeds alone widens it."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(size=200)
    noise = rng.normal(scale=0.01, size=(3, 200))
    mean, low, high = comparison.paired_difference(hard + 0.01 + noise, np.tile(hard, (3, 1)))
    assert 0 < low < mean < high < 0.02
    by_seed = np.array([[-0.05], [0.01], [0.07]])
    _, low, high = comparison.paired_difference(hard + by_seed, np.tile(hard, (3, 1)))
    assert low < 0 < high


def test_queries_that_ask_the_same_are_one_piece_of_evidence():
    rng = np.random.default_rng(2)
    values, reference = rng.normal(size=(2, 3, 40))
    once = comparison.paired_difference(values, reference)
    often = np.repeat(values, 4, axis=1), np.repeat(reference, 4, axis=1)
    asked = [f"description {place:02d}" for place in np.repeat(np.arange(40), 4)]
    assert comparison.paired_difference(*often, descriptions=asked) == pytest.approx(once)
    alone = comparison.paired_difference(*often)
    assert alone[2] - alone[1] < once[2] - once[1]
    for texts in (asked[::4], asked[::-4]):
        assert comparison.paired_difference(values, reference, descriptions=texts) == once
    assert np.isnan(comparison.paired_difference(*often, descriptions=["a"] * 160)[1:]).all()


def test_a_later_checkpoint_is_chosen_unless_it_is_told_from_the_best():
    rng = np.random.default_rng(3)
    first = rng.uniform(size=100)
    noise = rng.normal(scale=0.1, size=100)
    noise -= noise.mean()  # with it, the standard error of a difference is about 0.01
    is_chosen, best = comparison.choose(first, [])
    assert is_chosen and best == first.tolist()
    for change, expected in ((0.001, True), (-0.005, True), (-0.02, False)):
        is_chosen, now = comparison.choose(first + noise + change, best)
        assert is_chosen == expected, change
        assert now == ((first + noise + change).tolist() if change > 0 else best)
    # Small steps down, each of which alone could be luck, do not add up.
    chosen = [comparison.choose(first + noise - 0.002 * step, best)[0] for step in range(20)]
    assert chosen[4] and not any(chosen[8:])
    # No luck in it: every description is a little worse.
    assert not comparison.choose(first - 1e-6, best)[0]
    assert comparison.choose(first[:1] - 1e-6, first[:1].tolist()) == (False, first[:1].tolist())
    assert comparison.choose(first, first.tolist())[0]


def test_what_is_not_known_is_nan():
    nan = float("nan")
    mean, low, high = comparison.paired_difference(
        np.array([[1.0, nan, 1.0], [0.0, 0.0, nan]]), np.zeros((2, 3))
    )
    assert mean == 0.5 and np.isnan([low, high]).all()
    assert np.isnan(comparison.paired_difference(np.full((2, 3), nan), np.zeros((2, 3)))).all()
    assert np.isnan(comparison.paired_difference(np.zeros((2, 0)), np.zeros((2, 0)))).all()
    mean, deviation = comparison.mean_and_deviation([0.5])
    assert mean == 0.5 and np.isnan(deviation)
    assert comparison.mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert np.isnan(comparison.mean_and_deviation([])).all()


def test_queries_survive_their_file():
    before = queries(1 / 3)
    after = comparison.from_csv(comparison.as_csv(before), source="x.csv")
    assert after.descriptions == before.descriptions
    np.testing.assert_array_equal(after.seen, before.seen)
    for name in MEANS:
        np.testing.assert_array_equal(after.per_query[name], before.per_query[name])
    broken = comparison.as_csv(before).replace("0.34", "many")
    for text in ("a,b\n1,2\n", broken, comparison.as_csv(before)[:-3]):
        with pytest.raises(ModelError, match=r"x\.csv: does not read as the table of queries"):
            comparison.from_csv(text, source="x.csv")


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"seeds": (1, 2, 1)}, "has seed 1 more than once"),
        ({"seeds": ()}, "no runs or no seeds"),
        ({"seeds": (-1,)}, r"run a: config\.seed is -1"),
        ({"runs": ()}, "no runs or no seeds"),
        ({"reference": "c"}, "reference is 'c', expected one of its runs: a, b"),
        ({"protocol": "guess"}, "protocol is 'guess', expected one of category"),
        ({"name": "runs"}, "'runs' cannot be a folder"),
        ({"name": "../up"}, r"'\.\./up' cannot be a folder"),
        (
            {"overrides": ("modle.attention=none",)},
            r"unknown config field config\.modle\.attention",
        ),
        ({"overrides": ("model.atention=none",)}, r"nearest are config\.model\.attention, "),
        ({"overrides": ("train.num_epochs=some",)}, "run a: .*num_epochs.*some"),
        ({"overrides": ("model.attention=sharp",)}, "run a: .*is 'sharp', expected one of"),
    ],
)
def test_a_study_that_cannot_be_meant_is_refused(tmp_path, fields, sentence):
    with pytest.raises(ModelError, match=sentence):
        plan(study(**fields), tmp_path / "studies")
    assert not list(tmp_path.iterdir())


def one_more(name: str, config: str, *overrides: str) -> Any:
    return study(runs=(*study().runs, study_rendered.run(name, config, *overrides)))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (one_more("a", DEBUG), "has run a more than once"),
        (one_more("c", DEBUG), "runs a and c of the study have the same config"),
        (one_more("c", DEBUG, "train.num_epochs"), "override 'train.num_epochs', expected 'field="),
        (one_more("c", DEBUG, "seed=3"), "override 'seed=3', expected the seeds in its field"),
        (study(overrides=(3,)), "override 3, expected 'field=value'"),
        (one_more("c", "configs/none.py"), r"run c: --config configs/none\.py: not found"),
        (one_more("c", f"{DEBUG}ger"), "run c: .*preset 'debugger'"),
        (one_more("c", "Makefile"), "run c: --config Makefile"),
        (one_more("c/d", DEBUG), "'c/d' cannot be a folder"),
    ],
)
def test_a_run_that_cannot_be_meant_is_refused_before_any_begins(tmp_path, config, sentence):
    with pytest.raises(ModelError, match=sentence):
        plan(config, tmp_path / "studies")
    assert not list(tmp_path.iterdir())


def test_a_workdir_of_another_config_or_that_is_a_file_is_refused(tmp_path):
    [run, *_] = plan(study(), tmp_path)
    run.workdir.mkdir(parents=True)
    stored = experiment.as_json(run.config)
    experiment.write_json(run.workdir / "config.json", stored)
    assert plan(study(), tmp_path)
    with pytest.raises(ModelError, match=r"another config: config\.train\.num_epochs \(2 there, 4"):
        plan(study(overrides=()), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"file: is a file, expected a folder"):
        plan(study(), tmp_path / "file")


def test_two_studies_do_not_write_to_one_folder(fake, tmp_path):
    with only_writer(tmp_path / "runs" / "any"), pytest.raises(DataError, match="another process"):
        carry_out(study(), tmp_path)
    assert fake.ran == []
    assert not carry_out(study(), tmp_path)


@pytest.mark.parametrize("preset", ["", *study_rendered.STUDIES])
def test_presets_name_runs_that_exist(tmp_path, preset):
    config: Any = study_rendered.get_config(preset)
    runs = plan(config, tmp_path)
    assert len(runs) == len(config.runs) * len(config.seeds)
    budgets = {(run.config.train.num_epochs, run.config.train.eval_every_epochs) for run in runs}
    assert budgets == {(1, 0.5) if preset == "debug" else (8, 4)}


def test_runs_of_one_name_are_the_same_in_all_presets():
    by_name: dict[str, Any] = {}
    for *_, runs in study_rendered.STUDIES.values():
        for run in runs:
            assert by_name.setdefault(run["name"], run) == run
    assert study_rendered.__doc__ and "python study.py" in study_rendered.__doc__
    with pytest.raises(ValueError, match=r"'large' of study_rendered\.py"):
        study_rendered.get_config("large")


@pytest.mark.parametrize("member", study_tuning.SPACES)
def test_every_member_is_searched_equally_often_within_its_space(tmp_path, member):
    runs = plan(study_tuning.get_config(member), tmp_path)
    assert len(runs) == 1 + study_tuning.DRAWS
    assert {run.config_file for run in runs} == {f"configs/{member}.py"}
    settings = study_tuning.settings(member)
    assert settings == study_tuning.settings(member)
    space = study_tuning.SPACES[member]
    assert settings[0] == {name: values[0] for name, values in space.items()}
    for name, values in space.items():
        assert len({setting[name] for setting in settings} & set(values)) > 1
        assert all(setting[name] in values for setting in settings)
    # Never the data that the tables are of, whatever else is set.
    config: Any = study_tuning.get_config(member)
    config.overrides = ("train.num_epochs=8",)
    config.runs = config.runs[:2]
    runs = plan(config, tmp_path)
    assert all(run.config.data.render.seed == 7 for run in runs)
    default: Any = command_line.load_config(f"configs/{member}.py", ())
    assert default.data.dir not in {run.config.data.dir for run in runs}


def test_a_search_reaches_both_streams_and_both_heads(tmp_path):
    setting = {"learning_rate": 8e-3, "width": 64, "attribute_head": 2.0, "losses.cycle.weight": 1}
    found: Any = command_line.load_config("configs/sal.py", study_tuning.overrides(setting))
    assert found.optimizer.image_learning_rate == found.optimizer.attribute_learning_rate == 8e-3
    assert found.model.projection_widths == (512, 256, 64)
    assert found.model.attribute_widths == (512, 64)
    assert found.losses.attribute_head.weight == found.losses.description_head.weight == 2.0
    assert found.losses.cycle.weight == 1.0
    with pytest.raises(ValueError, match=r"'' of study_tuning\.py"):
        study_tuning.get_config("")


# --- Running --------------------------------------------------------------------------------------


def test_seeds_are_the_outer_loop_and_commands_are_what_one_would_type(tmp_path):
    runs = plan(study(overrides=("train.num_epochs=2", "losses.contrastive.weight=2")), tmp_path)
    assert [(run.name, run.seed) for run in runs] == [("a", 0), ("b", 0), ("a", 3), ("b", 3)]
    train, evaluate = running.commands(runs[3])
    workdir = tmp_path / "runs" / "b" / "seed_3"
    assert [Path(train[1]).name, *train[2:]] == [
        *("train.py", "--config", DEBUG, "--workdir", str(workdir)),
        # The run's own after the study's, and every field once.
        *("--config.train.num_epochs=2", "--config.losses.contrastive.weight=0.5"),
        "--config.seed=3",
    ]
    assert [Path(evaluate[1]).name, *evaluate[2:]] == [
        *("eval.py", "--workdir", str(workdir), "--protocol", "category"),
        *("--output_dir", str(workdir / "eval_test_category")),
    ]
    assert runs[3].config.seed == 3 and runs[3].config.losses.contrastive.weight == 0.5


def test_a_failed_run_is_reported_and_the_rest_goes_on(fake, tmp_path, capsys):
    fake.fails = {"b0"}
    assert carry_out(study(), tmp_path)
    assert [line for line in fake.ran if "train" in line] == [
        *("train.py a0", "train.py b0", "train.py a3", "train.py b3"),
    ]
    said = capsys.readouterr().out
    assert "[2/4] b, seed 0: FAILED (train.py: error: it has failed)" in said
    assert "[4/4] b, seed 3: finished" in said and "nothing left" in said
    table = (tmp_path / "small" / "table.md").read_text()
    assert table.count("| b | 0 | failed: see runs/b/seed_0.log |") == 3
    assert table.count("| b | 3 | 63.0") == 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "small" / "table.csv").read_text())))
    assert {row["seeds"] for row in rows if row["state"].startswith("failed")} == {"0"}

    fake.fails, fake.ran = set(), []
    assert not carry_out(study(), tmp_path)
    assert fake.ran == ["train.py b0", "eval.py b0"]
    assert "failed" not in (tmp_path / "small" / "table.md").read_text()


def test_finished_runs_are_skipped_and_evaluations_that_are_old_or_broken_repeated(fake, tmp_path):
    assert not carry_out(study(), tmp_path)
    assert len(fake.ran) == 8
    files = {p.name: p.read_bytes() for p in (tmp_path / "small").iterdir()}
    assert set(files) == {"study.json", "table.md", "table.csv", "table.png", "curves.png"}
    fake.ran = []
    assert not carry_out(study(), tmp_path)
    assert fake.ran == []
    assert {p.name: p.read_bytes() for p in (tmp_path / "small").iterdir()} == files

    runs = tmp_path / "runs"
    os.utime(runs / "a" / "seed_3" / "finished.json", (2**32, 2**32))
    (runs / "b" / "seed_0" / "eval_test_category" / "per_query.csv").write_text("half")
    assert carry_out(study(), tmp_path)  # a3 is from the future, its evaluation stays the older
    assert fake.ran == ["eval.py b0", "eval.py a3"]

    # The first one's table tells what was asked: cut short between two lines it must not.
    os.utime(runs / "a" / "seed_3" / "finished.json")
    table = runs / "a" / "seed_0" / "eval_test_category" / "per_query.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    fake.ran = []
    assert not carry_out(study(), tmp_path)
    assert fake.ran == ["eval.py a0", "eval.py a3"]


def test_an_interrupted_study_begins_nothing_more(fake, tmp_path):
    assert not carry_out(study(), tmp_path, stopped=[signal.SIGINT])
    assert fake.ran == []
    table = (tmp_path / "small" / "table.md").read_text()
    assert table.count("| a | 0, 3 | not run yet |") == 3


def test_runs_that_were_asked_other_queries_are_not_compared(fake, tmp_path, capsys):
    fake.descriptions = {"b3": ["male", "female", "male, hat", "child"]}
    assert carry_out(study(), tmp_path)
    assert "b, seed 3: FAILED" in (said := capsys.readouterr().out)
    assert "are not those of a, seed 0; expected the same data" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_under_way(tmp_path, number):
    """Also a run that does not want to end, and its lock with it."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    sleep = "import time; time.sleep(60)"
    for program, patience, ended in ((sleep, 30.0, 15), (stubborn, 0.2, 9)):
        running_patience, running.PATIENCE = running.PATIENCE, patience
        since = time.monotonic()
        try:
            with command_line.stop_signals() as stopped, only_writer(tmp_path / "x") as lock:
                timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
                timer.start()
                code = running.run_command(
                    [sys.executable, "-c", program],
                    tmp_path / "log",
                    stopped=stopped,
                    lock=lock,
                )
                timer.join()
        finally:
            running.PATIENCE = running_patience
        assert stopped == [number] and code == -ended
        assert time.monotonic() - since < 20
        with only_writer(tmp_path / "x", wait=False):
            pass
    assert (tmp_path / "log").read_text().startswith(f"$ {sys.executable} -c")


def test_a_run_that_outlives_its_study_keeps_the_folder(tmp_path):
    with only_writer(tmp_path / "x") as lock:
        process = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    try:
        with (
            pytest.raises(DataError, match="another process"),
            only_writer(tmp_path / "x", wait=False),
        ):
            pass
    finally:
        process.kill()
        process.wait()
    with only_writer(tmp_path / "x", wait=False) as lock:
        fcntl.flock(lock, fcntl.LOCK_UN)


# --- Tables ---------------------------------------------------------------------------------------


def test_the_table_says_what_was_measured(fake, tmp_path):
    assert not carry_out(study(), tmp_path)
    text = (tmp_path / "small" / "table.md").read_text()
    for part in (
        *("# Small\n", "Does it work?", "`python study.py`", "2 seed(s): 0, 3.", "`category`"),
        *("4 queries x 9 images", "## seen (2 queries)", "## unseen (2 queries)"),
        "Code of all runs: abc.",
    ):
        assert part in text
    lines = text.split("## unseen")[1].splitlines()
    # Queries 0.52 (the other is unknown) and 0.02 more with seed 3; b is 0.1 better throughout.
    assert lines[4] == (
        "| a | 0, 3 | 53.0 ± 1.4 | 53.0 ± 1.4 | 53.0 ± 1.4 | 53.0 ± 1.4 | reference | reference "
        "| - | 8 | 160 | 5, 5 |"
    )
    assert lines[5] == (
        "| b | 0, 3 | 63.0 ± 1.4 | 63.0 ± 1.4 | 63.0 ± 1.4 | 63.0 ± 1.4 | +10.0 | +10.0 | "
        "75.0 ± 0.0 | 8 | 160 | 5, 5 |"
    )
    assert "+10.0 [+10.0, +10.0]" in text.split("## seen")[0]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "small" / "table.csv").read_text())))
    assert len(rows) == 2 * 3 * len(results.METRICS)
    [row] = [
        row for row in rows if (row["run"], row["subset"], row["metric"]) == ("b", "all", "mAP")
    ]
    assert float(row["mean"]) == pytest.approx(0.62)
    assert float(row["difference"]) == pytest.approx(0.1)
    assert row["seeds"] == row["paired_seeds"] == "0 3"
    assert [r["modality_probe"] for r in rows if r["run"] == "a"] == [""] * (len(rows) // 2)
    assert float(row["modality_probe"]) == 0.75
    for file in ("table.png", "curves.png"):
        assert (tmp_path / "small" / file).read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "small" / "study.json").read_text())
    assert content["runs"]["b"]["overrides"] == [
        *("train.num_epochs=2", "losses.contrastive.weight=0.5")
    ]


def test_a_difference_to_fewer_seeds_says_so(fake, tmp_path):
    fake.fails = {"a3"}
    assert carry_out(study(), tmp_path)
    text = (tmp_path / "small" / "table.md").read_text()
    assert "+10.0 [+10.0, +10.0] (seeds 0) |" in text
    fake.fails = {"a0", "a3", "b3"}
    assert carry_out(study(name="other", overrides=()), tmp_path / "elsewhere")
    text = (tmp_path / "elsewhere" / "other" / "table.md").read_text()
    assert re.search(r"\| b \| 0 \| 61\.0 \| .* \| - \| - \| 75\.0 \| 8 \| 160 \| 5 \|", text)
    assert "| a | 0 | failed: see runs/a/seed_0.log |" in text


def test_runs_of_different_code_are_told_apart(fake, tmp_path, capsys):
    fake.code = {"b3": "def"}
    assert not carry_out(study(), tmp_path)
    assert "trained by 2 versions of the code" in capsys.readouterr().out
    text = (tmp_path / "small" / "table.md").read_text()
    assert (
        "different versions of the code**, which may be why they differ. abc: a 0, a 3, b 0;"
        in (text)
    )
    assert "def: b 3." in text


def test_table_files_stay_whole_when_writing_fails(fake, tmp_path, monkeypatch):
    assert not carry_out(study(), tmp_path)
    before = (tmp_path / "small" / "table.md").read_bytes()

    def half(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    summary = json.loads((tmp_path / "small" / "study.json").read_text())
    summary["title"] = "Other"
    monkeypatch.setattr(tables, "as_csv", lambda summary: "")
    monkeypatch.setattr(tables, "markdown", lambda summary: "other text")
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        tables.write_all(summary, tmp_path / "small")
    assert (tmp_path / "small" / "table.md").read_bytes() == before


# --- The whole way --------------------------------------------------------------------------------


def test_the_debug_study_runs_and_is_not_repeated(root, tmp_path):
    """Real processes of train.py and eval.py; one seed, because every process takes its time."""
    config: Any = study_rendered.get_config("debug")
    overrides = [*config.overrides, f"data.dir={tmp_path / 'data'}"]
    command = [
        *(sys.executable, "study.py", "--config", "configs/study_rendered.py:debug"),
        *("--workdir", str(tmp_path / "studies"), "--config.seeds=1"),
        *(f"--config.overrides={override}" for override in overrides),
    ]
    # The numbers mean nothing, so they may be computed slowly, by programs compiled in no time.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def run() -> str:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=500
        )
        logs = [log.read_text() for log in (tmp_path / "studies").rglob("*.log")]
        assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])[-6000:]
        return done.stdout

    assert "[2/2] fused, seed 1: finished" in run()
    folder = tmp_path / "studies" / "debug"
    summary = json.loads((folder / "study.json").read_text())
    for entry in summary["runs"].values():
        assert entry["states"] == {"1": "finished"}
        assert entry["seconds"] > 0 and entry["image_passes"] > 0
        [curve] = entry["curves"]
        assert len(curve) == 2 and all(0 <= share <= 1 for share in curve.values())
        for subset in ("all", "seen", "unseen"):
            assert 0 <= entry["subsets"][subset]["mAP"]["mean"] <= 1
    # The means are those that eval.py prints.
    evaluation = tmp_path / "studies" / "runs" / "joint" / "seed_1" / "eval_test_category"
    metrics = json.loads((evaluation / "metrics.json").read_text())["metrics"]
    fused = evaluation.parents[2] / "fused" / "seed_1" / "eval_test_category"
    result = json.loads((fused / "metrics.json").read_text())
    score = result["score"]
    assert score["kind"] == "fused" and score["fusion_weight"] in (0.003, 0.01, 0.03, 0.1)
    # The weight is the one that training's validation chose.
    checkpoints = Checkpoints(fused.parent / "checkpoints", read_only=True)
    validated = checkpoints.restore_meta(result["step"])["validation"]
    assert score["fusion_weight"] == validated["fusion_weight"]
    ours = summary["runs"]["joint"]["subsets"]["unseen"]
    assert ours["mAP"]["mean"] == pytest.approx(metrics["unseen"]["mAP"])
    assert ours["rank1"]["mean"] == pytest.approx(metrics["unseen"]["rank1"])
    table = (folder / "table.md").read_bytes()
    assert "2 runs, 2 of them finished" in (said := run()) and "output in" not in said
    assert (folder / "table.md").read_bytes() == table

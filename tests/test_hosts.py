"""Two processes on this machine as two hosts (gloo), against one, as a user starts them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from jsreid_jax import hosts
from jsreid_jax.errors import ModelError

CONFIG = "configs/rendered_market.py:debug"
ORDERED_SUMS = "tests/ordered_sums.py"
# XLA shares an operation out to as many threads as a host has devices, which decides how its sums
# are rounded; as many here on one host as on two.
ENVIRONMENT = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "PJRT_NPROC": "4"}


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def started(
    root: Path, logs: Path, script: Sequence[str], arguments: Sequence[Sequence[object]]
) -> Iterator[list[subprocess.Popen]]:
    """One process for each list of arguments, hosts if there are several; killed at the end."""
    address, count = free_address(), len(arguments)
    logs.mkdir(exist_ok=True)
    processes = []
    for number, own in enumerate(arguments):
        of_host = ["--distributed", "--coordinator_address", address]
        of_host += ["--num_processes", str(count), "--process_id", str(number)]
        command = [sys.executable, *script, *map(str, own), *(of_host if count > 1 else [])]
        with (logs / f"{number}.log").open("w") as log:
            processes.append(
                subprocess.Popen(command, cwd=root, env=ENVIRONMENT, stdout=log, stderr=log)
            )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(
    root: Path,
    logs: Path,
    script: str,
    arguments,
    *,
    exit_code: int = 0,
    wrapper: Sequence[str] = (),
) -> list[str]:
    """What each host said; all must end with the exit code."""
    with started(root, logs, [*wrapper, script], arguments) as processes:
        for process in processes:
            process.wait(timeout=300)
    said = [(logs / f"{number}.log").read_text() for number in range(len(arguments))]
    codes = [process.returncode for process in processes]
    assert codes == [exit_code] * len(codes), "\n----\n".join(text[-3000:] for text in said)
    return said


def refused(root: Path, logs: Path, arguments) -> list[str]:
    """The one sentence of every host."""
    said = run(root, logs, "train.py", arguments, exit_code=2)
    assert all("Traceback" not in text for text in said), said
    return [next(line for line in text.splitlines() if line.startswith("error: ")) for text in said]


def train_arguments(workdir: Path, data: Path, *others: str) -> list:
    return [
        *("--config", CONFIG, "--workdir", workdir, f"--config.data.dir={data}"),
        # SGD, because Adam makes large differences of small ones; a cosine that others can compare.
        *("--config.optimizer.name=sgd", "--config.eval.score=cosine"),
        # With the default's weight the few attributes of two dozen people weigh so much that what
        # sums are rounded by grows to 7e-5.
        "--config.losses.group_prediction.weight=1.0",
        # 21 steps.
        "--config.train.num_epochs=7",
        *others,
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data") / "rendered"


@pytest.fixture(scope="module")
def alone(root, data, tmp_path_factory) -> Path:
    """A run on one host with four devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    run(
        root,
        workdir.parent / "logs",
        "train.py",
        [train_arguments(workdir, data, "--config.num_cpu_devices=4")],
    )
    return workdir


def newest(workdir: Path) -> int:
    return max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def saved_arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, without the code under test."""
    import orbax.checkpoint as ocp

    path = workdir / "checkpoints" / str(newest(workdir)) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        # As numpy arrays: the devices that it was saved on are not here.
        saved = checkpointer.metadata(path.absolute()).item_metadata.tree
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved)
        tree = checkpointer.restore(path.absolute(), like)
    flat = ocp.tree.to_flat_dict(tree)
    return {"/".join(map(str, key)): np.asarray(value) for key, value in flat.items()}


def assert_same_run(one: Path, other: Path, *, tolerance: float) -> None:
    a, b = saved_arrays(one), saved_arrays(other)
    assert a.keys() == b.keys() and newest(one) == newest(other)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_two_hosts_are_one_run_and_one_evaluation(root, data, alone, tmp_path):
    """Stopped half way by SIGTERM to one of them; then both go on, then one alone evaluates."""
    workdir = tmp_path / "run"
    both = [train_arguments(workdir, data, "--config.num_cpu_devices=2")] * 2
    with started(root, tmp_path / "first", ["train.py"], both) as processes:
        while not (tmp_path / "first" / "0.log").read_text().count("train/embedder_loss") > 1:
            time.sleep(0.05)
            assert processes[0].poll() is None
        processes[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    stopped_at = newest(workdir)
    assert not (workdir / "finished.json").exists() and stopped_at < newest(alone)
    # Told again before its first step: a resumed run too does a few and saves.
    with started(root, tmp_path / "again", ["train.py"], both) as processes:
        while "device(s) on 2 host(s)" not in (tmp_path / "again" / "1.log").read_text():
            time.sleep(0.05)
            assert processes[1].poll() is None
        processes[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert stopped_at < newest(workdir) <= stopped_at + 1 + hosts.Stops.LAG
    assert not (workdir / "finished.json").exists()
    stopped_at = newest(workdir)
    said = run(root, tmp_path / "second", "train.py", both)
    assert all(f"Resuming from the checkpoint of step {stopped_at}" in text for text in said)
    assert (workdir / "finished.json").exists()
    # One of them writes.
    assert "train/embedder_loss" in said[0] and "train/embedder_loss" not in said[1]
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 3
    assert_same_run(workdir, alone, tolerance=1e-5)

    evaluate = ["--workdir", workdir, "--output_dir", tmp_path / "together"]
    said = run(root, tmp_path / "third", "eval.py", [evaluate] * 2)
    assert "protocol category" in said[0] and "protocol category" not in said[1]
    run(root, tmp_path / "fourth", "eval.py", [["--workdir", workdir, "--output_dir", tmp_path]])
    together, single = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path / "together", tmp_path)
    )
    assert together["metrics"] == single["metrics"]


def test_a_host_that_dies_ends_the_other_and_the_run_goes_on(root, data, tmp_path):
    """To the last bit as if one host had done it all, with the default's losses: sums in order."""
    losses = "--config.losses.group_prediction.weight=4.0"
    alone, run_arguments = (
        train_arguments(tmp_path / name, data, losses, "--config.num_cpu_devices=4")
        for name in ("alone", "run")
    )
    run(root, tmp_path / "undisturbed", "train.py", [alone], wrapper=[ORDERED_SUMS])
    both = [[*run_arguments, "--config.num_cpu_devices=2"]] * 2
    with started(root, tmp_path / "first", [ORDERED_SUMS, "train.py"], both) as processes:
        while not any(p.name.isdigit() for p in tmp_path.glob("run/checkpoints/*")):
            time.sleep(0.05)
            assert processes[0].poll() is None
        processes[1].kill()
        since = time.monotonic()
        assert processes[0].wait(timeout=60) not in (0, None)
        print(f"the other ended after {time.monotonic() - since:.1f} s")
    # On one host, which has devices for both.
    said = run(root, tmp_path / "second", "train.py", [run_arguments], wrapper=[ORDERED_SUMS])
    assert "Resuming from the checkpoint" in said[0]
    assert_same_run(tmp_path / "run", tmp_path / "alone", tolerance=0.0)


def test_hosts_that_were_told_different_things_all_refuse(root, data, tmp_path):
    workdir = tmp_path / "run"
    seeds = [train_arguments(workdir, data, f"--config.seed={seed}") for seed in (0, 1)]
    said = refused(root, tmp_path / "seeds", seeds)
    assert all(
        "host 1 has another config than host 0: config.seed (1 there, 0 on host 0)" in text
        for text in said
    )
    devices = [train_arguments(workdir, data, f"--config.num_cpu_devices={n}") for n in (1, 2)]
    said = refused(root, tmp_path / "devices", devices)
    assert all("different numbers of devices (host 0: 1, host 1: 2)" in text for text in said)
    lone = [train_arguments(workdir, data, "--distributed")]
    [sentence] = refused(root, tmp_path / "lone", lone)
    assert "Expected a cluster that JAX knows, or all of --coordinator_address" in sentence
    address = free_address()
    waits = ["--distributed", "--coordinator_address", address, "--num_processes", "2"]
    waits += ["--process_id", "0", "--coordinator_timeout", "2"]
    [sentence] = refused(root, tmp_path / "waits", [train_arguments(workdir, data, *waits)])
    assert f"{address}: the hosts did not come together within 2 s; start the same" in sentence
    assert not workdir.exists()


def test_a_coordinator_that_does_not_answer_is_named():
    address = free_address()
    with pytest.raises(ModelError, match=f"{address}: does not answer within 1 s"):
        hosts.join(address, 2, 1, timeout=1, give_up=pytest.fail)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("here", 2, 0), "is 'here', expected host:port"),
        (("here:1", 2, 2), "--process_id is 2, expected 0 to 1"),
    ],
)
def test_arguments_that_cannot_be_meant_are_named(arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        hosts.join(*arguments, timeout=1, give_up=pytest.fail)


def test_one_host_agrees_with_itself():
    hosts.check_devices()
    hosts.check_agreement({"config": "x"})
    hosts.wait_for_all("nobody")
    told: list[int] = []
    stops = hosts.Stops(told)
    assert hosts.is_first() and not stops.after_step()
    told.append(signal.SIGTERM)
    assert stops.after_step()
    rows = hosts.rows_of_all(5, lambda rows: np.arange(5)[rows])
    np.testing.assert_array_equal(rows, np.arange(5))

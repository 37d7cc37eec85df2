"""Runs as processes of train.py and eval.py, one after the other, each with its log."""

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiment import Config
from jsreid_jax.errors import ModelError
from studies import tables
from studies.plan import Run
from studies.results import FINISHED, NOT_RUN, Outcomes

# Seconds that an interrupted run has to end by itself.
PATIENCE = 10.0

ROOT = Path(__file__).resolve().parent.parent


def carry_out(
    config: Config,
    runs: Sequence[Run],
    workdir: Path,
    *,
    command: str,
    stopped: Sequence[int],
    lock: int,
) -> bool:
    """Run what is not finished, and write the tables at the start and after every run.

    Args:
        config: the study.
        runs: from `plan`.
        workdir: of the studies.
        command: what the table says it was made by.
        stopped: from `command_line.stop_signals`; once it holds a signal nothing more begins.
        lock: file descriptor that the runs inherit, so that what outlives a killed study keeps
            another one away.

    Returns:
        Whether a run failed.
    """
    outcomes = Outcomes(config, runs)

    def write() -> None:
        tables.write_all(outcomes.summary(command), workdir / config.name)

    to_do = []
    for run in runs:
        is_finished = False
        # One that does not read is evaluated again.
        with contextlib.suppress(ModelError):
            is_finished = outcomes.take(run)
        if not is_finished:
            to_do.append(run)
    print(f"{len(runs)} runs, {len(runs) - len(to_do)} of them finished", flush=True)
    write()
    begin, durations = time.monotonic(), []
    for place, run in enumerate(to_do):
        if stopped:
            break
        where = f"[{len(runs) - len(to_do) + place + 1}/{len(runs)}] {run.name}, seed {run.seed}"
        print(f"{where}: output in {run.log}", flush=True)
        since = time.monotonic()
        failure = _train_and_evaluate(run, stopped=stopped, lock=lock)
        if stopped:
            break
        if not failure:
            try:
                if not outcomes.take(run):
                    failure = f"train.py and eval.py ended well, but left no {run.evaluation}"
            except ModelError as error:
                failure = str(error)
        if failure:
            outcomes.states[run.name, run.seed] = f"failed: see {run.log.relative_to(workdir)}"
        else:
            durations.append(time.monotonic() - since)
        rest = len(to_do) - place - 1
        left = "nothing left"
        if rest:
            # Of a failed run nobody knows how long it would have taken.
            per_run = sum(durations) / len(durations) if durations else None
            left = "more to do" if per_run is None else f"about {_duration(rest * per_run)} left"
        print(
            f"{where}: {f'FAILED ({failure})' if failure else 'finished'}; "
            f"{_duration(time.monotonic() - begin)} elapsed, {left}",
            flush=True,
        )
        write()
    versions = len({result.code for result in outcomes.results.values()})
    if versions > 1:
        print(
            f"The runs were trained by {versions} versions of the code, which may be why they "
            "differ: table.md says which; another --workdir trains all anew"
        )
    print(f"Written: {workdir / config.name}/ table.md, table.csv, table.png, curves.png")
    return any(state not in (FINISHED, NOT_RUN) for state in outcomes.states.values())


def commands(run: Run) -> list[list[str]]:
    """What is still to be run, as typed by hand: train.py if needed, then eval.py."""
    train = [
        *(sys.executable, str(ROOT / "train.py"), "--config", run.config_file),
        *("--workdir", str(run.workdir)),
        *(f"--config.{override}" for override in run.overrides),
    ]
    evaluate = [
        *(sys.executable, str(ROOT / "eval.py"), "--workdir", str(run.workdir)),
        *("--protocol", run.protocol, "--output_dir", str(run.evaluation)),
    ]
    return [evaluate] if run.is_trained else [train, evaluate]


def _train_and_evaluate(run: Run, *, stopped: Sequence[int], lock: int) -> str:
    """Nothing if all went well, else what went wrong."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    for command in commands(run):
        start = run.log.stat().st_size if run.log.exists() else 0
        code = run_command(command, run.log, stopped=stopped, lock=lock)
        if code:
            said = run.log.read_bytes()[start:].decode(errors="replace").splitlines()
            errors = [line for line in said if line.startswith("error: ")]
            ended = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            return f"{Path(command[1]).name}: {errors[-1] if errors else ended}"
        if not run.is_trained:
            return "train.py was told to stop (SIGTERM) and saved; it will go on"
    return ""


def run_command(
    command: Sequence[str],
    log: Path,
    *,
    stopped: Sequence[int],
    lock: int,
) -> int:
    """Run a command with its output appended to a log; its exit code, negative for a signal.

    It is told to end when `stopped` holds a signal, and made to if it does not.
    """
    with log.open("ab") as out:
        out.write(f"$ {shlex.join(command)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
        )
        try:
            # Polled, so that no signal falls between looking at `stopped` and waiting.
            while not stopped:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=0.2)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
        return process.wait()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

"""A run that is killed again and again ends as one that was left alone.

    python -m benchmarks.survival [--kills 50] [--seed 0] [--json results/survival.json]

Trains a tiny run once undisturbed, then the same run again and again until it has been killed
(SIGKILL) so many times: every other time at any moment of its start, else at any moment after its
first step, saves among them. The same command starts it each time, and nothing is mended by hand.
At the end every array of the last checkpoint must be bit for bit that of the undisturbed run. Says
too in how many cases a save was under way, and how many finished steps a kill cost at most.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

CONFIG = "configs/rendered_market.py:debug"
SAVE_EVERY = 5
# Long enough that no number of kills sees its end.
EPOCHS = 120
# After the first step a kill comes within so many seconds.
PATIENCE = 2.0


@dataclass
class Seen:
    """What a process said until it ended: its last step, and the one it went on from."""

    step: int = 0
    resumed: int = 0
    is_stepping: bool = False


class Run:
    """train.py as a user starts it, its words read while it runs."""

    def __init__(self, workdir: Path, data: Path):
        command = [
            *(sys.executable, "train.py", "--config", CONFIG, "--workdir", str(workdir)),
            f"--config.data.dir={data}",
            f"--config.train.num_epochs={EPOCHS}",
            f"--config.train.eval_every_epochs={EPOCHS // 4}",
            f"--config.train.checkpoint_every_steps={SAVE_EVERY}",
            "--config.train.log_every_steps=1",
        ]
        self.since = time.time()
        self.seen = Seen()
        self.said: list[str] = []
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line)
            if "Resuming from the checkpoint of step " in line:
                self.seen.resumed = int(line.rpartition(" ")[2])
            elif "train/embedder_loss" in line:
                self.seen.step = int(line.partition("] [")[2].partition("]")[0])
                self.seen.is_stepping = True

    def kill_after(self, seconds: float) -> None:
        """SIGKILL after so many seconds, or nothing if it has ended by itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            time.sleep(0.01)
        self._process.kill()
        self.wait()

    def wait_for_a_step(self) -> None:
        """Return when it has taken one, or has ended."""
        while not self.seen.is_stepping and self._process.poll() is None:
            time.sleep(0.005)

    def wait(self) -> int:
        """Its exit code, at its end."""
        code = self._process.wait()
        self._reader.join()
        return code


def finished(workdir: Path, data: Path) -> float:
    """Run to the end; seconds until its first step."""
    start = time.monotonic()
    run = Run(workdir, data)
    run.wait_for_a_step()
    seconds = time.monotonic() - start
    if run.wait() != 0:
        raise RuntimeError("".join(run.said)[-3000:])
    return seconds


def saved_arrays(workdir: Path) -> dict[str, bytes]:
    """Every array of the newest checkpoint, without this project's code."""
    folders = [path for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    newest = max(folders, key=lambda path: int(path.name))
    folder = (newest / "state").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata: Any = checkpointer.metadata(folder)
        # As arrays of the host: this process has not the devices that wrote them.
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.item_metadata.tree
        )
        tree = checkpointer.restore(folder, ocp.args.PyTreeRestore(restore_args=as_numpy))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def main() -> None:
    """Command line; exit code 1 if the two runs differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        alone, killed, data = (Path(folder) / name for name in ("alone", "killed", "data"))
        finished(alone, data)
        # Again, with programs compiled: how long a start takes from now on.
        start = finished(Path(folder) / "again", data)
        print(f"undisturbed: {start:.1f} s to the first step", flush=True)
        during_save = during_start = most_lost = step_before = 0
        for number in range(arguments.kills):
            run = Run(killed, data)
            if number % 2:
                run.kill_after(rng.uniform(0, start))
            else:
                run.wait_for_a_step()
                run.kill_after(rng.uniform(0, PATIENCE))
            seen = run.seen
            if seen.is_stepping:
                most_lost = max(most_lost, step_before - seen.resumed)
                step_before = seen.step
            else:
                during_start += 1
            # What a kill before this one left is not of this process.
            saves = killed.glob("checkpoints/*.orbax-checkpoint-tmp")
            during_save += any(save.stat().st_mtime > run.since for save in saves)
            print(f"kill {number + 1}: {seen}", flush=True)
            if (killed / "finished.json").exists():
                raise RuntimeError("the run has ended before all kills: make EPOCHS more")
        finished(killed, data)
        is_same = saved_arrays(killed) == saved_arrays(alone)
    result = {
        "kills": arguments.kills,
        "during start": during_start,
        "while a save was under way": during_save,
        "checkpoint_every_steps": SAVE_EVERY,
        "most steps lost": most_lost,
        "bit-identical": is_same,
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(not is_same)


if __name__ == "__main__":
    main()

"""Run configs x seeds one after the other and compare them: table, pictures, curves.

python study.py --config configs/study_rendered.py:rq1 --workdir runs/studies [--config.seeds=0]

Stop it at will, the same command goes on; finished runs are not repeated, failed ones are reported
and tried again next time. Exit code 0, 1 if a run failed, 2 if the study itself is wrong.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

import command_line
from input_pipeline.whole_folder import only_writer
from studies import running
from studies.plan import plan

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of studies: runs/, and one of each study.")
flags.mark_flags_as_required(["config", "workdir"])

FAILED_EXIT_CODE = 1


def main(argv: Sequence[str]) -> None:
    """Command line of studies."""
    del argv
    config, workdir = _CONFIG.value, Path(str(_WORKDIR.value))
    runs = plan(config, workdir)
    command = shlex.join(["python", "study.py", *sys.argv[1:]])
    # The lock is on runs/, where nothing but studies writes: a run may lock the data's folder.
    with (
        command_line.stop_signals() as stopped,
        only_writer(workdir / "runs" / "any", wait=False) as lock,
    ):
        failed = running.carry_out(
            config, runs, workdir, command=command, stopped=stopped, lock=lock
        )
    if stopped:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(128 + stopped[0])
    if failed:
        sys.exit(FAILED_EXIT_CODE)


if __name__ == "__main__":
    command_line.run(main)

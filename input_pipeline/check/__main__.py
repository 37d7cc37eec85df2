"""Checks the data set of a config: reads all of it once, says what is in it and what is wrong.

python -m input_pipeline.check --config configs/x.py[:preset] [--config.x=y] [--output_dir DIR]

Prints, and writes check.json and check.png into output_dir, by default <data.dir>/check. Exit code
0: all is well. 1: a count is not what it must be, an image cannot be read, or an image or a person
is in two parts that must be apart. 2: nothing could be checked, in one sentence.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

import command_line
from input_pipeline.check.run import check
from input_pipeline.datasets.listing import one_of
from input_pipeline.datasets.readers import READERS
from input_pipeline.errors import DataError

PROBLEMS_EXIT_CODE = 1

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where the report goes; by default <data.dir>/check."
)
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    """Command line of the check."""
    del argv
    data = _CONFIG.value.data
    if data.name not in READERS:
        raise DataError(f"config.data.name is {data.name!r}: expected {one_of(READERS)}")
    if not data.dir:
        raise DataError("config.data.dir is empty: expected the folder of the data set")
    if not check(data, Path(_OUTPUT_DIR.value or Path(data.dir) / "check")):
        sys.exit(PROBLEMS_EXIT_CODE)


if __name__ == "__main__":
    command_line.run(main)

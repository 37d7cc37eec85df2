"""One side of the row `devices`, started by `python -m benchmarks devices` with a folder.

config.json there says how many devices and what batch. A line on standard input says how many steps
to take.
"""

import sys
from pathlib import Path

from benchmarks.training import answer_steps

if __name__ == "__main__":
    answer_steps(Path(sys.argv[1]))

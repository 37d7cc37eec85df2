"""Speed of training at scale, each row beside its named alternative, alternating; as a table.

    python -m benchmarks [ROW ...] [--rounds 5] [--json results/a.json] [--compare results/b.json]

devices: a step of the default, and one of a batch of 128, on 8 virtual devices, beside one device
  with the same global batch, each in a process of its own.
stall: steps with a save among them, beside as many without; the difference per time between saves.
startup: train.py from its start to its first step, programs compiled by an earlier run, beside one
  that must compile them.
input: the input pipeline, decode to normalise, beside a bare parallel map of tf.io.decode_jpeg, and
  beside a PyTorch DataLoader whose workers do the same with Pillow (benchmarks/requirements.txt).
pytorch: steps of the default, of the same with ResNet-50 at 256x128, and embedding with both,
  beside the same networks, losses and batches in PyTorch (benchmarks/requirements.txt), whose
  losses of the first step must be the same.

Every row runs in a process of its own. The default's data is rendered if it is not there.
Medians, with the smallest and largest value; the JSON holds every round. --compare FILE shows the
ratios of an earlier JSON beside these.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import training
from benchmarks.measuring import Row, markdown

ROWS = {
    "devices": training.devices,
    "stall": training.stall,
    "startup": training.startup,
    "input": training.input_pipeline,
    "pytorch": training.pytorch,
}


def measured_apart(name: str, rounds: int) -> list[Row]:
    """The rows of a name, measured in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks", name, "--here"),
                *("--rounds", str(rounds), "--json", str(file)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rows = json.loads(file.read_text())
    for row in rows:
        row.pop("ratio")
    return [Row(**row) for row in rows]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; else all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Where the values of every round go.")
    parser.add_argument("--compare", type=Path, help="JSON of an earlier run.")
    parser.add_argument("--here", action="store_true", help="In this process: one row alone.")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"unknown row {sorted(unknown)[0]!r}, expected some of {', '.join(ROWS)}")
    rows: list[Row] = []
    for name in arguments.rows or ROWS:
        if arguments.here:
            rows += ROWS[name](arguments.rounds)
        else:
            rows += measured_apart(name, arguments.rounds)
            print(f"{name}: measured", file=sys.stderr)
    print(markdown(rows))
    if arguments.compare:
        earlier = {row["name"]: row["ratio"] for row in json.loads(arguments.compare.read_text())}
        for row in rows:
            before = f"{earlier[row.name]:.3f}" if row.name in earlier else "not there"
            print(f"{row.name}: ratio {row.ratio:.3f}, in {arguments.compare} {before}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()

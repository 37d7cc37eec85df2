"""python -m input_pipeline.rendering --out DIR: renders the default data set."""

import argparse
import signal
import sys
from pathlib import Path

from input_pipeline.errors import DataError
from input_pipeline.rendering.layout import (
    population,
    write_layout,
    write_population_sheet,
)
from input_pipeline.rendering.layouts import LAYOUTS


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line; exit code 2 with one sentence on bad input."""
    parser = argparse.ArgumentParser(prog="python -m input_pipeline.rendering", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to write, which must not exist yet")
    parser.add_argument(
        "--attributes", type=Path, help="market_attribute.mat to take the persons from"
    )
    parser.add_argument(
        "--layout",
        choices=sorted(LAYOUTS),
        default="market1501",
        help="data set whose folder layout is written",
    )
    parser.add_argument("--persons", type=int, nargs=2, metavar=("TRAIN", "TEST"))
    parser.add_argument("--images_per_person", type=int, default=8)
    parser.add_argument("--image_height", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--contact_sheet", type=Path, help="picture of 48 crops with descriptions")
    args = parser.parse_args(arguments)
    # As an exception, so that what is half written is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _run(args)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemError) as error:
        # numba turns a Ctrl-C inside a kernel into a SystemError that it causes.
        if not isinstance(error.__cause__ or error.__context__ or error, KeyboardInterrupt):
            raise
        print("interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def _run(args: argparse.Namespace) -> None:
    if args.out is None and args.contact_sheet is None:
        raise DataError("nothing to do: give --out, --contact_sheet or both")
    if args.attributes is not None and args.persons is not None:
        raise DataError("--attributes brings its own persons: leave out --persons or --attributes")
    train_persons, test_persons = args.persons or (480, 240)
    if args.contact_sheet is not None:
        labels = population(
            train_persons=train_persons,
            test_persons=test_persons,
            seed=args.seed,
            attributes=args.attributes,
        )
        write_population_sheet(
            args.contact_sheet, labels, image_height=args.image_height, seed=args.seed
        )
    if args.out is not None:
        write_layout(
            args.out,
            layout=args.layout,
            train_persons=train_persons,
            test_persons=test_persons,
            images_per_person=args.images_per_person,
            image_height=args.image_height,
            seed=args.seed,
            workers=args.workers,
            attributes=args.attributes,
            progress=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())

"""python -m input_pipeline.datasets.market1501 DIR: checks a folder and prints its counts."""

import argparse
import sys

from input_pipeline.datasets.market1501.folder import read_market_folder
from input_pipeline.errors import DataError


def main(arguments: list[str] | None = None) -> int:
    """Prints the counts; exit code 2 with one sentence where the folder is not as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.datasets.market1501", description=__doc__
    )
    parser.add_argument("data_dir", help="folder in the Market-1501 layout, real or rendered")
    args = parser.parse_args(arguments)
    try:
        folder = read_market_folder(args.data_dir)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    facts = folder.facts
    ranked = facts["gallery_images"] + facts["query_images"]
    print(
        f"{folder.data_dir}: {'rendered' if folder.is_rendered else 'published'} Market-1501\n"
        f"persons     {facts['train_persons']:,} train, {facts['test_persons']:,} test\n"
        f"categories  {facts['train_categories']:,} train, {facts['test_categories']:,} test, "
        f"{facts['unseen_test_categories']:,} of them unseen in training\n"
        f"images      {facts['train_images']:,} train, {ranked:,} to rank "
        f"({facts['gallery_images']:,} gallery + {facts['query_images']:,} query)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

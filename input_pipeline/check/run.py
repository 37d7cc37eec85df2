"""A whole check: read, count, print, write."""

import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from input_pipeline import splits
from input_pipeline.check import findings, report
from input_pipeline.datasets.listing import ReaderOptions
from input_pipeline.datasets.readers import READERS


def check(data: Any, output_dir: Path) -> bool:
    """Checks what a config's section `data` says, prints and writes it; whether all is well."""
    splits.render_if_missing(data, workers=min(len(os.sched_getaffinity(0)), 32))
    options = ReaderOptions.of(data)
    listing = READERS[data.name](Path(data.dir), options)
    # Now, so that a folder that cannot be written is told before the images are read.
    output_dir.mkdir(parents=True, exist_ok=True)
    total = sum(len(images.files) for images in listing.splits.values())
    with tqdm(total=total, unit=" images", desc="Reading", mininterval=0.5) as bar:
        found, crops = findings.check(listing, options, progress=bar.update)
    picture, file = report.write_report(output_dir, found, crops)
    print(report.text(found))
    print(f"Written: {file}, {picture}")
    return not found.problems

"""The data sets by the name that a config gives them (`data.name`), with their readers.

No TensorFlow; `load.py` has the builders.
"""

from collections.abc import Callable
from pathlib import Path

from input_pipeline.datasets.listing import Listing, ReaderOptions
from input_pipeline.datasets.market1501.folder import read_market_folder

READERS: dict[str, Callable[[Path, ReaderOptions], Listing]] = {
    "market1501": read_market_folder,
}

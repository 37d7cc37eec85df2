"""The data sets by the name that a config gives them (`data.name`), with their readers.

No TensorFlow; `load.py` has the builders.
"""

from collections.abc import Callable
from pathlib import Path

from input_pipeline.datasets.any_folder.folder import read_any_folder
from input_pipeline.datasets.duke.folder import read_duke_folder
from input_pipeline.datasets.listing import Listing, ReaderOptions
from input_pipeline.datasets.market1501.folder import read_market_folder
from input_pipeline.datasets.pa100k.folder import read_pa100k_folder
from input_pipeline.datasets.peta.folder import read_peta_folder

READERS: dict[str, Callable[[Path, ReaderOptions], Listing]] = {
    "folder": read_any_folder,
    "market1501": read_market_folder,
    "duke": read_duke_folder,
    "peta": read_peta_folder,
    "pa100k": read_pa100k_folder,
}

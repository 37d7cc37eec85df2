"""The files of a Market-1501 folder, real or rendered. No TensorFlow.

Query and gallery are the folders `query/` and `bounding_box_test/` without persons -1 and 0000; the
gallery that papers rank (16,483 images) is both together.
"""

import re
from pathlib import Path

from input_pipeline.datasets.listing import Listing, ReaderOptions
from input_pipeline.datasets.market1501.schema import (
    MARKET_FIELDS,
    MARKET_SCHEMA,
    market_field_range,
    market_fields_to_attributes,
)
from input_pipeline.datasets.person_folders import PersonFolders, read_person_folders
from input_pipeline.datasets.person_labels import (
    LabelFile,
    PersonLabels,
    read_person_labels,
    write_person_labels,
)

# The orders of the published file.
_UPPER = "upblack upwhite upred uppurple upyellow upgray upblue upgreen"
_TRAIN_UPPER = "upblack upblue upgreen upgray uppurple upred upwhite upyellow"
_FIELD_ORDER = {
    "test": (
        "age backpack bag handbag clothes down up hair hat gender " + _UPPER + " downblack "
        "downwhite downpink downpurple downyellow downgray downblue downgreen downbrown"
    ).split(),
    "train": (
        "age backpack bag handbag downblack downblue downbrown downgray downgreen downpink "
        "downpurple downwhite downyellow " + _TRAIN_UPPER + " clothes down up hair hat gender"
    ).split(),
}

MARKET_LABEL_FILE = LabelFile(
    title="Market-1501",
    name="market_attribute.mat",
    struct="market_attribute",
    fields={name: market_field_range(name) for name in MARKET_FIELDS},
    orders=_FIELD_ORDER,
    to_attributes=market_fields_to_attributes,
)

MARKET_FOLDERS = PersonFolders(
    reader="market1501",
    label_file=MARKET_LABEL_FILE,
    schema=MARKET_SCHEMA,
    file_name=re.compile(r"(?P<person>-1|\d{4})_c(?P<camera>[1-6])s\d_\d{6}_\d{2}\.jpg"),
    example_name="0002_c1s1_000451_03.jpg",
    name_parts="person, camera, sequence, frame and box",
    # Counts of the published set and its attribute annotations.
    published={
        "train_persons": 751,
        "test_persons": 750,
        "train_categories": 508,
        "test_categories": 484,
        "unseen_test_categories": 315,
        "train_images": 12_936,
        "query_images": 3_368,
        "gallery_images": 13_115,
    },
)


def read_market_folder(data_dir: Path | str, options: ReaderOptions | None = None) -> Listing:
    """Lists and checks a folder in the Market-1501 layout; see `read_person_folders`."""
    del options
    return read_person_folders(Path(data_dir), MARKET_FOLDERS)


def read_market_labels(path: Path | str) -> PersonLabels:
    """Reads and checks `market_attribute.mat`; see `read_person_labels`."""
    return read_person_labels(path, MARKET_LABEL_FILE)


def write_market_labels(path: Path | str, labels: PersonLabels) -> None:
    """Writes `market_attribute.mat` in the published form."""
    write_person_labels(path, labels, MARKET_LABEL_FILE)

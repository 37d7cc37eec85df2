"""The files of a DukeMTMC folder, real or rendered. No TensorFlow.

The gallery that papers rank (19,889 images) is `bounding_box_test/` and `query/` together. Of the
1,110 test persons 408 are nobody's query; they too have attributes.
"""

import dataclasses
import re
from pathlib import Path

from input_pipeline.datasets.duke.schema import (
    DUKE_FIELDS,
    DUKE_SCHEMA,
    duke_field_range,
    duke_fields_to_attributes,
)
from input_pipeline.datasets.listing import Listing, ReaderOptions
from input_pipeline.datasets.person_folders import PersonFolders, read_person_folders
from input_pipeline.datasets.person_labels import LabelFile

WITHDRAWN = (
    "DukeMTMC's images were withdrawn by their owner, because the people in them were not asked: "
    "consider whether you need them"
)

# The orders of the published file.
_LOWER = "downblack downwhite downred downgray downblue downgreen downbrown"
_FIELD_ORDER = {
    "train": (
        "backpack bag handbag boots gender hat shoes top " + _LOWER + " upblack upwhite upred "
        "uppurple upgray upblue upgreen upbrown"
    ).split(),
    "test": (
        "boots shoes top gender hat backpack bag handbag " + _LOWER + " upblack upwhite upred "
        "upgray upblue upgreen uppurple upbrown"
    ).split(),
}

DUKE_LABEL_FILE = LabelFile(
    title="DukeMTMC",
    name="duke_attribute.mat",
    struct="duke_attribute",
    fields={name: duke_field_range(name) for name in DUKE_FIELDS},
    orders=_FIELD_ORDER,
    to_attributes=duke_fields_to_attributes,
)

DUKE_FOLDERS = PersonFolders(
    reader="duke",
    label_file=DUKE_LABEL_FILE,
    schema=DUKE_SCHEMA,
    file_name=re.compile(r"(?P<person>\d{4})_c(?P<camera>[1-8])_f\d{7}\.jpg"),
    example_name="0005_c2_f0046985.jpg",
    name_parts="person, camera and frame",
    # Counts of the published set and its attribute annotations.
    published={
        "train_persons": 702,
        "test_persons": 1_110,
        "train_categories": 300,
        "test_categories": 387,
        "unseen_test_categories": 229,
        "train_images": 16_522,
        "query_images": 2_228,
        "gallery_images": 17_661,
    },
)


def read_duke_folder(data_dir: Path | str, options: ReaderOptions | None = None) -> Listing:
    """Lists and checks a folder in the DukeMTMC layout; see `read_person_folders`.

    Of the published images a warning says that they were withdrawn.
    """
    del options
    listing = read_person_folders(Path(data_dir), DUKE_FOLDERS)
    warnings = () if listing.is_rendered else (WITHDRAWN,)
    return dataclasses.replace(listing, warnings=warnings)

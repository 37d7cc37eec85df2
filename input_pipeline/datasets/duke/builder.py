"""DukeMTMC as a TFDS builder."""

from input_pipeline.datasets.duke.folder import read_duke_folder
from input_pipeline.datasets.records import RecordsBuilder


class Duke(RecordsBuilder):
    """DukeMTMC, real or rendered, from a manual directory."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The manual directory holds bounding_box_train, bounding_box_test, query and "
        "duke_attribute.mat."
    )
    read_folder = staticmethod(read_duke_folder)

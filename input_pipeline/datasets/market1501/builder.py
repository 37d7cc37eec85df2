"""Market-1501 as a TFDS builder."""

from input_pipeline.datasets.market1501.folder import read_market_folder
from input_pipeline.datasets.records import RecordsBuilder


class Market1501(RecordsBuilder):
    """Market-1501, real or rendered, from a manual directory."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The manual directory holds bounding_box_train, bounding_box_test, query and "
        "market_attribute.mat."
    )
    read_folder = staticmethod(read_market_folder)

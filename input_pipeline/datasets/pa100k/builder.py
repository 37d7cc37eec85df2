"""PA-100K as a TFDS builder."""

from input_pipeline.datasets.pa100k.folder import read_pa100k_folder
from input_pipeline.datasets.records import RecordsBuilder


class PA100K(RecordsBuilder):
    """PA-100K, real or rendered, from a manual directory."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The manual directory holds annotation.mat and data or release_data/release_data."
    )
    read_folder = staticmethod(read_pa100k_folder)

"""Any folder as a TFDS builder."""

from input_pipeline.datasets.any_folder.folder import read_any_folder
from input_pipeline.datasets.records import RecordsBuilder


class AnyFolder(RecordsBuilder):
    """Images with a CSV file and a schema file, from a manual directory."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The manual directory holds images, labels.csv and schema.yaml (or schema.toml)."
    )
    read_folder = staticmethod(read_any_folder)

"""PETA as a TFDS builder."""

from input_pipeline.datasets.peta.folder import read_peta_folder
from input_pipeline.datasets.records import RecordsBuilder


class Peta(RecordsBuilder):
    """PETA, real or rendered, from a manual directory."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "The manual directory holds PETA.mat and images/00001.png ..."
    read_folder = staticmethod(read_peta_folder)

"""A data set by the name that a config gives it, as prepared records."""

from input_pipeline.datasets.listing import ReaderOptions
from input_pipeline.datasets.market1501.builder import Market1501
from input_pipeline.datasets.records import DataSet, RecordsBuilder, prepare

BUILDERS: dict[str, type[RecordsBuilder]] = {
    "market1501": Market1501,
}


def load_data_set(
    name: str,
    data_dir: str,
    *,
    options: ReaderOptions | None = None,
    prepared_dir: str = "",
    skip_bad_images: bool = False,
) -> DataSet:
    """Checks a folder and prepares its records unless that is done; see `records.prepare`.

    name: one of BUILDERS.
    """
    return prepare(
        BUILDERS[name],
        data_dir,
        options=options,
        prepared_dir=prepared_dir,
        skip_bad_images=skip_bad_images,
    )

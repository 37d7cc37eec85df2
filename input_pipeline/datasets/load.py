"""A data set by the name that a config gives it, as prepared records."""

from input_pipeline.datasets.any_folder.builder import AnyFolder
from input_pipeline.datasets.duke.builder import Duke
from input_pipeline.datasets.listing import ReaderOptions
from input_pipeline.datasets.market1501.builder import Market1501
from input_pipeline.datasets.pa100k.builder import PA100K
from input_pipeline.datasets.peta.builder import Peta
from input_pipeline.datasets.records import DataSet, RecordsBuilder, prepare

BUILDERS: dict[str, type[RecordsBuilder]] = {
    "folder": AnyFolder,
    "market1501": Market1501,
    "duke": Duke,
    "peta": Peta,
    "pa100k": PA100K,
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

"""The folder layouts that the renderer writes, by the name of the reader of each (`data.name`)."""

from input_pipeline.rendering.layouts.duke import DUKE_LAYOUT
from input_pipeline.rendering.layouts.folder import FOLDER_LAYOUT
from input_pipeline.rendering.layouts.market import MARKET_LAYOUT
from input_pipeline.rendering.layouts.pa100k import PA100K_LAYOUT
from input_pipeline.rendering.layouts.peta import PETA_LAYOUT
from input_pipeline.rendering.plan import Layout

LAYOUTS: dict[str, Layout] = {
    layout.reader: layout
    for layout in (FOLDER_LAYOUT, MARKET_LAYOUT, DUKE_LAYOUT, PETA_LAYOUT, PA100K_LAYOUT)
}

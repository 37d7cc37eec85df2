"""The folder layouts that the renderer writes, by the name of the reader of each (`data.name`)."""

from input_pipeline.rendering.layouts.market import MARKET_LAYOUT
from input_pipeline.rendering.plan import Layout

LAYOUTS: dict[str, Layout] = {layout.reader: layout for layout in (MARKET_LAYOUT,)}

"""Pedestrians with known attributes, rendered in the Market-1501 layout."""

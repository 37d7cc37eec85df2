"""From a host's batch to the shape that its devices want."""

import numpy as np

from input_pipeline.errors import DataError


def check_batch_size(batch_size: int, *, devices: int, field: str, parts: int = 1) -> None:
    """Raise DataError unless `devices` (of all hosts) divide the global batch size.

    field: the config field that the sentence names. parts: micro-batches of every device.
    """
    unit = devices * parts
    if batch_size < unit or batch_size % unit:
        lower = max(batch_size, 0) // unit * unit
        better = f"{lower} or {lower + unit}" if lower else f"{unit}"
        of_each = f", each with {parts} micro-batches" if parts > 1 else ""
        raise DataError(
            f"{field} is {batch_size}, expected a multiple of the {devices} devices{of_each}: "
            f"set it to {better}"
        )


def split_batch(batch: dict[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """Leaves (B, ...) to (N, B / N, ...), one row for each of this host's N devices."""
    return {
        name: value.reshape(devices, value.shape[0] // devices, *value.shape[1:])
        for name, value in batch.items()
    }

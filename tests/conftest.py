"""Every test runs with eight virtual CPU devices; set before JAX makes its backend."""

from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
# Small programs, each run a few times: compiling them well takes longer than running them badly.
jax.config.update("jax_disable_most_optimizations", True)

ROOT = Path(__file__).resolve().parent.parent


# Takes a third of the whole; whoever begins with it is done when the others are.
LONGEST = "test_train.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest file first."""
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT

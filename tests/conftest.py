"""Every test runs with eight virtual CPU devices; set before JAX makes its backend."""

import os
import tempfile
from pathlib import Path

# Shared by the scripts that tests start, in all processes of pytest-xdist.
if "JSREID_TESTS_COMPILED" not in os.environ:
    folder = tempfile.TemporaryDirectory(prefix="jsreid_compiled_")
    os.environ["JSREID_TESTS_COMPILED"] = folder.name
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Small programs, each run a few times: compiling them well takes longer than running them badly.
# With jax_disable_most_optimizations these compile a step in a sixth of the time.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)

import jax
import pytest

# Not by the tests themselves: JAX writes no entry whole or not at all, and warns who reads a half.
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)

ROOT = Path(__file__).resolve().parent.parent


# The files that take longest begin, one on each process, so that none is left over at the end.
LONGEST = ("test_train.py", "test_hosts.py", "test_study.py", "test_train_step.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT

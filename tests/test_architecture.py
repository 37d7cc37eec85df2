"""The rules of who may import what, so that the data flow stays readable."""

import ast
from pathlib import Path

import pytest


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def packages(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("jsreid_jax", {"tensorflow", "tensorflow_datasets", "input_pipeline", "ml_collections"}),
        ("input_pipeline", {"flax", "jax", "optax", "orbax", "jsreid_jax"}),
        ("input_pipeline/rendering", {"tensorflow", "tensorflow_datasets"}),
        ("jsreid_jax/models", {"orbax", "optax"}),
    ],
)
def test_packages_keep_apart(root, folder, forbidden):
    files = sorted((root / folder).rglob("*.py"))
    assert files
    for file in files:
        assert not packages(file) & forbidden, file


def files_that_say(root: Path, word: str) -> list[str]:
    sources = [*(root / "jsreid_jax").rglob("*.py"), *root.glob("*.py")]
    found = []
    for file in sources:
        tree = ast.parse(file.read_text())
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        if word in names or word in packages(file):
            found.append(str(file.relative_to(root)))
    return sorted(found)


def test_pmap_is_known_to_one_file_and_orbax_to_two(root):
    assert files_that_say(root, "pmap") == ["jsreid_jax/parallel.py"]
    assert files_that_say(root, "orbax") == ["jsreid_jax/checkpoints.py", "jsreid_jax/export.py"]


def test_the_package_imports_one_way(root):
    """models know neither losses nor steps; losses know only types."""
    for file in (root / "jsreid_jax/models").glob("*.py"):
        own = {n for n in imports(file) if n.startswith("jsreid_jax.")}
        assert all(n.startswith(("jsreid_jax.models", "jsreid_jax.types")) for n in own), file
    own = {n for n in imports(root / "jsreid_jax/losses.py") if n.startswith("jsreid_jax")}
    assert own == {"jsreid_jax.types"}

"""The bundle for evaluation: the embedder's variables and a config.json, nothing of the training.

bundle/
    config.json     config, attribute schema, number of categories, where it comes from
    variables/      params and batch_stats of the embedder (orbax)
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from jsreid_jax.checkpoints import (
    CHECKSUMS,
    check_fits,
    damage,
    says_disk_full,
    unreadable,
    write_checksums,
)
from jsreid_jax.errors import ModelError
from jsreid_jax.types import PyTree


def write_bundle(folder: Path, variables: PyTree, description: dict[str, Any]) -> None:
    """Write a bundle; the folder appears when it is complete.

    Args:
        folder: must not exist, or be empty.
        variables: {"params", "batch_stats"} of the embedder.
        description: JSON-able.

    Raises:
        ModelError: the folder holds something, or the disk is full.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(
            f"{folder}: exists and is not an empty folder; expected a new one for the bundle, "
            "choose another --export_dir"
        )
    partial = folder.absolute().with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(partial / "variables", variables)
        write_checksums(partial / "variables")
        checksum = {"variables_checksum": _checksum_of_all(partial)}
        content = json.dumps(description | checksum, indent=2)
        (partial / "config.json").write_text(content + "\n")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if says_disk_full(error):
            raise ModelError(
                f"{folder}: the disk is full, the bundle was not written and nothing of it is "
                "left: free some space or choose another --export_dir"
            ) from error
        raise


def _checksum_of_all(folder: Path) -> str:
    """Changes with any of the variables of a bundle."""
    return hashlib.sha256((folder / "variables" / CHECKSUMS).read_bytes()).hexdigest()


def _check_undamaged(folder: Path, checksum: str | None) -> None:
    """Raise ModelError if the variables are not those that config.json was written with."""
    if checksum is None:
        logging.warning(
            "%s: has no checksum of its variables, as bundles of older versions; export it again "
            "to have damage noticed",
            folder,
        )
        return
    reason = damage(folder / "variables")
    if not reason and _checksum_of_all(folder) != checksum:
        reason = "its variables are not those that config.json was written with"
    if reason:
        raise ModelError(f"{folder}: this bundle is damaged ({reason}), export it again")


def read_variables(folder: Path, like: PyTree, *, checksum: str | None) -> PyTree:
    """The variables of a bundle, in the structure, shapes and placement of `like`.

    like: arrays, or `parallel.replicated_shapes` of them.
    checksum: "variables_checksum" of its config.json; None in older ones, which are not checked.

    Raises:
        ModelError: the bundle is of another model or damaged, or does not read.
    """
    path = folder / "variables"
    check_fits(path, like)
    _check_undamaged(folder, checksum)
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path.absolute(), abstract)
    except Exception as error:  # orbax raises bare ones for arrays that do not read
        raise ModelError(unreadable(path, error)) from error

"""Devices: the only file that knows pmap.

The state is replicated and has no leading device axis; batches have one. Everything else is
written against AXIS, so that a later move to shard_map changes this file alone.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsreid_jax.types import Array, PyTree, TrainState

AXIS = "devices"

# jax.Device objects; JAX exports no type of theirs.
Devices = Sequence[Any]


def _sharding(spec: PartitionSpec, devices: Devices | None) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices or jax.local_devices()), (AXIS,)), spec)


def replicate(tree: PyTree, *, devices: Devices | None = None) -> PyTree:
    """Place a copy of every leaf on the devices (default: all local), without a device axis.

    Donated state must be placed like this before its first parallel step.
    """
    return jax.device_put(tree, _sharding(PartitionSpec(), devices))


def replicated_shapes(tree: PyTree, *, devices: Devices | None = None) -> PyTree:
    """What `replicate` makes of a tree of arrays, or of their shapes, but nothing is placed.

    For restoring: orbax puts the arrays where these say (default: all local devices).
    """
    sharding = _sharding(PartitionSpec(), devices)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def split_over_devices(tree: PyTree, *, devices: Devices | None = None) -> PyTree:
    """Place leaves (N, B / N, ...) with one row per device (default: all local)."""
    return jax.device_put(tree, _sharding(PartitionSpec(AXIS), devices))


def prefetch_to_devices(batches: Iterable[PyTree], size: int = 2) -> Iterator[PyTree]:
    """Batches of leaves (N, B / N, ...) on their devices, `size` of them ahead of the consumer."""
    queue = collections.deque()
    iterator = iter(batches)
    for batch in itertools.islice(iterator, size):
        queue.append(split_over_devices(batch))
    while queue:
        yield queue.popleft()
        for batch in itertools.islice(iterator, 1):
            queue.append(split_over_devices(batch))


def parallel_step(
    step: Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Array]]],
    *,
    devices: Devices | None = None,
) -> Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Array]]]:
    """Run step(state, batch) on all devices: replicated state in and out, batch (N, B / N, ...).

    The state is donated. What step returns must be equal on all devices: `out_axes=None` takes one
    device's word for all and checks nothing, `assert_replicas_identical` does.

    CPU devices take one step at a time. They share a few threads, and when steps queue up, all of
    these can come to wait in collectives of a later step for a device that has no thread left: XLA
    then aborts the process (seen with hundreds of steps queued; waiting costs 2 % at most).
    """
    on_all = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=(0,),
        devices=devices,
    )
    if jax.default_backend() != "cpu":
        return on_all
    return lambda state, batch: jax.block_until_ready(on_all(state, batch))


def parallel_apply(
    function: Callable[[PyTree, PyTree], PyTree], *, devices: Devices | None = None
) -> Callable[[PyTree, PyTree], PyTree]:
    """Run function(variables, (B / N, ...)) on devices of this host: (N, B / N, ...) in and out.

    Every host for itself: there is nothing that they would have to say to each other.
    """
    devices = devices or jax.local_devices()
    return jax.pmap(function, axis_name=AXIS, in_axes=(None, 0), out_axes=0, devices=devices)


def per_device(array: jax.Array) -> list[np.ndarray]:
    """The rows of an array (N, ...) with one row per local device, without joining them.

    Waits until they are computed. Rows of CPU devices are not copied.
    """
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [np.asarray(shard.data)[0] for shard in shards]


def as_global(tree: PyTree) -> PyTree:
    """A state as `replicate` places it, as arrays of the devices of all hosts: what is saved.

    The same tree on one host. Shapes from `replicated_shapes` already say where they belong.
    """
    leaves = jax.tree.leaves(tree)
    if jax.process_count() == 1 or isinstance(leaves[0], jax.ShapeDtypeStruct):
        return tree
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def as_local(tree: PyTree) -> PyTree:
    """The inverse of `as_global`."""
    if jax.process_count() == 1:
        return tree
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    return multihost_utils.global_array_to_host_local_array(tree, mesh, PartitionSpec())


def from_all_hosts(array: np.ndarray) -> np.ndarray:
    """(hosts, ...) of every host's array, which must be of one shape and of at most 32 bits.

    All hosts must call it.
    """
    return multihost_utils.process_allgather(array)


@functools.cache
def _sum_over_all_devices() -> Callable[[np.ndarray], jax.Array]:
    return jax.pmap(lambda x: jax.lax.psum(x, AXIS), axis_name=AXIS)


def any_of_all_hosts(flag: bool) -> Callable[[], bool]:
    """A function that tells whether any host's flag was True, once the devices know.

    All hosts must call this one; it waits for nothing that accelerators still have to do.
    """
    flags = np.full(jax.local_device_count(), flag, np.int32)
    total = _sum_over_all_devices()(flags)
    if jax.default_backend() == "cpu":
        # As in `parallel_step`.
        jax.block_until_ready(total)
    return lambda: bool(per_device(total)[0] > 0)


def assert_replicas_identical(tree: PyTree) -> None:
    """Raise AssertionError, naming the leaf, where a tree differs between local devices."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        first, *others = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        for device, other in enumerate(others, 1):
            if first.tobytes() != other.tobytes():
                name = jax.tree_util.keystr(path)
                raise AssertionError(f"replica {device} of {name} differs from replica 0")

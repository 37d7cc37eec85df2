"""Runs a script with every sum over devices taken in the order of the devices.

`python tests/ordered_sums.py train.py ...`: what one process sums in memory and two over a network
is then rounded alike, so that whatever else differs between them shows, to the last bit. Slow.
"""

import functools
import runpy
import sys
from pathlib import Path

import jax

gather, place = jax.lax.all_gather, jax.lax.axis_index


def in_order(x: jax.Array, axis_name: str) -> jax.Array:
    """Sum of every device's x, the first device's first."""
    summed, *others = gather(x, axis_name)
    for other in others:
        # A barrier, so that the compiler takes them as they stand.
        summed = jax.lax.optimization_barrier(summed + other)
    return summed


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def total(x: jax.Array, axis_name: str) -> jax.Array:
    """in_order, in the gradient too."""
    return in_order(x, axis_name)


total.defvjp(
    lambda x, axis_name: (in_order(x, axis_name), None),
    lambda axis_name, _, cotangent: (in_order(cotangent, axis_name),),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def joined(x: jax.Array, axis_name: str) -> jax.Array:
    """Every device's rows (B, ...) one below the other; their cotangents are summed in order."""
    return gather(x, axis_name, tiled=True)


def own_rows(axis_name: str, _, cotangent: jax.Array) -> tuple[jax.Array]:
    summed = in_order(cotangent, axis_name)
    rows = len(summed) // jax.lax.axis_size(axis_name)
    return (jax.lax.dynamic_slice_in_dim(summed, place(axis_name) * rows, rows),)


joined.defvjp(lambda x, axis_name: (joined(x, axis_name), None), own_rows)


def mean(tree, axis_name, **_):
    """In place of `jax.lax.pmean`."""
    count = jax.lax.axis_size(axis_name)
    return jax.tree.map(lambda x: total(x, axis_name) / count, tree)


def rows_of_all(x, axis_name, *, tiled):
    """In place of `jax.lax.all_gather`."""
    assert tiled
    return joined(x, axis_name)


if __name__ == "__main__":
    jax.lax.pmean, jax.lax.all_gather = mean, rows_of_all
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_path(sys.argv[0], run_name="__main__")

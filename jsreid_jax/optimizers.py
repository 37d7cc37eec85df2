"""Schedules of the step, and the optimizers of the two players."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jsreid_jax.types import PyTree, Schedule

NAMES = ("adam", "sgd")
SCHEDULES = ("cosine", "drops", "constant")


def weight_schedule(*, weight: float, start_step: int, warmup_steps: int) -> Schedule:
    """A loss weight over the steps: 0 before start_step, then linearly up within warmup_steps.

    The paper's stages (images alone, joint, adversarial) are nothing but such weights.
    """

    def schedule(step):
        progress = (step - start_step + 1) / max(warmup_steps, 1)
        ramp = jnp.clip(progress, 0.0, 1.0) if warmup_steps else 1.0
        return jnp.where(step >= start_step, weight * ramp, 0.0)

    return schedule


def learning_rate_schedule(
    peak: float,
    *,
    kind: str,
    num_train_steps: int,
    warmup_steps: int,
    drop_steps: tuple[int, ...] = (),
    drop_factor: float = 0.1,
) -> Schedule:
    """The learning rate over the steps, after a linear warm-up from 0.

    kind "cosine" falls to 0 at num_train_steps; "drops" multiplies by drop_factor at every one of
    drop_steps ([SAL]'s staged recipe); "constant" stays.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0, peak, warmup_steps, max(num_train_steps, warmup_steps + 1)
        )
    if kind not in ("drops", "constant"):
        raise ValueError(f"optimizer.schedule is {kind!r}, expected one of cosine, drops, constant")
    drops = {step - warmup_steps: drop_factor for step in drop_steps if kind == "drops"}
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, max(warmup_steps, 1)),
            optax.piecewise_constant_schedule(peak, drops),
        ],
        [warmup_steps],
    )


def _make(name: str, schedule: Schedule, *, weight_decay: float) -> optax.GradientTransformation:
    """Adam (decoupled weight decay if > 0) or SGD (for parity tests) with that learning rate."""
    if name == "adam":
        return optax.adamw(schedule, weight_decay=weight_decay, mask=_is_kernel)
    if name == "sgd":
        return optax.sgd(schedule)
    raise ValueError(f"optimizer.name is {name!r}, expected one of adam, sgd")


def _is_kernel(params: PyTree) -> PyTree:
    """True for matrices and kernels: biases, norms and the temperature are not decayed."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def embedder_optimizer(
    name: str,
    *,
    image_schedule: Schedule,
    attribute_schedule: Schedule,
    weight_decay: float,
    clip_norm: float,
) -> optax.GradientTransformation:
    """The embedder's optimizer: one learning rate for the image stream, one for all the rest [SAL].

    clip_norm: largest global norm of the gradient; 0 does not clip.
    """

    def labels(params: Mapping) -> dict:
        return {key: "image" if key == "image_stream" else "attribute" for key in params}

    by_stream = optax.multi_transform(
        {
            "image": _make(name, image_schedule, weight_decay=weight_decay),
            "attribute": _make(name, attribute_schedule, weight_decay=weight_decay),
        },
        labels,
    )
    if clip_norm > 0:
        return optax.chain(optax.clip_by_global_norm(clip_norm), by_stream)
    return by_stream


def discriminator_optimizer(name: str, schedule: Schedule) -> optax.GradientTransformation:
    """The adversary's optimizer: no weight decay, no clipping."""
    return _make(name, schedule, weight_decay=0.0)

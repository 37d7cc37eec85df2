"""Schedules of the step, and how a player descends.

Learning rates are not given to optax, which would count updates: the discriminator rests at times
and moves several times per step at others, and its rate must follow the step all the same.
"""

import math

import jax
import jax.numpy as jnp
import optax

from jsreid_jax.types import Array, Player, PyTree, Schedule

NAMES = ("adam", "sgd")
# Adam's.
_B1, _B2 = 0.9, 0.999
SCHEDULES = ("cosine", "drops", "constant")
# By name: what a learning rate is multiplied by where the batch is so many times as large.
_FACTORS = {"none": lambda ratio: 1.0, "linear": float, "sqrt": math.sqrt}
BATCH_SIZE_RULES = tuple(_FACTORS)


def weight_schedule(*, weight: float, start_step: int, warmup_steps: int) -> Schedule:
    """A loss weight over the steps: 0 before start_step, then linearly up within warmup_steps.

    The paper's stages (images alone, joint, adversarial) are nothing but such weights.
    """

    def schedule(step):
        ramp = jnp.clip((step - start_step + 1) / max(warmup_steps, 1), 0.0, 1.0)
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
    """The learning rate over the steps, after a linear warm-up.

    kind "cosine" falls to 0 at num_train_steps; "drops" multiplies by drop_factor from each of
    drop_steps on ([SAL]'s staged recipe); "constant" stays.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule is {kind!r}, expected one of {', '.join(SCHEDULES)}")

    def schedule(step):
        rate = peak * jnp.minimum((step + 1) / max(warmup_steps, 1), 1.0)
        if kind == "cosine":
            progress = (step - warmup_steps) / max(num_train_steps - warmup_steps, 1)
            return rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
        if kind == "drops":
            drops = jnp.sum(step >= jnp.array(drop_steps, jnp.int32))
            return rate * drop_factor**drops
        return rate

    return schedule


def batch_size_factor(rule: str, *, batch_size: int, reference: int) -> float:
    """What learning rates that were found for batches of `reference` are multiplied by.

    rule: one of BATCH_SIZE_RULES: "linear" (Goyal et al. 2017) keeps the way that SGD goes per
    epoch, "sqrt" (Krizhevsky 2014) the spread of a step, as Adam wants it.
    """
    return _FACTORS[rule](batch_size / reference)


def resting(rate: Schedule, steps: int) -> Schedule:
    """A learning rate that is 0 for so many first steps."""
    return lambda step: jnp.where(step < steps, 0.0, rate(step))


def late_correction(step: Array, first_step: int) -> Array:
    """What Adam's update is multiplied by where gradients begin at first_step, not at step 0.

    Adam divides its moments by what they still lack at its count of updates. Moments that have
    rested lack it although the count is high: without this a part that a later stage begins to
    teach would run several times as fast as a part that begins with the run (ours).
    """

    def lack(decay: float, count: Array) -> Array:
        return 1.0 - decay ** count.astype(jnp.float32)

    updates, own = step + 1, jnp.maximum(step - first_step + 1, 1)
    factor = lack(_B1, updates) / lack(_B1, own)
    factor *= jnp.sqrt(lack(_B2, own) / lack(_B2, updates))
    return jnp.where(step < first_step, 1.0, factor)


def create_optimizer(
    name: str, *, weight_decay: float = 0.0, clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay, or SGD (for parity tests), of learning rate 1.

    weight_decay: of matrices and kernels; biases, norms and the temperature are not decayed.
    clip_norm: largest global norm of the gradient; 0 does not clip.

    Raises:
        ValueError: an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"optimizer is {name!r}, expected one of {', '.join(NAMES)}")
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    parts.append(optax.scale_by_adam(_B1, _B2) if name == "adam" else optax.identity())
    if weight_decay > 0:
        parts.append(optax.add_decayed_weights(weight_decay, mask=_is_kernel))
    return optax.chain(*parts)


def _is_kernel(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def descend(
    optimizer: optax.GradientTransformation,
    player: Player,
    gradient: PyTree,
    rate: PyTree,
) -> Player:
    """The player after one update.

    rate: one learning rate, or a prefix of the parameters with one for each part.
    """
    updates, opt_state = optimizer.update(gradient, player.opt_state, player.params)
    steps = jax.tree.map(lambda r, part: jax.tree.map(lambda u: -r * u, part), rate, updates)
    return Player(params=optax.apply_updates(player.params, steps), opt_state=opt_state)

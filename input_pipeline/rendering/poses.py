"""Pose families: walking, standing, hand on strap, phone, hands in pockets, carrying."""

from typing import NamedTuple

import numpy as np

from input_pipeline.rendering.body import bone, pose_skeleton, rotation, rotation_between

FAMILIES = ("walk", "walk", "walk", "stand", "contrapposto", "strap", "phone", "call", "pockets")
DEGREE = np.pi / 180
FINGERS = ("index", "middle", "ring", "pinky")


class Limits(NamedTuple):
    """What the person's look allows the pose to do."""

    stoop: float  # 0 upright .. 1 bent by age
    stride: float  # 1 free .. 0.4 in a long skirt
    loaded_side: int  # +1 left, -1 right hand carries a handbag, 0 none
    on_forearm: bool  # the handbag hangs on the forearm instead of in the hand
    bag_side: int  # hip on which a shoulder bag hangs, 0 none


def limb(side: int, outward: float, forward: float) -> np.ndarray:
    """Direction (3,) of a limb that hangs down, turned outward and forward (degrees)."""
    a, f = outward * DEGREE, forward * DEGREE
    return np.array([side * np.sin(a), -np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)])


def leg_directions(family: str, rng: np.random.Generator, limits: Limits) -> dict:
    """Thigh, calf and foot directions of both legs."""
    swing = {1: 0.0, -1: 0.0}
    knee = {1: 3.0, -1: 3.0}
    outward = {1: 2.5, -1: 2.5}
    if family == "walk":
        phase = rng.uniform(0, 2 * np.pi)
        reach = rng.uniform(16, 27) * limits.stride * (1 - 0.45 * limits.stoop)
        for side in (1, -1):
            angle = phase + (0 if side == 1 else np.pi)
            swing[side] = reach * np.sin(angle)
            lift = max(0.0, np.cos(angle))  # the leg that travels forward bends its knee
            knee[side] = 5 + (34 * lift + max(0.0, -swing[side]) * 0.6) * limits.stride**2
    else:
        outward = {side: rng.uniform(1, 6 * limits.stride) for side in (1, -1)}
        if family in ("contrapposto", "phone"):
            side = 1 if rng.random() < 0.5 else -1
            swing[side], knee[side] = rng.uniform(6, 12), rng.uniform(14, 22)
    directions = {}
    for side, letter in ((1, "l"), (-1, "r")):
        bend = knee[side] + 8 * limits.stoop
        thigh = swing[side] + 5 * limits.stoop
        directions[f"thigh_{letter}"] = (f"calf_{letter}", limb(side, outward[side], thigh))
        directions[f"calf_{letter}"] = (f"foot_{letter}", limb(side, outward[side], thigh - bend))
        pitch = (thigh - bend) * 0.75
        directions[f"foot_{letter}"] = (f"ball_{letter}", limb(side, 8, 62 + pitch))
    return directions


def arm_angles(
    family: str, side: int, rng: np.random.Generator, limits: Limits, swing: float, active_side: int
):
    """(outward, forward, forearm outward, forearm forward) in degrees of one arm."""
    outward = rng.uniform(9, 14) + (5 if limits.bag_side == side else 0)
    angles = (outward, swing, outward - 6, swing + rng.uniform(8, 22))
    active = side == active_side
    if limits.loaded_side == side:
        if limits.on_forearm:
            return (12.0, 4.0, 12.0, rng.uniform(68, 84))
        return (rng.uniform(16, 23), swing * 0.3 + 12, 12.0, swing * 0.3 + 22)  # clear of the leg
    if family == "strap" and (active or limits.loaded_side == -side):
        return (16.0, -8.0, -34.0, 128.0)
    if family == "phone" and (active or limits.loaded_side == -side):
        return (12.0, 14.0, -24.0, 104.0)
    if family == "call" and (active or limits.loaded_side == -side):
        return (24.0, 26.0, -22.0, 158.0)
    if family == "pockets":
        return (19.0, -10.0, -4.0, 20.0)
    return angles


def draw_pose(joints: np.ndarray, rng: np.random.Generator, limits: Limits) -> np.ndarray:
    """Motions (53, 3, 4) of the bones for one random pose; the figure faces +z."""
    family = FAMILIES[rng.integers(len(FAMILIES))]
    directions = leg_directions(family, rng, limits)
    left_thigh = directions["thigh_l"][1]
    swing = -np.arctan2(left_thigh[2], -left_thigh[1]) / DEGREE if family == "walk" else 0.0
    swing *= rng.uniform(0.5, 1.0)
    turns = {}
    lean = (rng.uniform(0, 3) + 24 * limits.stoop) * DEGREE / 3
    for name in ("spine_01", "spine_02", "spine_03"):
        turns[name] = rotation((1, 0, 0), lean)
    nod = (8 if family == "phone" else rng.uniform(-3, 3)) - 10 * limits.stoop
    turns["neck_01"] = rotation((1, 0, 0), 0.5 * nod * DEGREE)
    yaw = float(np.clip(rng.normal(0, 14), -32, 32))
    turns["head"] = rotation((0, 1, 0), yaw * DEGREE) @ rotation((1, 0, 0), 0.5 * nod * DEGREE)
    active = 1 if rng.random() < 0.5 else -1
    for side, letter in ((1, "l"), (-1, "r")):
        turns[f"clavicle_{letter}"] = rotation((0, 0, 1), -side * 7 * DEGREE)
        angles = arm_angles(family, side, rng, limits, side * swing, active)
        arm, forearm = limb(side, *angles[:2]), limb(side, *angles[2:])
        directions[f"upperarm_{letter}"] = (f"lowerarm_{letter}", arm)
        directions[f"lowerarm_{letter}"] = (f"hand_{letter}", forearm)
        directions[f"hand_{letter}"] = (f"middle_01_{letter}", forearm + 0.15 * arm)
        curl = 62 if limits.loaded_side == side and not limits.on_forearm else rng.uniform(16, 30)
        turns |= finger_turns(joints, letter, directions[f"hand_{letter}"][1], curl)
    return pose_skeleton(joints, turns=turns, directions=directions)


def finger_turns(joints: np.ndarray, letter: str, hand: np.ndarray, curl: float) -> dict:
    """Turns of the finger bones (curl in degrees per joint) for a hand of given direction."""
    wrist, index, middle, pinky, thumb = (
        joints[bone(f"{name}_{letter}")].astype(np.float64)
        for name in ("hand", "index_01", "middle_01", "pinky_01", "thumb_02")
    )
    rest, across = middle - wrist, pinky - index
    # The thumb tells the palm from the back of the hand; fingers turn about the line of knuckles.
    palm_side = np.sign(np.linalg.det(np.stack([rest, across, thumb - wrist])))
    knuckles = across - rest * (rest @ across) / (rest @ rest)
    axis = rotation_between(rest, hand) @ (-palm_side * knuckles)
    bend = rotation(tuple(axis), curl * DEGREE)
    return {f"{name}_0{k}_{letter}": bend for name in FINGERS for k in (1, 2, 3)}

"""Things whose edges are curved in the world: a network has to tell them from bent straight lines.

All are drawn on the canvas itself, without perspective.
"""

import cv2
import numpy as np

from warp_train.data.drawing.patterns import Rng, colour, contrasting, in_range, shades
from warp_train.data.drawing.surfaces import Floats, Pen

_SHIFT = 4
_ONE = 1 << _SHIFT


def few_curves(rng: Rng, pen: Pen) -> None:
    """A few objects with curved outlines, or none."""
    for _ in range(rng.integers(0, 5)):
        (blob if rng.random() < 0.6 else cable)(rng, pen)


def clutter(rng: Rng, pen: Pen) -> None:
    """Some of everything here, or nothing."""
    for _ in range(rng.integers(0, 7)):
        blob(rng, pen)
    for _ in range(rng.integers(0, 6)):
        rounds(rng, pen)
    for thing, chance in ((cable, 0.5), (folds, 0.5), (foliage, 0.35)):
        if rng.random() < chance:
            thing(rng, pen)


def _place(rng: Rng, pen: Pen) -> Floats:
    at: Floats = rng.uniform(-0.95, 0.95, 2) * pen.scale + pen.centre
    return at


def _fixed(points: Floats) -> cv2.typing.MatLike:
    fixed: cv2.typing.MatLike = np.rint(points * _ONE).astype(np.int32)
    return fixed


def _paint(values: Floats) -> tuple[float, ...]:
    return tuple(map(float, values))


def blob(rng: Rng, pen: Pen) -> None:
    """A lumpy outline: a lamp, a plant, a person, an animal."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = pen.scale * rng.uniform(0.02, 0.22)
    lumps = 1 + rng.choice([0.0, 0.2]) * np.sin(angle * rng.integers(2, 6) + rng.uniform(0, 6))
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.35, 1)
    x, y = np.cos(angle) * lumps * radius, np.sin(angle) * lumps * radius * flat
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    cv2.fillPoly(
        pen.canvas, [_fixed(points + _place(rng, pen))], _paint(colour(rng)), cv2.LINE_AA, _SHIFT
    )


def rounds(rng: Rng, pen: Pen) -> None:
    """An ellipse with rims, or a part of one: a table, a plate, a lamp, a wheel, an arch."""
    at, base = _place(rng, pen), colour(rng)
    large = pen.scale * rng.uniform(0.05, 0.5)
    axes = np.array([large, large * rng.uniform(0.15, 1)])
    turn = float(rng.normal(0, 12) + rng.choice([0, 90]))
    start = float(rng.choice([0, 180])) if rng.random() < 0.4 else 0.0
    end = start + (180 if start or rng.random() < 0.2 else 360)
    filled = rng.random() < 0.6
    for share in (1.0, *rng.uniform(0.6, 0.97, rng.integers(0, 3))):
        cv2.ellipse(
            pen.canvas,
            _fixed(at).tolist(),
            _fixed(axes * share).tolist(),
            turn,
            start,
            end,
            _paint(base if share == 1 else in_range(base + rng.normal(0, 30))),
            cv2.FILLED if filled else int(rng.integers(1, 4)),
            cv2.LINE_AA,
            _SHIFT,
        )


def cable(rng: Rng, pen: Pen) -> None:
    """A wandering line: a cable, a branch, a crack."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 24))
    length = pen.scale * rng.uniform(0.06, 0.66)
    steps = np.stack([np.cos(heading), np.sin(heading)], 1) * (length / 24)
    points = _fixed(np.cumsum(steps, 0) + _place(rng, pen))
    paint, thickness = _paint(colour(rng)), int(rng.integers(1, 4))
    cv2.polylines(pen.canvas, [points], False, paint, thickness, cv2.LINE_AA, _SHIFT)


def folds(rng: Rng, pen: Pen) -> None:
    """Long, gentle, similar curves side by side: cloth, curtains, hair, a car's flank, a path."""
    count, reach = int(rng.integers(3, 14)), pen.scale * rng.uniform(0.2, 0.8)
    along = np.linspace(-1, 1, 17)
    turn = rng.uniform(0, np.pi)
    unit, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    bend, wave = rng.normal(0, 0.2), rng.normal(0, 0.06)
    course = bend * along**2 + wave * np.sin(along * rng.uniform(2, 5) + rng.uniform(0, 6))
    gap = rng.uniform(0.03, 0.12)
    offsets = np.cumsum(rng.uniform(0.4, 1.6, count)) * gap
    spread = 1 + rng.normal(0, 0.5, (count, 1)) * along * 0.3
    side = course + offsets[:, None] * spread
    points = _place(rng, pen) + reach * (along[None, :, None] * unit + side[..., None] * across)
    base = colour(rng)
    if rng.random() < 0.6:  # areas between the curves, one over the other
        for near, far, paint in zip(points, points[1:], shades(rng, base, count, 22), strict=False):
            outline = _fixed(np.concatenate([near, far[::-1]]))
            cv2.fillPoly(pen.canvas, [outline], _paint(paint), cv2.LINE_AA, _SHIFT)
        return
    lines = [_fixed(curve) for curve in points]
    paint = _paint(contrasting(rng, base))
    cv2.polylines(pen.canvas, lines, False, paint, int(rng.integers(1, 4)), cv2.LINE_AA, _SHIFT)


def foliage(rng: Rng, pen: Pen) -> None:
    """A patch of many small leaves, stones or blossoms."""
    at, reach = _place(rng, pen), pen.scale * rng.uniform(0.1, 0.5)
    count, size = int(rng.integers(40, 220)), pen.scale * rng.uniform(0.008, 0.03)
    places = _fixed(at + rng.normal(0, 0.5, (count, 2)) * reach * (1, rng.uniform(0.4, 1)))
    axes = _fixed(rng.uniform(0.3, 1.5, (count, 2)) * size).tolist()
    turns = rng.uniform(0, 360, count).tolist()
    paints = shades(rng, colour(rng, 30, 180, 25), count, 28).tolist()
    for place, axis, turn, paint in zip(places.tolist(), axes, turns, paints, strict=True):
        cv2.ellipse(pen.canvas, place, axis, turn, 0, 360, paint, cv2.FILLED, cv2.LINE_8, _SHIFT)


def hills(rng: Rng, pen: Pen) -> None:
    """Sky, and a few ranges of hills, dunes, clouds or waves in front of each other."""
    height, width = pen.canvas.shape[:2]
    x = np.linspace(0, 1, 33)
    level = rng.uniform(0.15, 0.6)
    for _ in range(rng.integers(2, 6)):
        curve = level + sum(
            rng.normal(0, 0.06 / n)
            * np.sin(2 * np.pi * n * x * rng.uniform(0.4, 1) + rng.uniform(0, 6))
            for n in range(1, 5)
        )
        outline = np.stack([x * width, curve * height], 1)
        outline = np.concatenate([outline, [(width, height), (0, height)]])
        paint = _paint(colour(rng, 30, 220, 35))
        cv2.fillPoly(pen.canvas, [_fixed(outline)], paint, cv2.LINE_AA, _SHIFT)
        level += rng.uniform(0.05, 0.25)

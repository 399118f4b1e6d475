"""Objects in a room: windows, doors, pictures and skirting on a wall; furniture on the floor."""

import numpy as np

from warp_train.data.drawing.patterns import (
    WALL_PATTERNS,
    Rng,
    colour,
    contrasting,
    grid_lines,
    shades,
)
from warp_train.data.drawing.surfaces import Camera, Floats, Pen, Rect, Surface


def skirting(rng: Rng, surface: Surface, wall: Rect) -> None:
    """A board along the floor, and often a moulding along the ceiling."""
    paint = colour(rng, 60, 245, 12)
    tall = wall.height * rng.uniform(0.03, 0.07)
    surface.fill(Rect(wall.u0, wall.v1 - tall, wall.u1, wall.v1), paint)
    edges = [wall.v1 - tall] + ([wall.v0 + tall] if rng.random() < 0.6 else [])
    lines = np.array([[(wall.u0, v), (wall.u1, v)] for v in edges])
    surface.lines(lines, paint * 0.6, rng.uniform(0.7, 1.8))


def opening(rng: Rng, surface: Surface, wall: Rect, at: float) -> None:
    """A window or a door around `u = at`: frame, panes and bars."""
    door = rng.random() < 0.4
    wide = wall.height * rng.uniform(0.25, 0.6)
    top = wall.v0 + wall.height * rng.uniform(0.12, 0.3)
    bottom = wall.v1 if door else wall.v1 - wall.height * rng.uniform(0.25, 0.45)
    frame = Rect(at - wide / 2, top, at + wide / 2, bottom)
    paint = colour(rng, 40, 250, 15)
    surface.fill(frame, paint)
    border = wide * rng.uniform(0.05, 0.12)
    foot = bottom if door else bottom - border
    inner = Rect(frame.u0 + border, top + border, frame.u1 - border, foot)
    surface.fill(inner, colour(rng, 60, 160) if door else colour(rng, 130, 255))
    across, down = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    bars = grid_lines(
        np.linspace(inner.u0, inner.u1, across), np.linspace(inner.v0, inner.v1, down)
    )
    surface.lines(bars, paint * 0.8, rng.uniform(0.8, 2.5))


def picture(rng: Rng, surface: Surface, wall: Rect, at: float) -> None:
    """A framed picture, mirror, screen, cupboard or patterned panel around `u = at`."""
    wide, tall = wall.height * rng.uniform(0.15, 0.6), wall.height * rng.uniform(0.15, 0.45)
    top = wall.v0 + (wall.height - tall) * rng.uniform(0.15, 0.8)
    frame = Rect(at - wide / 2, top, at + wide / 2, top + tall)
    surface.fill(frame, colour(rng, 10, 200))
    margin = min(wide, tall) * rng.uniform(0.04, 0.12)
    inner = Rect(frame.u0 + margin, top + margin, frame.u1 - margin, frame.v1 - margin)
    if rng.random() < 0.45:
        WALL_PATTERNS[rng.integers(len(WALL_PATTERNS))](rng, surface, inner, inner.width / 6)
    else:
        surface.fill(inner, colour(rng))


def furniture(rng: Rng, pen: Pen, camera: Camera, floor: float, span: Rect) -> None:
    """A box with up to three visible faces on the floor (`y = floor`), at a random place in `span`
    (u is x, v is depth)."""
    x0, z0 = rng.uniform(span.u0, span.u1), rng.uniform(span.v0, span.v1)
    wide, deep, tall = rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.6), rng.uniform(0.15, 1.1)
    raised = rng.uniform(0, 0.4) if rng.random() < 0.3 else 0.0
    x1, z1, bottom, top = x0 + wide, z0 + deep, floor - raised, floor - raised - tall
    base = colour(rng, 30, 225)
    east, south, away = np.eye(3)
    if x0 > 0 or x1 < 0:
        side = pen.surface(camera, (x0 if x0 > 0 else x1) * east, away, south)
        side.fill(Rect(z0, top, z1, bottom), base * 0.65)
    if top > 0:
        pen.surface(camera, top * south, east, away).fill(
            Rect(x0, z0, x1, z1), np.clip(base * 1.15, 0, 255)
        )
    front = pen.surface(camera, z0 * away, east, south)
    front.fill(Rect(x0, top, x1, bottom), base)
    _doors(rng, front, Rect(x0, top, x1, bottom), base)


def _doors(rng: Rng, front: Surface, face: Rect, base: Floats) -> None:
    """Drawers, doors or open shelves on the front of a cupboard."""
    u = np.linspace(face.u0, face.u1, int(rng.integers(2, 5)))
    v = np.linspace(face.v0, face.v1, int(rng.integers(2, 6)))
    front.lines(grid_lines(u, v), shades(rng, base * 0.5, 1, 8)[0], rng.uniform(0.7, 2))
    knobs = np.stack([u[:-1] + 0.02, u[:-1] * 0 + v[0] + 0.05], axis=1)
    sizes = np.array([0.03, 0.015])
    front.rects(np.concatenate([knobs, knobs + sizes], axis=1), contrasting(rng, base))

"""Complete scenes: the objects, their places, and the camera's position."""

from collections.abc import Callable

import numpy as np

from warp_train.data.drawing.curved import clutter, few_curves, foliage, hills
from warp_train.data.drawing.finish import defocus, light, texture, uneven
from warp_train.data.drawing.fixtures import furniture, opening, picture, skirting
from warp_train.data.drawing.patterns import FLOOR_PATTERNS, WALL_PATTERNS, Rng, colour, contrasting
from warp_train.data.drawing.surfaces import Camera, Pen, Rect, Surface
from warp_train.photos.pixels import Image

World = Callable[[Rng, Pen], None]

_EAST, _SOUTH, _AWAY = np.eye(3)
_QUARTERS, _CHANCE_OF_QUARTERS = (-np.pi / 2, 0.0, np.pi / 2), (0.06, 0.88, 0.06)


def _camera(rng: Rng, yaw: float, pitch: float) -> Camera:
    """A camera turned by up to the given angles (radians); its roll is a few degrees at most,
    or a quarter turn more: a portrait photo, which networks see lying on its side."""
    tilt = rng.uniform(-pitch, pitch) if rng.random() < 0.7 else 0.0
    roll = rng.normal(0, 0.03) + rng.choice(_QUARTERS, p=_CHANCE_OF_QUARTERS)
    return Camera(rng.uniform(0.7, 2.0), rng.uniform(-yaw, yaw), tilt, roll)


def room(rng: Rng, pen: Pen) -> None:
    """The inside of a box: floor, ceiling, three walls and furniture."""
    camera = _camera(rng, 0.7, 0.25)
    left, right = -rng.uniform(0.5, 2), rng.uniform(0.5, 2)
    ceiling, floor = -rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.3)
    depth = rng.uniform(1.3, 4)
    paint = colour(rng, 110, 240, 15)
    ground = pen.surface(camera, floor * _SOUTH, _EAST, _AWAY)
    _floor(rng, ground, Rect(left, -0.5, right, depth))
    top = pen.surface(camera, ceiling * _SOUTH, _EAST, _AWAY)
    top.fill(Rect(left, -0.5, right, depth), np.clip(paint * rng.uniform(0.8, 1.2), 0, 255))
    walls = (
        (pen.surface(camera, left * _EAST, _AWAY, _SOUTH), Rect(-0.5, ceiling, depth, floor)),
        (pen.surface(camera, right * _EAST, _AWAY, _SOUTH), Rect(-0.5, ceiling, depth, floor)),
        (pen.surface(camera, depth * _AWAY, _EAST, _SOUTH), Rect(left, ceiling, right, floor)),
    )
    for surface, wall in walls:
        surface.fill(wall, np.clip(paint * rng.uniform(0.6, 1.1), 0, 255))
        if rng.random() < 0.25:
            _pattern(rng, WALL_PATTERNS)(rng, surface, wall, wall.height * rng.uniform(0.1, 0.3))
        for _ in range(rng.integers(0, 6)):
            fixture = opening if rng.random() < 0.5 else picture
            fixture(rng, surface, wall, rng.uniform(wall.u0, wall.u1))
        skirting(rng, surface, wall)
    for _ in range(rng.integers(0, 7)):
        furniture(rng, pen, camera, floor, Rect(left, 0.7, right - 0.3, depth - 0.2))


def _pattern(rng: Rng, patterns: tuple[Callable[..., None], ...]) -> Callable[..., None]:
    return patterns[rng.integers(len(patterns))]


def _floor(rng: Rng, ground: Surface, area: Rect) -> None:
    if rng.random() < 0.25:
        ground.fill(area, colour(rng, 40, 200))
    else:
        _pattern(rng, FLOOR_PATTERNS)(rng, ground, area, rng.uniform(0.12, 0.5))


def wall(rng: Rng, pen: Pen) -> None:
    """One pattern that fills the view: a facade, a shelf, blinds, a page, a tiled wall."""
    camera = _camera(rng, 0.6, 0.35)
    surface = pen.surface(camera, _AWAY, _EAST, _SOUTH)
    view = surface.view()
    cell = rng.uniform(0.08, 0.3) / camera.focal
    _pattern(rng, WALL_PATTERNS)(rng, surface, view, max(cell, view.width / 40))
    for _ in range(rng.integers(0, 3)):
        part = Rect(view.u0, view.v0 * 0.6, view.u1, view.v1 * 0.6)
        picture(rng, surface, part, rng.uniform(part.u0, part.u1) * 0.7)


def corner(rng: Rng, pen: Pen) -> None:
    """Two facades that meet at an edge, the sky above and the street below."""
    camera = _camera(rng, 0.5, 0.25)
    pen.paint_over(colour(rng, 120, 250))
    edge = np.array([rng.uniform(-0.3, 0.3), 0, rng.uniform(1, 2)])
    top, bottom = -rng.uniform(0.3, 2), rng.uniform(0.3, 1)
    street = pen.surface(camera, bottom * _SOUTH, _EAST, _AWAY)
    _floor(rng, street, Rect(-4, 0, 4, 6))
    turn = rng.uniform(0.3, 1.2)
    outward = rng.choice([-1.0, 1.0])  # the outer corner of a house, or a corner of a courtyard
    for side, angle in ((-1, turn), (1, rng.uniform(0.3, 1.2))):
        along = np.array([side * np.cos(angle), 0, outward * np.sin(angle)])
        surface = pen.surface(camera, edge, along, _SOUTH)
        cell = rng.uniform(0.12, 0.35)
        _pattern(rng, WALL_PATTERNS)(rng, surface, Rect(0, top, 4, bottom), cell)


def hall(rng: Rng, pen: Pen) -> None:
    """A floor that runs to a distant wall or to the horizon."""
    camera = _camera(rng, 0.5, 0.3)
    pen.paint_over(colour(rng, 100, 250))
    floor, depth = rng.uniform(0.25, 0.8), rng.uniform(1.5, 5)
    back = pen.surface(camera, depth * _AWAY, _EAST, _SOUTH)
    _pattern(rng, WALL_PATTERNS)(
        rng, back, Rect(-4, -rng.uniform(0.3, 3), 4, floor), depth * rng.uniform(0.08, 0.3)
    )
    ground = pen.surface(camera, floor * _SOUTH, _EAST, _AWAY)
    _floor(rng, ground, Rect(-3, 0, 3, depth))
    for _ in range(rng.integers(0, 5)):
        furniture(rng, pen, camera, floor, Rect(-1.5, 0.8, 1.5, depth))


def shards(rng: Rng, pen: Pen) -> None:
    """Straight edges in any direction: panels, beams, cables under tension."""
    surface = pen.surface(Camera(1.0, 0, 0, 0), _AWAY, _EAST, _SOUTH)
    base = colour(rng)
    pen.paint_over(base)
    centres = rng.uniform(-1.2, 1.2, (30, 1, 2))
    angle = rng.uniform(0, np.pi, 30)
    along = np.stack([np.cos(angle), np.sin(angle)], 1)[:, None] * rng.uniform(0.2, 1.5, (30, 1, 1))
    across = along[..., ::-1] * (-1, 1) * rng.uniform(0.02, 0.5, (30, 1, 1))
    quads = [centres - along - across, centres + along - across,
             centres + along + across, centres - along + across]  # fmt: skip
    surface.quads(np.concatenate(quads, axis=1), rng.uniform(10, 245, (30, 3)))
    ends = rng.uniform(-1.5, 1.5, (int(rng.integers(5, 25)), 2, 2))
    surface.lines(ends, contrasting(rng, base), rng.uniform(0.8, 3))


def landscape(rng: Rng, pen: Pen) -> None:
    """Hardly a straight line: hills, plants, and perhaps a pole, a fence or a house far away."""
    pen.paint_over(colour(rng, 120, 250))
    hills(rng, pen)
    for _ in range(rng.integers(1, 4)):
        foliage(rng, pen)
    surface = pen.surface(Camera(1.0, 0, 0, rng.normal(0, 0.03)), _AWAY, _EAST, _SOUTH)
    for _ in range(rng.integers(0, 3)):
        u, v = rng.uniform(-1, 1, 2)
        wide, tall = rng.uniform(0.02, 0.3, 2) * rng.uniform(0.3, 2, 2)
        surface.fill(Rect(u, v, u + wide, v + tall), colour(rng))


_WORLDS: tuple[tuple[World, float], ...] = (
    (room, 0.33), (wall, 0.21), (corner, 0.17), (hall, 0.14), (shards, 0.05), (landscape, 0.10),
)  # fmt: skip
_LANDSCAPE = len(_WORLDS) - 1
_CUMULATIVE = np.cumsum([share for _, share in _WORLDS])
_ATTEMPTS = 4
_LEAST_EDGES = 0.02
_EDGE = 10  # grey levels between samples three pixels apart


def _edge_share(canvas: Image) -> float:
    """Share of the canvas that contains edges. A scene without edges is useless for training."""
    grey = canvas[::3, ::3, 1].astype(np.int16)
    across, down = np.abs(np.diff(grey, axis=1)) > _EDGE, np.abs(np.diff(grey, axis=0)) > _EDGE
    return float(across.mean() + down.mean()) / 2


def draw_world(
    rng: Rng, canvas: Image, centre: tuple[float, float], scale: float, *, cluttered: bool
) -> None:
    """Draws a random scene over the complete RGB canvas. Its straight edges are straight on it.

    `centre` is the frame's centre and `scale` its half diagonal, both in canvas pixels. A cluttered
    scene has many curved things, textures and parts out of focus, and may have hardly a line.
    """
    pen = Pen(canvas, centre, scale)
    for _ in range(_ATTEMPTS):
        canvas[:] = 128
        all_worlds = _CUMULATIVE[-1 if cluttered else _LANDSCAPE - 1]
        choice = int(np.searchsorted(_CUMULATIVE, rng.random() * all_worlds))
        _WORLDS[choice][0](rng, pen)
        if _edge_share(canvas) > _LEAST_EDGES:
            break
    if not cluttered:
        few_curves(rng, pen)
        light(rng, pen)
        return
    clutter(rng, pen)
    uneven(rng, pen)
    if rng.random() < 0.5:
        texture(rng, pen)
    light(rng, pen)
    if rng.random() < 0.2:
        defocus(rng, pen)

"""Patterns that fill a rectangle of a surface: tiles, planks, bricks, blinds, print, windows."""

from collections.abc import Callable

import numpy as np

from warp_train.data.drawing.surfaces import Floats, Rect, Surface

Rng = np.random.Generator
Pattern = Callable[[Rng, Surface, Rect, float], None]
"""Draws on a rectangle of a surface, in cells of about the given size (surface units)."""

_MOST_CELLS = 40  # per side
_MOST_LETTERS = 450


def colour(rng: Rng, low: float = 20, high: float = 235, tint: float = 30) -> Floats:
    """A random RGB colour with a brightness of `low` … `high`; mostly near grey, as in rooms."""
    level, tint = rng.uniform(low, high), tint * rng.random()
    return in_range(level + rng.normal(0, tint, 3))


def in_range(colours: Floats) -> Floats:
    """The colours clipped to 0 … 255; these ufuncs have a fraction of np.clip's overhead."""
    clipped: Floats = np.minimum(np.maximum(colours, 0.0), 255.0)
    return clipped


def shades(rng: Rng, base: Floats, count: int, spread: float) -> Floats:
    """`count` variations [count, 3] of a colour."""
    brightness = rng.normal(0, spread, (count, 1)) + rng.normal(0, spread / 4, (count, 3))
    return in_range(base + brightness)


def contrasting(rng: Rng, base: Floats, least: float = 35) -> Floats:
    """A random colour whose brightness differs from `base` by at least `least` grey levels."""
    other = colour(rng)
    level = float(base.sum()) / 3
    gap = float(other.sum()) / 3 - level
    if abs(gap) < least:
        other = in_range(other + (least if level < 128 else -least) - gap)
    return other


def steps(start: float, end: float, cell: float) -> Floats:
    """Positions from `start` to `end` or just beyond, `cell` apart, or farther apart if there would
    be more than `_MOST_CELLS` cells."""
    count = min(_MOST_CELLS, max(1, int(np.ceil((end - start) / cell))))
    return start + np.arange(count + 1) * max(cell, (end - start) / _MOST_CELLS)


def cells(rect: Rect, size_u: float, size_v: float) -> Floats:
    """The rectangle divided into cells [N, 4] as (u0, v0, u1, v1), row by row."""
    u, v = steps(rect.u0, rect.u1, size_u), steps(rect.v0, rect.v1, size_v)
    left, top = (part.ravel() for part in np.meshgrid(u[:-1], v[:-1]))
    return np.stack([left, top, left + u[1] - u[0], top + v[1] - v[0]], axis=1)


def inset(rects: Floats, share_u: float, share_v: float) -> Floats:
    """Rectangles [N, 4], made smaller on every side by a share of their own size."""
    du, dv = (rects[:, 2] - rects[:, 0]) * share_u, (rects[:, 3] - rects[:, 1]) * share_v
    return rects + np.stack([du, dv, -du, -dv], axis=1)


def grid_lines(u: Floats, v: Floats) -> Floats:
    """Segments [N, 2, 2] of the lattice through all `u` and all `v`."""
    upright = [[(a, v[0]), (a, v[-1])] for a in u]
    level = [[(u[0], b), (u[-1], b)] for b in v]
    return np.array(upright + level)


def tiles(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Square tiles with joints, plain or chequered."""
    base = colour(rng, 60, 220)
    surface.fill(rect, base)
    u, v = steps(rect.u0, rect.u1, cell), steps(rect.v0, rect.v1, cell * rng.choice([1, 1, 0.5, 2]))
    if rng.random() < 0.5:
        squares = cells(rect, u[1] - u[0], v[1] - v[0])
        row, column = np.divmod(np.arange(len(squares)), len(u) - 1)
        dark = squares[(row + column) % 2 == 0]
        surface.rects(dark, shades(rng, contrasting(rng, base), len(dark), 6))
    if rng.random() < 0.8:
        surface.lines(grid_lines(u, v), contrasting(rng, base, 25), rng.uniform(0.6, 2.4))


def planks(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Long boards of slightly different shades, their ends staggered."""
    base = colour(rng, 50, 200, 20) * (1.1, 1.0, 0.85)
    surface.fill(rect, np.clip(base, 0, 255))
    boards = cells(rect, cell * rng.uniform(3, 6), cell * rng.uniform(0.4, 0.8))
    row = np.round((boards[:, 1] - rect.v0) / (boards[0, 3] - boards[0, 1]))
    shift = (row * rng.uniform(0.2, 0.6)) % 1 * (boards[0, 2] - boards[0, 0])
    boards[:, [0, 2]] -= shift[:, None]
    boards[:, [0, 2]] = np.clip(boards[:, [0, 2]], rect.u0, rect.u1)
    surface.rects(boards, shades(rng, base, len(boards), rng.uniform(5, 18)))
    edges = steps(rect.v0, rect.v1, boards[0, 3] - boards[0, 1])
    joints = np.array([[(rect.u0, v), (rect.u1, v)] for v in edges])
    surface.lines(joints, base * 0.6, rng.uniform(0.6, 1.6))


def bricks(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Courses of bricks, every second one shifted by half."""
    base = colour(rng, 70, 200)
    surface.fill(rect, base)
    height = cell * rng.uniform(0.35, 0.6)
    u, v = steps(rect.u0, rect.u1, cell), steps(rect.v0, rect.v1, height)
    level = [[(rect.u0, b), (rect.u1, b)] for b in v]
    half = (u[1] - u[0]) / 2
    left, top = (part.ravel() for part in np.meshgrid(u[:-1], v[:-1]))
    left = left + np.repeat(np.arange(len(v) - 1) % 2, len(u) - 1) * half
    upright = np.stack([left, top, left, top + v[1] - v[0]], axis=1).reshape(-1, 2, 2)
    ink = contrasting(rng, base, 25)
    surface.lines(np.concatenate([level, upright]), ink, rng.uniform(0.6, 2))


def stripes(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Wallpaper, cladding or corrugated metal: stripes in one direction."""
    base = colour(rng, 60, 225)
    surface.fill(rect, base)
    level = rng.random() < 0.5
    start, end = (rect.v0, rect.v1) if level else (rect.u0, rect.u1)
    at = steps(start, end, cell * rng.uniform(0.4, 1))
    wide = (at[1] - at[0]) * rng.uniform(0.15, 0.6)
    across = np.full_like(at, rect.u0 if level else rect.v0)
    along = np.full_like(at, rect.u1 if level else rect.v1)
    edges = (across, at, along, at + wide) if level else (at, across, at + wide, along)
    surface.rects(np.stack(edges, axis=1), shades(rng, contrasting(rng, base, 20), len(at), 4))


def blinds(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Slats with a light and a dark edge each, and their cords."""
    base = colour(rng, 90, 235, 15)
    surface.fill(rect, base * rng.uniform(0.3, 0.8))
    top = steps(rect.v0, rect.v1, cell * rng.uniform(0.25, 0.5))
    slat = top[1] - top[0]
    lower = top + slat * rng.uniform(0.5, 0.9)
    left, right = np.full_like(top, rect.u0), np.full_like(top, rect.u1)
    surface.rects(np.stack([left, top, right, lower], axis=1), shades(rng, base, len(top), 5))
    cords = np.linspace(rect.u0, rect.u1, int(rng.integers(3, 7)))
    upright = np.array([[(u, rect.v0), (u, rect.v1)] for u in cords])
    surface.lines(upright, base * 0.5, rng.uniform(0.6, 1.4))


def windows(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """A facade: rows of windows with frames, panes, sills and lintels."""
    if rng.random() < 0.4:
        bricks(rng, surface, rect, cell * 0.35)
        base = colour(rng, 80, 230)
    else:
        base = colour(rng, 80, 230)
        surface.fill(rect, base)
    grid = cells(rect, cell * rng.uniform(1, 1.8), cell * rng.uniform(1.2, 2))
    share_u, share_v = rng.uniform(0.12, 0.3), rng.uniform(0.12, 0.3)
    frames = inset(grid, share_u, share_v)
    surface.rects(frames, contrasting(rng, base))
    glass = inset(frames, 0.1, 0.08)
    surface.rects(glass, shades(rng, colour(rng, 20, 160), len(glass), 25))
    middle = (glass[:, 0] + glass[:, 2]) / 2
    bars = np.stack([middle, glass[:, 1], middle, glass[:, 3]], axis=1).reshape(-1, 2, 2)
    surface.lines(bars, contrasting(rng, base), rng.uniform(0.6, 2))
    if rng.random() < 0.5:
        sills = frames.copy()
        sills[:, 1] = frames[:, 3]
        sills[:, 3] += (grid[0, 3] - grid[0, 1]) * 0.05
        surface.rects(inset(sills, -0.1, 0), base * 0.6)
    if rng.random() < 0.5:
        rows = np.unique(grid[:, 1])
        ledges = np.array([[(rect.u0, v), (rect.u1, v)] for v in rows])
        surface.lines(ledges, base * 0.7, rng.uniform(0.8, 2.5))


def shelves(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Shelf boards with books of various widths, heights and colours."""
    wood = colour(rng, 60, 220)
    surface.fill(rect, wood * 0.4)
    rows = steps(rect.v0, rect.v1, cell * rng.uniform(1.2, 2))
    row_height = rows[1] - rows[0]
    widths = rng.uniform(0.1, 0.35, 90) * cell
    starts = rect.u0 + np.concatenate([[0.0], np.cumsum(widths)[:-1]])
    tint = rng.uniform(5, 60)
    for foot in rows[1:]:
        left = starts - rng.uniform(0, 3) * cell
        top = foot - rng.uniform(0.5, 0.9, len(left)) * row_height
        stand = (rng.random(len(left)) < 0.9) & (left >= rect.u0) & (left < rect.u1)
        books = np.stack([left, top, left + widths, np.full_like(left, foot)], axis=1)[stand]
        covers = rng.uniform(15, 230, (len(books), 1)) + rng.normal(0, tint, (len(books), 3))
        surface.rects(books, np.clip(covers, 0, 255))
    boards = np.stack([rows * 0 + rect.u0, rows, rows * 0 + rect.u1, rows + row_height * 0.06], 1)
    surface.rects(boards, wood)


def lettering(rng: Rng, surface: Surface, rect: Rect, cell: float) -> None:
    """Print seen from a distance: lines of words that consist of short strokes."""
    paper = colour(rng, 150, 250, 10) if rng.random() < 0.8 else colour(rng, 10, 80, 10)
    surface.fill(rect, paper)
    ink = contrasting(rng, paper, 90)
    lines = steps(rect.v0, rect.v1, cell * rng.uniform(0.4, 1))
    size = (lines[1] - lines[0]) * rng.uniform(0.35, 0.6)
    pitch = max(size * 0.7, rect.width * len(lines) / _MOST_LETTERS)
    columns = steps(rect.u0, rect.u1, pitch)[:-1]
    u, v = (part.ravel() for part in np.meshgrid(columns, lines))
    letters = rng.random(len(u)) < 0.78
    u, v = u[letters], v[letters]
    tall = size * rng.choice([0.6, 0.6, 1.0], len(u))
    strokes = np.stack([u, v + size - tall, u + pitch * rng.uniform(0.2, 0.9, len(u)), v + size], 1)
    surface.rects(strokes, ink)


WALL_PATTERNS: tuple[Pattern, ...] = (
    tiles, bricks, stripes, blinds, windows, shelves, lettering, planks,
)  # fmt: skip
FLOOR_PATTERNS: tuple[Pattern, ...] = (tiles, tiles, planks, stripes)

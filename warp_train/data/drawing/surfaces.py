"""Flat surfaces in front of a camera: lines drawn on a surface are straight on the canvas."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.photos.pixels import Image

Floats = NDArray[np.floating[Any]]
Point = tuple[float, float, float]
"""Homogeneous, on the canvas."""

_SHIFT = 4  # OpenCV's fixed-point bits: corners have a precision of 1/16 canvas pixel
_NEAR = 0.06  # least depth that is drawn
_FAR_OUT = 20_000.0  # canvas pixels; corners are clamped to this, far outside the visible canvas


class Rect(NamedTuple):
    """A rectangle on a surface, in its own units; v points down."""

    u0: float
    v0: float
    u1: float
    v1: float

    @property
    def width(self) -> float:
        return self.u1 - self.u0

    @property
    def height(self) -> float:
        return self.v1 - self.v0


class Camera:
    """A pinhole camera at the origin that looks along +z (x right, y down) before its rotation."""

    def __init__(self, focal: float, yaw: float, pitch: float, roll: float) -> None:
        """`focal` in half diagonals of the frame; the angles in radians."""
        self.focal = focal
        # Rodrigues vectors compose: yaw about y first, then pitch about x, then roll about z.
        turns = [(0.0, yaw, 0.0), (pitch, 0.0, 0.0), (0.0, 0.0, roll)]
        y, x, z = (cv2.Rodrigues(np.array(turn))[0] for turn in turns)
        self.rotation: Floats = z @ x @ y


class Pen:
    """Draws on a canvas. `centre` is the frame's centre and `scale` its half diagonal, both in
    canvas pixels."""

    def __init__(self, canvas: Image, centre: tuple[float, float], scale: float) -> None:
        self.canvas = canvas
        self.centre = centre
        self.scale = scale

    def paint_over(self, colour: Floats) -> None:
        """Fills the canvas with one colour, truncated to integers."""
        height, width = self.canvas.shape[:2]
        # Faster than an assignment in numpy, which would write three bytes at a time.
        cv2.rectangle(self.canvas, (0, 0), (width, height), colour.astype(int).tolist(), cv2.FILLED)

    def surface(self, camera: Camera, origin: Floats, u_axis: Floats, v_axis: Floats) -> "Surface":
        """The plane `origin + u · u_axis + v · v_axis`, projected by the camera."""
        focal = camera.focal * self.scale
        cx, cy = self.centre
        intrinsics = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])
        axes = np.array([u_axis, v_axis, origin]).T
        return Surface(self, intrinsics @ camera.rotation @ axes)


class Surface:
    """A plane with a homography to the canvas."""

    def __init__(self, pen: Pen, homography: Floats) -> None:
        self.pen = pen
        self.homography = homography

    def view(self) -> Rect:
        """A box on the surface that covers the canvas, at most ±6; for a surface that faces the
        camera."""
        height, width = self.pen.canvas.shape[:2]
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]])
        back = corners @ np.linalg.inv(self.homography).T
        if (back[:, 2] <= 0).any():
            return Rect(-6, -6, 6, 6)
        u, v = np.clip(back[:, :2] / back[:, 2:], -6, 6).T
        return Rect(float(u.min()), float(v.min()), float(u.max()), float(v.max()))

    def fill(self, rect: Rect, colour: Floats) -> None:
        """Fills one rectangle, without the part behind the camera."""
        u0, v0, u1, v1 = rect
        # Python floats: for four corners, the overhead of numpy's calls would dominate.
        (a, b, c), (d, e, f), (g, h, i) = self.homography.tolist()
        seen = [
            (a * u + b * v + c, d * u + e * v + f, g * u + h * v + i)
            for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
        ]
        if min(point[2] for point in seen) <= _NEAR:
            seen = _clip_near(seen)
        if len(seen) >= 3:
            outline = np.array([(x / z, y / z) for x, y, z in seen])
            self._polygons([_fixed(outline)], [colour.tolist()])

    def rects(self, rects: Floats, colours: Floats) -> None:
        """Fills rectangles [N, 4], given as (u0, v0, u1, v1), with colours [N, 3] or [3]."""
        self.quads(rects[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), colours)

    def quads(self, corners: Floats, colours: Floats) -> None:
        """Fills convex outlines [N, K, 2] in surface units with colours [N, 3] or [3]. Outlines
        that reach behind the camera are left out."""
        points, inside = self._project(corners)
        height, width = self.pen.canvas.shape[:2]
        low, high = points.min(1), points.max(1)
        seen = (inside & (high > 0).all(1) & (low < (width, height)).all(1)).nonzero()[0]
        shades = np.broadcast_to(colours, (len(corners), 3))[seen].tolist()
        self._polygons(list(_fixed(points[seen])), shades)

    def lines(self, ends: Floats, colour: Floats, thickness: float) -> None:
        """Draws segments [N, 2, 2], given in surface units; `thickness` in canvas pixels."""
        seen = ends @ self.homography[:, :2].T + self.homography[:, 2]
        if seen[..., 2].min() <= _NEAR:
            seen = _cut_near(seen)
        segments = list(_fixed(seen[..., :2] / seen[..., 2:]))
        pixels = max(1, round(thickness))
        shade = tuple(map(float, colour))
        cv2.polylines(self.pen.canvas, segments, False, shade, pixels, cv2.LINE_AA, _SHIFT)

    def _project(self, points: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Canvas positions of points [N, K, 2], and which of the N outlines lie completely in
        front of the camera."""
        seen = points @ self.homography[:, :2].T + self.homography[:, 2]
        depth = seen[..., 2:]
        return seen[..., :2] / np.maximum(depth, _NEAR), (depth[..., 0] > _NEAR).all(1)

    def _polygons(self, outlines: list[Any], colours: list[Any]) -> None:
        canvas = self.pen.canvas
        for outline, colour in zip(outlines, colours, strict=True):
            cv2.fillConvexPoly(canvas, outline, colour, cv2.LINE_AA, _SHIFT)


def _fixed(points: Floats) -> NDArray[np.int32]:
    # Called for every shape: these ufuncs have a fraction of np.clip's overhead.
    scaled: Floats = np.minimum(np.maximum(points, -_FAR_OUT), _FAR_OUT) * (1 << _SHIFT)
    return np.rint(scaled).astype(np.int32)


def _cut_near(ends: Floats) -> Floats:
    """Homogeneous segments [N, 2, 3] without the parts behind the camera."""
    a, b = ends[:, 0], ends[:, 1]
    depth_a, depth_b = a[:, 2:], b[:, 2:]
    at = (_NEAR - depth_a) / np.where(depth_b == depth_a, 1.0, depth_b - depth_a)
    cut = a + at * (b - a)
    ahead = ((depth_a > _NEAR) | (depth_b > _NEAR))[:, 0]
    kept = [np.where(depth_a < _NEAR, cut, a)[ahead], np.where(depth_b < _NEAR, cut, b)[ahead]]
    return np.stack(kept, axis=1)


def _clip_near(polygon: list[Point]) -> list[Point]:
    """A homogeneous polygon without the part behind the camera (Sutherland–Hodgman, 1974)."""
    kept: list[Point] = []
    for here, following in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if here[2] > _NEAR:
            kept.append(here)
        if (here[2] > _NEAR) != (following[2] > _NEAR):
            at = (_NEAR * 1.001 - here[2]) / (following[2] - here[2])
            x, y, z = (a + at * (b - a) for a, b in zip(here, following, strict=True))
            kept.append((x, y, z))
    return kept

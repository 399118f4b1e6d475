"""The one resampling: against OpenCV, in tiles, at the edges, and what each crop promises."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from data_helpers import opencv_maps
from numpy.typing import NDArray
from rectify_helpers import BARREL, PINCUSHION, lens_warp, pixels

from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.pixel_maps import tile_maps
from warp_train.inference.resample import KERNELS, resample
from warp_train.inference.view import View, choose_view

IDENTITY = (0.0, 0, 0, 0, 0, 0, 0, 1)
RESIDUAL = (torch.rand(6, 9, 2, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.03
WARPS = {
    "barrel": lens_warp(BARREL),
    "pincushion": lens_warp(PINCUSHION),
    "hybrid": lens_warp(PINCUSHION, RESIDUAL),
    "lopsided": lens_warp((0.3, 0, 0, 0.02, -0.02, 0.08, 0.08, 0.9)),
    "moustache": lens_warp((0.25, -0.2, 0.12, 0, 0, 0, 0, 0.95)),
}
SIZES = [(240, 360), (300, 200), (97, 97)]


def whole(height: int, width: int) -> View:
    return View((height, width), (height, width))


def exact_sources(warp: PhotoWarp, view: View) -> NDArray[np.float64]:
    """Positions in the photo of every output pixel, in pixels, without a lattice."""
    x, y = np.meshgrid(np.arange(view.size[1], dtype=float), np.arange(view.size[0], dtype=float))
    height, width = view.frame
    source = warp.sources(view.points(x, y), height, width).numpy()
    return (source + 1) / 2 * (width - 1, height - 1)


def blank(warp: PhotoWarp, view: View, by: float = 1e-6) -> NDArray[np.bool_]:
    """Which output pixels are read outside the photo by more than this many pixels."""
    last = np.array((view.frame[1] - 1, view.frame[0] - 1))
    source = exact_sources(warp, view)
    return ((source < -by) | (source > last + by)).any(-1)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_a_lens_is_opencvs_undistortion(interpolation: Any, depth: Any) -> None:
    photo = pixels(301, 450, 3, depth)
    maps = opencv_maps(BARREL, 301, 450)
    theirs = cv2.remap(photo, *maps, KERNELS[interpolation], borderMode=cv2.BORDER_REPLICATE)
    ours = resample(photo, lens_warp(BARREL), whole(301, 450), interpolation)
    unit = np.iinfo(depth).max / 255
    off = np.abs(ours.astype(float) - theirs)[2:-2, 2:-2] / unit
    assert off.mean() < 0.3
    assert np.percentile(off, 99) <= 4  # maps differ by less than a 32nd of a pixel


@pytest.mark.parametrize("name", WARPS)
@pytest.mark.parametrize("zoom", [1.0, 1.13])
def test_maps_are_the_warp_to_a_hundredth_of_a_pixel(name: str, zoom: float) -> None:
    warp, view = WARPS[name], View((1000, 1500), (1000, 1500), zoom)
    exact = exact_sources(warp, view)
    for maps in tile_maps(warp, view, (128, 400)):
        place = exact[maps.rows.start : maps.rows.stop, maps.columns.start : maps.columns.stop]
        for axis, ours in enumerate((maps.x, maps.y)):
            assert np.abs(ours.at - place[..., axis]).max() < 0.01
            assert ours.low <= ours.at.min()
            assert ours.high >= ours.at.max()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_tiles_are_the_whole(interpolation: Any, channels: int) -> None:
    for depth in (np.uint8, np.uint16):
        photo = pixels(150, 220, channels, depth)
        for warp in (WARPS["hybrid"], WARPS["lopsided"]):
            at_once = resample(photo, warp, whole(150, 220), interpolation, tile=(999, 999))
            tiled = resample(photo, warp, whole(150, 220), interpolation, tile=(37, 41))
            assert at_once.shape == photo.shape
            assert np.array_equal(at_once, tiled)


def test_sides_that_opencv_cannot_remap_are_read_in_parts() -> None:
    photo = pixels(40, 33000, 1)
    warp = lens_warp((0.05, 0, 0, 0, 0, 0, 0, 0.98))
    ours = resample(photo, warp, whole(40, 33000), "bilinear")
    x, y = np.moveaxis(exact_sources(warp, whole(40, 33000)).astype(np.float32), -1, 0)
    part = slice(20000, 30000)
    shifted = (x[:, part] - 15000, y[:, part])
    theirs = cv2.remap(
        photo[:, 15000:33000], *shifted, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = ~blank(warp, whole(40, 33000))[:, part]
    assert inside.any()
    assert np.abs(ours[:, part, 0].astype(int) - theirs)[inside].mean() < 0.3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["pincushion", "hybrid", "lopsided"])
def test_what_is_blank_is_so_in_every_interpolation(name: str, channels: int) -> None:
    warp, view = WARPS[name], whole(160, 240)
    photo = pixels(160, 240, channels) // 2 + 100
    outside = blank(warp, view, by=1 / 32)
    results = [resample(photo, warp, view, kernel) for kernel in KERNELS]
    assert outside.mean() > 0.005
    for result in results:
        assert (result[outside] == 0).all()
    masks = [(result == 0).all(-1) for result in results]
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[0], masks[2])
    assert not (masks[0] & ~blank(warp, view)).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WARPS)
def test_fill_zooms_just_enough(name: str, size: tuple[int, int]) -> None:
    warp = WARPS[name]
    view = choose_view(warp, *size, "fill")
    assert view.size == size
    assert not blank(warp, view).any()
    photo = pixels(*size, 3) // 2 + 100
    for kernel in KERNELS:
        assert resample(photo, warp, view, kernel).min() > 30
    if blank(warp, whole(*size)).any():
        assert view.zoom > 1
        short = View(size, size, 1 + (view.zoom - 1) * 0.99)
        assert blank(warp, short).any()
    else:
        assert view == whole(*size)


def largest_by_force(free: NDArray[np.bool_]) -> int:
    """Area of the largest rectangle of True, by trying every pair of rows."""
    best = 0
    for top in range(len(free)):
        columns = np.ones(free.shape[1], bool)
        for bottom in range(top, len(free)):
            columns &= free[bottom]
            edges = np.flatnonzero(np.diff(np.concatenate(([0], columns.view(np.int8), [0]))))
            run = int((edges[1::2] - edges[::2]).max()) if len(edges) else 0
            best = max(best, run * (bottom - top + 1))
    return best


@pytest.mark.parametrize("size", [(80, 120), (120, 80), (97, 97)])
@pytest.mark.parametrize("name", WARPS)
def test_max_is_the_largest_rectangle_without_a_blank(name: str, size: tuple[int, int]) -> None:
    warp = WARPS[name]
    view = choose_view(warp, *size, "max")
    height, width = view.size
    outside = blank(warp, whole(*size))
    rows, columns = slice(view.top, view.top + height), slice(view.left, view.left + width)
    assert view.zoom == 1
    assert not outside[rows, columns].any()
    assert height * width >= largest_by_force(~outside)
    photo = pixels(*size, 3) // 2 + 100
    for kernel in KERNELS:
        cut = resample(photo, warp, view, kernel)
        assert np.array_equal(cut, resample(photo, warp, whole(*size), kernel)[rows, columns])
        assert cut.min() > 30


def test_crops_hold_at_full_resolution() -> None:
    for warp in WARPS.values():
        for crop in ("fill", "max"):
            assert not blank(warp, choose_view(warp, 600, 900, crop)).any()  # type: ignore[arg-type]


def test_a_warp_that_leaves_the_frame_cannot_be_filled() -> None:
    away = PhotoWarp(torch.tensor(IDENTITY, dtype=torch.float64), torch.full((2, 2, 2), 1.5))
    with pytest.raises(ValueError, match="use the crop 'none'"):
        choose_view(away, 100, 150, "fill")
    with pytest.raises(ValueError, match="use the crop 'none'"):
        choose_view(away, 100, 150, "max")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_what_is_transparent_does_not_tint_what_is_not(interpolation: Any, depth: Any) -> None:
    """A white disc on transparent black: no pixel that shows may be darker than white."""
    most = np.iinfo(depth).max
    photo = np.zeros((120, 180, 4), depth)
    cv2.circle(photo, (90, 60), 40, (int(most),) * 4, -1)
    result = resample(photo, WARPS["barrel"], whole(120, 180), interpolation)
    seen = result[..., 3] > most // 50
    assert ((result[..., 3] > 0) & (result[..., 3] < most)).any()
    assert result[seen][:, :3].min() > 0.97 * most
    hidden = photo.copy()
    hidden[..., 3] = 0
    kept = resample(hidden, WARPS["barrel"], whole(120, 180), interpolation)
    assert kept[..., 3].max() == 0
    assert kept[60, 90, 0] == most  # what a mask hides can be brought back


def test_opaque_alpha_stays_opaque() -> None:
    for depth in (np.uint8, np.uint16):
        photo = pixels(120, 180, 4, depth)
        photo[..., 3] = np.iinfo(depth).max
        for kernel in KERNELS:
            plain = resample(photo[..., :3].copy(), WARPS["barrel"], whole(120, 180), kernel)
            result = resample(photo, WARPS["barrel"], whole(120, 180), kernel)
            assert (result[..., 3] == np.iinfo(depth).max).all()
            assert np.array_equal(result[..., :3], plain)

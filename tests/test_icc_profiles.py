"""Colours by H.273's numbers, as ICC profiles that LittleCMS applies."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from warp_train.photos.icc_profiles import colour_profile, is_srgb

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
RED = {
    (1, 13): (1.0, 0.0, 0.0),
    (12, 13): (0.9175, 0.2003, 0.1386),
    (9, 14): (0.7919, 0.2310, 0.0738),
}
"""The red of sRGB in other colour spaces: CSS Color 4, and its tests in web-platform-tests."""


def convert(profile: bytes, colours: list[tuple[float, ...]]) -> list[tuple[int, ...]]:
    image = Image.fromarray(np.rint(np.array([colours]) * 255).astype(np.uint8))
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    shown = ImageCms.profileToProfile(image, own, SRGB, outputMode="RGB")
    assert shown is not None
    return [tuple(map(int, pixel)) for pixel in np.asarray(shown)[0]]


@pytest.mark.parametrize(("numbers", "red"), RED.items())
def test_red_is_red(numbers: tuple[int, int], red: tuple[float, ...]) -> None:
    profile = colour_profile(*numbers)
    assert profile is not None
    [shown, white, black] = convert(profile, [red, (1, 1, 1), (0, 0, 0)])
    assert np.allclose(shown, (255, 0, 0), atol=3)
    assert (white, black) == ((255, 255, 255), (0, 0, 0))


def test_srgb_is_not_changed() -> None:
    profile = colour_profile(1, 13)
    assert profile is not None
    colours = np.random.default_rng(0).integers(0, 256, (200, 3))
    shown = convert(profile, [tuple(colour / 255) for colour in colours])
    assert np.abs(np.array(shown) - colours).max() <= 1


@pytest.mark.parametrize(("transfer", "signal", "light"), [(16, 0.508078, 0.01), (18, 0.5, 1 / 12)])
def test_curves_of_hdr(transfer: int, signal: float, light: float) -> None:
    """BT.2100: 100 cd/m² of 10000 at a signal of 0.508, and E = 1/12 at a signal of 0.5."""
    profile = colour_profile(9, transfer)
    assert profile is not None
    start = profile.index(b"curv") + 12
    table = np.frombuffer(profile[start : start + 8192], ">u2") / 65535
    assert np.interp(signal, np.linspace(0, 1, 4096), table) == pytest.approx(light, abs=2e-5)
    assert table[-1] == 1
    assert b"cicp" + bytes((0, 0, 0, 0, 9, transfer, 0, 1)) in profile


def test_unknown_colours_have_no_profile() -> None:
    assert colour_profile(8, 13) is None
    assert colour_profile(1, 9) is None
    assert colour_profile(2, 2) == colour_profile(1, 13)
    assert is_srgb(1, 13)
    assert is_srgb(2, 2)
    assert not is_srgb(12, 13)


def test_grey_profiles_are_for_grey() -> None:
    profile = colour_profile(1, 8, grey=True)
    assert profile is not None
    grey = Image.fromarray(np.array([[0, 55, 255]], np.uint8))
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    shown = ImageCms.profileToProfile(grey, own, SRGB, outputMode="RGB")
    assert shown is not None
    assert [int(pixel[0]) for pixel in np.asarray(shown)[0]] == [0, 128, 255]

"""Regions lie where their subject is after the photo was turned, corrected and cropped.

The subject is a bright spot, whose place is measured in the pixels.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree
from metadata_helpers import NAMESPACES, exif_of, jpeg, numbers, rdf, text
from numpy.typing import NDArray
from PIL import Image
from rectify_helpers import PINCUSHION, run

WIDTH, HEIGHT = 600, 400
X, Y, ACROSS, DOWN = 450.0, 120.0, 60.0, 40.0
Place = tuple[float, float, float, float]
"""Centre, width and height in pixels."""
PLACE = (X, Y, ACROSS, DOWN)


def spot(x: float, y: float) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    light = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 72)
    return np.repeat(light[..., None].astype(np.uint8), 3, axis=2)


def seen_at(path: Path) -> tuple[float, float]:
    """The centre of the spot in the pixels as they are stored."""
    light = np.asarray(Image.open(path).convert("L")).astype(float)
    light[light < 40] = 0
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    return (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()


def relative(place: Place) -> Place:
    x, y, across, down = place
    return x / WIDTH, y / HEIGHT, across / WIDTH, down / HEIGHT


def working_group(area: str) -> bytes:
    size = f'stDim:w="{WIDTH}" stDim:h="{HEIGHT}" stDim:unit="pixel"'
    return rdf(
        body='<mwg-rs:Regions rdf:parseType="Resource">'
        f"<mwg-rs:AppliedToDimensions {size}/><mwg-rs:RegionList><rdf:Bag><rdf:li>"
        f'<rdf:Description mwg-rs:Name="Ann" mwg-rs:Type="Face">{area}</rdf:Description></rdf:li>'
        "</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
    )


def by_attributes(place: Place) -> bytes:
    x, y, across, down = relative(place)
    values = f'stArea:x="{x}" stArea:y="{y}" stArea:w="{across}" stArea:h="{down}"'
    return working_group(f'<mwg-rs:Area {values} stArea:unit="normalized"/>')


def by_elements(place: Place) -> bytes:
    values = "".join(
        f"<stArea:{n}>{v}</stArea:{n}>" for n, v in zip("xywh", relative(place), strict=True)
    )
    return working_group(f'<mwg-rs:Area rdf:parseType="Resource">{values}</mwg-rs:Area>')


def nested(place: Place) -> bytes:
    values = " ".join(f'stArea:{n}="{v}"' for n, v in zip("xywh", relative(place), strict=True))
    return working_group(f"<mwg-rs:Area><rdf:Description {values}/></mwg-rs:Area>")


def in_pixels(place: Place) -> bytes:
    values = " ".join(f'stArea:{n}="{v}"' for n, v in zip("xywh", place, strict=True))
    return working_group(f'<mwg-rs:Area {values} stArea:unit="pixel"/>')


def circle(place: Place) -> bytes:
    x, y, across, _ = relative(place)
    return working_group(f'<mwg-rs:Area stArea:x="{x}" stArea:y="{y}" stArea:d="{across}"/>')


def microsoft(place: Place) -> bytes:
    x, y, across, down = relative(place)
    rectangle = f"{x - across / 2}, {y - down / 2}, {across}, {down}"
    return rdf(
        body='<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag><rdf:li'
        f' MPReg:Rectangle="{rectangle}" MPReg:PersonDisplayName="Ann"/></rdf:Bag>'
        "</MPRI:Regions></MP:RegionInfo>"
    )


def iptc(unit: str, values: str) -> bytes:
    return rdf(
        body='<Iptc4xmpExt:ImageRegion><rdf:Bag><rdf:li rdf:parseType="Resource">'
        '<Iptc4xmpExt:RegionBoundary rdf:parseType="Resource">'
        f"<Iptc4xmpExt:rbUnit>{unit}</Iptc4xmpExt:rbUnit>{values}"
        "</Iptc4xmpExt:RegionBoundary></rdf:li></rdf:Bag></Iptc4xmpExt:ImageRegion>"
    )


def boundary(**values: float) -> str:
    return "".join(
        f"<Iptc4xmpExt:rb{name}>{value}</Iptc4xmpExt:rb{name}>" for name, value in values.items()
    )


def iptc_rectangle(place: Place) -> bytes:
    x, y, w, h = relative(place)
    return iptc("relative", boundary(X=x - w / 2, Y=y - h / 2, W=w, H=h))


def iptc_pixels(place: Place) -> bytes:
    x, y, w, h = place
    return iptc("pixel", boundary(X=x - w / 2, Y=y - h / 2, W=w, H=h))


def iptc_circle(place: Place) -> bytes:
    x, y, w, _ = relative(place)
    return iptc("relative", boundary(X=x, Y=y, Rx=w / 2))


def iptc_polygon(place: Place) -> bytes:
    x, y, w, h = relative(place)
    corners = itertools.product((x - w / 2, x + w / 2), (y - h / 2, y + h / 2))
    items = "".join(
        f'<rdf:li rdf:parseType="Resource">{boundary(X=a, Y=b)}</rdf:li>' for a, b in corners
    )
    seq = f"<rdf:Seq>{items}</rdf:Seq>"
    return iptc("relative", f"<Iptc4xmpExt:rbVertices>{seq}</Iptc4xmpExt:rbVertices>")


def subject(place: Place) -> bytes:
    items = "".join(f"<rdf:li>{value:.0f}</rdf:li>" for value in place)
    return rdf(body=f"<exif:SubjectArea><rdf:Seq>{items}</rdf:Seq></exif:SubjectArea>")


SCHEMAS: dict[str, Callable[[Place], bytes]] = {
    **{"attributes": by_attributes, "elements": by_elements, "nested": nested},
    **{"in pixels": in_pixels, "circle": circle, "Microsoft": microsoft},
    **{"IPTC rectangle": iptc_rectangle, "IPTC in pixels": iptc_pixels},
    **{"IPTC circle": iptc_circle, "IPTC polygon": iptc_polygon, "EXIF in XMP": subject},
}


def tree_of(path: Path) -> Any:
    """The XMP of a file, parsed by lxml."""
    with Image.open(path) as image:
        packet = image.info.get("xmp") or b""
    found = re.search(rb"<x:xmpmeta.*</x:xmpmeta>", packet, re.DOTALL)
    assert found is not None
    return etree.fromstring(found[0])


def values_of(tree: Any, prefix: str, name: str) -> list[float]:
    """All values of a property, as attributes and as elements."""
    tag = f"{{{NAMESPACES[prefix]}}}{name}"
    texts = [
        e.get(tag) if tag in e.attrib else e.text for e in tree.iter() if tag in (e.tag, *e.attrib)
    ]
    return [float(value) for value in texts]


def place_of(name: str, path: Path) -> Place:
    """Where the region of a result is, in pixels. A circle's height is its width."""
    tree = tree_of(path)
    width, height = Image.open(path).size

    def one(prefix: str, prop: str) -> float:
        return (values_of(tree, prefix, prop) or [0.0])[0]

    if name == "EXIF in XMP":
        items = tree.iterfind(".//exif:SubjectArea//rdf:li", NAMESPACES)
        x, y, w, h = (float(item.text) for item in items)
        return x, y, w, h
    if name == "Microsoft":
        rectangle = tree.xpath("//@MPReg:Rectangle", namespaces=NAMESPACES)[0]
        x, y, w, h = (float(part) for part in rectangle.split(","))
        return (x + w / 2) * width, (y + h / 2) * height, w * width, h * height
    if name.startswith("IPTC"):
        xs, ys = (values_of(tree, "Iptc4xmpExt", f"rb{axis}") for axis in "XY")
        if name == "IPTC polygon":
            w, h = max(xs) - min(xs), max(ys) - min(ys)
            return (min(xs) + w / 2) * width, (min(ys) + h / 2) * height, w * width, h * height
        scale = (1, 1) if name == "IPTC in pixels" else (width, height)
        w, h, radius = (one("Iptc4xmpExt", f"rb{side}") for side in ("W", "H", "Rx"))
        across = (w or 2 * radius) * scale[0]
        down = h * scale[1] if h else across
        shift = 0 if radius else 1
        return (
            xs[0] * scale[0] + shift * across / 2,
            ys[0] * scale[1] + shift * down / 2,
            across,
            down,
        )
    size = (1, 1) if name == "in pixels" else (width, height)
    assert (one("stDim", "w"), one("stDim", "h")) == (width, height)
    across = (one("stArea", "w") or one("stArea", "d")) * size[0]
    down = one("stArea", "h") * size[1] or across
    return one("stArea", "x") * size[0], one("stArea", "y") * size[1], across, down


def photo(
    path: Path, orientation: int, xmp: bytes, x: float = X, y: float = Y, **more: Any
) -> Path:
    first = [text(0x10F, "Maker"), numbers("<", 0x112, "H", orientation)]
    exif = exif_of("<", first, **more)
    path.write_bytes(jpeg(exif, xmp, picture=spot(x, y)))
    return path


@pytest.mark.parametrize("crop", ["fill", "none", "max"])
@pytest.mark.parametrize("orientation", [1, 6, 7])
@pytest.mark.parametrize("name", SCHEMAS)
def test_regions_follow_their_subject(
    name: str, orientation: int, crop: Any, tmp_path: Path
) -> None:
    source = photo(tmp_path / "a.jpg", orientation, SCHEMAS[name](PLACE))
    record = run(source, crop=crop)
    assert record["warnings"] == []
    x, y, across, down = place_of(name, Path(record["output"]))
    assert (
        np.hypot(x - seen_at(Path(record["output"]))[0], y - seen_at(Path(record["output"]))[1]) < 2
    )
    expected = (ACROSS, DOWN) if orientation == 1 else (DOWN, ACROSS)
    if "circle" in name:
        expected = (ACROSS, ACROSS)
    # This lens and this crop change lengths here by less than a sixth.
    assert (across, down) == pytest.approx(expected, rel=1 / 6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("code", ["H", "I"])
def test_subjects_in_the_exif(count: int, orientation: int, code: str, tmp_path: Path) -> None:
    area = numbers("<", 0x9214, code, *(int(value) for value in PLACE[:count]))
    location = numbers("<", 0xA214, "H", int(X), int(Y))
    source = photo(tmp_path / "a.jpg", orientation, b"", details=[area, location])
    record = run(source, PINCUSHION)
    x, y = seen_at(Path(record["output"]))
    details = Image.open(record["output"]).getexif().get_ifd(0x8769)
    assert np.hypot(details[0x9214][0] - x, details[0x9214][1] - y) < 2
    assert np.hypot(details[0xA214][0] - x, details[0xA214][1] - y) < 2
    assert len(details[0x9214]) == count


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_region_outside_the_crop_is_left_out_and_named(name: str, tmp_path: Path) -> None:
    corner = (3.0, 3.0, 2.0, 2.0)
    record = run(photo(tmp_path / "a.jpg", 1, SCHEMAS[name](corner)))
    [warning] = record["warnings"]
    assert "outside the crop" in warning
    kept = etree.tostring(tree_of(Path(record["output"])))
    assert b"rdf:li" not in kept


def test_a_subject_outside_the_crop_is_left_out_and_named(tmp_path: Path) -> None:
    tags = [numbers("<", 0x9214, "H", 2, 2), numbers("<", 0x829A, "H", 7)]
    record = run(photo(tmp_path / "a.jpg", 1, b"", details=tags))
    [warning] = record["warnings"]
    assert "subject area" in warning
    with Image.open(record["output"]) as image:
        assert dict(image.getexif().get_ifd(0x8769)) == {0x829A: 7}


@pytest.mark.parametrize(("share", "edge"), [(0.5, 0.5), (1.0, 1.0)])
def test_corners_outside_the_crop_move_to_its_border(
    share: float, edge: float, tmp_path: Path
) -> None:
    """The left half of the photo stays its left half, and the whole photo the whole."""
    place = (share * WIDTH / 2, HEIGHT / 2, share * WIDTH - 2, HEIGHT - 2.0)
    record = run(photo(tmp_path / "a.jpg", 1, iptc_polygon(place)))
    assert record["warnings"] == []
    tree = tree_of(Path(record["output"]))
    xs, ys = (values_of(tree, "Iptc4xmpExt", f"rb{axis}") for axis in "XY")
    assert (min(xs), min(ys), max(ys)) == (0, 0, 1)
    assert max(xs) == pytest.approx(edge, abs=0.02)

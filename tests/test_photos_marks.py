"""Photos that say that their lens was corrected are left alone, and ours are from then on."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_helpers import textured
from metadata_helpers import MARKS, Tag, directory, jpeg, numbers, png, raw, rdf, text, xmp_chunk
from PIL import Image
from rectify_helpers import run

SUFFIXES = (".jpg", ".png", ".tif", ".webp")
SAVED = (
    "<crss:SavedSettings><rdf:Seq><rdf:li rdf:parseType='Resource'><crss:Parameters>"
    "<rdf:Description {}/></crss:Parameters></rdf:li></rdf:Seq></crss:SavedSettings>"
)


def darktable(*steps: tuple[str, int, int], end: int | None = None) -> bytes:
    """A history of (module, its instance, whether it is enabled)."""
    listed = "".join(
        f'<rdf:li darktable:num="{number}" darktable:operation="{name}"'
        f' darktable:multi_priority="{instance}" darktable:enabled="{enabled}"/>'
        for number, (name, instance, enabled) in enumerate(steps)
    )
    last = len(steps) if end is None else end
    history = f"<darktable:history><rdf:Seq>{listed}</rdf:Seq></darktable:history>"
    return rdf(f'darktable:history_end="{last}"', history)


def old_darktable(*states: tuple[str, int]) -> bytes:
    names = "".join(f"<rdf:li>{name}</rdf:li>" for name, _ in states)
    enabled = "".join(f"<rdf:li>{state}</rdf:li>" for _, state in states)
    body = f"<darktable:history_operation><rdf:Seq>{names}</rdf:Seq></darktable:history_operation>"
    body += f"<darktable:history_enabled><rdf:Seq>{enabled}</rdf:Seq></darktable:history_enabled>"
    return rdf(body=body)


ON = 'crs:LensProfileEnable="1"'
XMP: dict[str, tuple[bytes, bool]] = {
    "profile": (rdf(ON), True),
    "profile, applied": (rdf(f'{ON} crs:AlreadyApplied="True"'), True),
    "profile, not applied": (rdf(f'{ON} crs:AlreadyApplied="False"'), False),
    "profile as elements": (rdf(body="<crs:LensProfileEnable>1</crs:LensProfileEnable>"), True),
    "no profile": (rdf('crs:LensProfileEnable="0" crs:AlreadyApplied="True"'), False),
    "profile without distortion": (rdf(f'{ON} crs:LensProfileDistortionScale="0"'), False),
    "profile with all of it": (rdf(f'{ON} crs:LensProfileDistortionScale="100"'), True),
    "by hand": (rdf('crs:LensManualDistortionAmount="+20"'), True),
    "by hand, nothing": (rdf('crs:LensManualDistortionAmount="0"'), False),
    "a saved setting": (rdf('crs:LensProfileEnable="0"', SAVED.format(ON)), False),
    "only a saved setting": (rdf(body=SAVED.format(ON)), False),
    "before a saved setting": (
        rdf(
            body=SAVED.format('crs:LensProfileEnable="0"')
            + "<crs:LensProfileEnable>1</crs:LensProfileEnable>"
        ),
        True,
    ),
    "Adobe's mark": (rdf('aux:DistortionCorrectionAlreadyApplied="True"'), True),
    "Adobe's mark, false": (rdf('aux:DistortionCorrectionAlreadyApplied="False"'), False),
    "darktable": (darktable(("exposure", 0, 1), ("lens", 0, 1)), True),
    "darktable, off": (darktable(("lens", 0, 0)), False),
    "darktable, off later": (darktable(("lens", 0, 1), ("lens", 0, 0)), False),
    "darktable, on later": (darktable(("lens", 0, 0), ("lens", 0, 1), ("exposure", 0, 1)), True),
    "darktable, undone": (darktable(("exposure", 0, 1), ("lens", 0, 1), end=1), False),
    "darktable, two instances": (darktable(("lens", 0, 1), ("lens", 1, 0)), True),
    "darktable 2.2": (old_darktable(("exposure", 1), ("lens", 1)), True),
    "darktable 2.2, off": (old_darktable(("lens", 1), ("lens", 0)), False),
}


def write(path: Path, xmp: bytes) -> Path:
    if path.suffix == ".jpg":
        path.write_bytes(jpeg(xmp=xmp))
    elif path.suffix == ".png":
        path.write_bytes(png([xmp_chunk(xmp)]))
    elif path.suffix == ".tif":
        Image.fromarray(textured(160, 240)).save(path, tiffinfo={700: xmp})
    else:
        Image.fromarray(textured(160, 240)).save(path, xmp=xmp, lossless=True)
    return path


@pytest.mark.parametrize("name", XMP)
def test_marks_of_programs(name: str, tmp_path: Path) -> None:
    xmp, corrected = XMP[name]
    source = write(tmp_path / "a.jpg", xmp)
    record = run(source)
    assert ("left_alone" in record) == corrected
    assert (Path(record["output"]).read_bytes() == source.read_bytes()) == corrected


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("attributes", ["", 'my:Name="a"', "my:Damaged="])
def test_a_second_run_changes_nothing(suffix: str, attributes: str, tmp_path: Path) -> None:
    xmp = rdf(attributes)
    first = Path(run(write(tmp_path / f"a{suffix}", xmp))["output"])
    second = run(first)
    assert second["left_alone"]
    assert Path(second["output"]).read_bytes() == first.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_mark_of_a_long_xmp_survives_every_format(suffix: str, tmp_path: Path) -> None:
    xmp = rdf('photoshop:City="Town"', f"<my:Long>{'x' * 90_000}</my:Long>")
    source = write(tmp_path / "a.png", xmp)
    kind = {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:])
    first = Path(run(source, name=f"a{suffix}", format=kind)["output"])
    assert "warp_train corrected it" in run(first)["left_alone"]


def test_a_bmp_is_told_to_have_no_mark(tmp_path: Path) -> None:
    Image.fromarray(textured(160, 240)).save(tmp_path / "a.bmp")
    [warning] = run(tmp_path / "a.bmp")["warnings"]
    assert "mark of a correction" in warning


@pytest.mark.parametrize("kind", ["equirectangular", "cylindrical"])
def test_panoramas_are_refused(kind: str, tmp_path: Path) -> None:
    error = run(write(tmp_path / "a.jpg", rdf(f'GPano:ProjectionType="{kind}"')))["error"]
    assert kind in error
    assert "a.jpg" in error


def with_note(order: str, make: str, note: bytes) -> bytes:
    """An EXIF block with a maker's note at position 8."""
    data = MARKS[order] + bytes(4) + note + b"\0" * (len(note) % 2)
    details = len(data)
    data += struct.pack(order + "HHHIII", 1, 0x927C, 7, len(note), 8, 0)
    first = [text(0x10F, make), numbers(order, 0x8769, "I", details)]
    at = struct.pack(order + "I", len(data))
    return data[:4] + at + data[8:] + directory(order, first, len(data))


def canon(order: str, value: int) -> bytes:
    settings = struct.pack(order + "9i", 36, 0, 0, 0, 0, 1, 1, value, 0)
    tags: list[Tag] = [text(6, "a picture"), (0x4016, 4, 9, settings)]
    return with_note(order, "Canon", directory(order, tags, 8))


def nikon(order: str, value: int) -> bytes:
    inner = MARKS[order] + struct.pack(order + "I", 8)
    settings = raw(0x2B, b"0100" + bytes((value,)) + bytes(11))
    return with_note(order, "NIKON", b"Nikon\0\2\x11\0\0" + inner + directory(order, [settings], 8))


def olympus(order: str, value: int) -> bytes:
    head = b"OLYMPUS\0" + MARKS[order][:2] + b"\3\0"
    inner = directory(order, [numbers(order, 0x50B, "H", value)], 30)
    folder = struct.pack(order + "HHHIII", 1, 0x2020, 13, 1, 30, 0)
    return with_note(order, "OLYMPUS CORPORATION", head + folder + inner)


def sony(order: str, value: int) -> bytes:
    setting = numbers(order, 0x2013, "I", value)
    return with_note(order, "SONY", b"SONY DSC \0\0\0" + directory(order, [setting], 20))


def pentax(order: str, value: int) -> bytes:
    tags = directory(">", [numbers(">", 0x7D, "B", value, 1, 1, 1)], 14)
    return with_note(order, "PENTAX", b"AOC\0MM" + tags)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("maker", "on", "off"),
    [(canon, 1, 0), (nikon, 1, 0), (nikon, 2, 0), (olympus, 1, 0), (sony, 2, 0), (pentax, 1, 0)],
)
def test_marks_of_cameras(
    maker: Callable[[str, int], bytes], on: int, off: int, order: str, tmp_path: Path
) -> None:
    """Values as ExifTool's tables of the makers explain them."""
    for value in (on, off):
        source = tmp_path / f"{value}.jpg"
        source.write_bytes(jpeg(maker(order, value)))
        record = run(source)
        assert ("left_alone" in record) == (value == on)
        assert record.get("error") is None


def test_a_programs_settings_overrule_the_cameras(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(jpeg(sony("<", 2), rdf('crs:LensProfileEnable="0"')))
    assert "left_alone" not in run(source)
    assert not np.array_equal(
        np.asarray(Image.open(tmp_path / "out" / "a.jpg")), np.asarray(Image.open(source))
    )

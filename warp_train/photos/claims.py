"""The properties of an XMP packet that announce other parts of its file: gain maps, videos."""

from __future__ import annotations

from warp_train.photos.xmp import Packet


def remove_claims(packet: Packet) -> None:
    """Removes the properties that announce a gain map, a video or pictures behind the photo."""
    for prefix in ("hdrgm", "Container", "Item"):
        packet.remove_namespace(prefix)
    motion = ("MotionPhoto", "MotionPhotoVersion", "MotionPhotoPresentationTimestampUs")
    micro = ("MicroVideo", "MicroVideoVersion", "MicroVideoOffset")
    names = (*motion, *micro, "MicroVideoPresentationTimestampUs", "MotionPhotoOwner")
    packet.remove(*(f"GCamera:{name}" for name in names))


def without_claims(xmp: bytes) -> bytes:
    """The packet without them; one that cannot be parsed is returned as it is."""
    try:
        packet = Packet(xmp) if xmp else None
    except ValueError:
        return xmp
    if packet is None:
        return b""
    remove_claims(packet)
    return b"" if packet.is_empty else bytes(packet)

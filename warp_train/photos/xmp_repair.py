"""Saves what can be read of an XMP packet that is no well-formed XML."""

from __future__ import annotations

import re

from lxml import etree

from warp_train.photos.xmp import Packet, as_utf8, parsed

_UNFINISHED = re.compile(r"<((?:[\w.-]+:)?xmpmeta|(?:[\w.-]+:)?RDF)\b.*", re.DOTALL)
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML forbids."""
_BARE_AMPERSAND = re.compile(r"&(?!#?\w+;)")


def repaired(data: bytes) -> bytes:
    """What can be read of a packet that is no well-formed XML; empty if that is nothing."""
    coded = as_utf8(data)
    try:
        text = coded.decode()
    except UnicodeDecodeError:
        text = coded.decode("latin-1")
    found = _UNFINISHED.search(_BARE_AMPERSAND.sub("&amp;", _NO_XML.sub("", text)))
    if found is None:
        return b""
    try:
        root = parsed(found[0].encode(), recover=True)
        whole = bytes(etree.tostring(root, encoding="utf-8"))
        return b"" if Packet(whole).is_empty else whole
    except ValueError:
        return b""

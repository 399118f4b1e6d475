"""XMP packets: properties read, set and removed, with every other byte kept.

RDF has several spellings of one property: as an attribute, as an element, and nested in structures
(XMP specification, part 1, section 7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from lxml import etree

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DESCRIPTION, _ROOT = f"{{{RDF}}}Description", f"{{{RDF}}}RDF"
_STARTS = (
    re.compile(rb"<((?:[\w.-]{1,99}:)?xmpmeta)\b"),
    re.compile(rb"<((?:[\w.-]{1,99}:)?RDF)\b"),
)
_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))\d")
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + RDF.encode() + b'">'
    b'<rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
)

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "dcterms": "http://purl.org/dc/terms/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "darktable": "http://darktable.sf.net/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GImage": "http://ns.google.com/photos/1.0/image/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "acdsee-rs": "http://ns.acdsee.com/regions/",
    "warpTrain": "urn:warp-train:1.0/",
}


def name_of(short: str) -> str:
    """`prefix:Name` → the qualified name, by the usual prefixes above."""
    prefix, _, local = short.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


class Place:
    """A value in a packet: an attribute, or the text of an element."""

    def __init__(self, element: Any, attribute: str | None) -> None:
        self.element, self.attribute = element, attribute

    @property
    def text(self) -> str:
        if self.attribute is not None:
            return str(self.element.get(self.attribute, ""))
        return (self.element.text or "").strip()

    @text.setter
    def text(self, value: str) -> None:
        if self.attribute is not None:
            self.element.set(self.attribute, value)
        else:
            self.element.text = value

    @property
    def size(self) -> int:
        """Length of the value with everything in it, in bytes."""
        return len(self.text if self.attribute is not None else etree.tostring(self.element))

    def remove(self) -> None:
        """Removes the property with everything in it."""
        if self.attribute is not None:
            del self.element.attrib[self.attribute]
        elif (parent := self.element.getparent()) is not None:
            parent.remove(self.element)


class Packet:
    """An XMP packet that can be changed. `bytes()` of one that was not are the original."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError if the packet cannot be parsed."""
        text = as_utf8(data) if data else _EMPTY
        start, end = _extent(text)
        self._root: Any = parsed(text[start:end], recover=False)
        self._original, self._first = data, etree.tostring(self._root)
        self._before, self._after = text[:start], text[end:]

    def __bytes__(self) -> bytes:
        if etree.tostring(self._root) == self._first:
            return self._original
        return self._before + etree.tostring(self._root, encoding="utf-8") + self._after

    @property
    def is_empty(self) -> bool:
        """Whether the packet has no properties."""
        return not any(
            len(one) or any(not name.startswith(f"{{{RDF}}}") for name in one.attrib)
            for one in self._descriptions()
        )

    def places(self, *shorts: str) -> Iterator[Place]:
        """The values of the properties with these names, wherever in the packet they are."""
        yield from places_in(self._root, *shorts)

    def value(self, short: str) -> str | None:
        """The value of a property of the photo; None if it is missing.

        Those in structures, such as the settings that a program has saved, are not the photo's.
        """
        return next((place.text for place in self.own_places(short)), None)

    def own_places(self, *shorts: str) -> Iterator[Place]:
        """The values of the photo's properties with these names; of all, if no name is given."""
        names = {name_of(short) for short in shorts}
        for description in self._descriptions():
            for name in list(description.attrib):
                if name in names or (not names and not name.startswith(f"{{{RDF}}}")):
                    yield Place(description, name)
            for child in list(description.iterchildren(etree.Element)):
                if not names or child.tag in names:
                    yield Place(child, None)

    def elements(self, short: str) -> list[Any]:
        """The elements with a name."""
        return list(self._root.iter(name_of(short)))

    def uses(self, prefix: str) -> bool:
        """Whether the packet has a property of a namespace."""
        return any(True for _ in self._of_namespace(prefix))

    def set(self, short: str, value: str) -> None:
        """Sets a simple property, and adds it if it is missing."""
        found = next(self.own_places(short), None)
        if found is not None:
            found.text = value
            return
        description = self._description()
        # An element, because only a new element can declare a namespace of its own.
        prefix = short.partition(":")[0]
        child = etree.SubElement(description, name_of(short), nsmap={prefix: NAMESPACES[prefix]})
        child.text = value

    def remove(self, *shorts: str) -> bool:
        """Removes properties; returns whether there were any."""
        found = list(self.places(*shorts))
        for place in found:
            place.remove()
        return bool(found)

    def add(self, place: Place) -> None:
        """Moves a property of another packet into this one, as an element."""
        if place.attribute is None:
            self._description().append(place.element)
        else:
            child = etree.SubElement(self._description(), place.attribute)
            child.text = place.text
            place.remove()

    def compact(self) -> bytes:
        """The packet without the blanks around it that programs leave for changes in place."""
        return self._before.strip() + self.bare() + self._after.strip()

    def bare(self) -> bytes:
        """The packet without its wrapper."""
        return bytes(etree.tostring(self._root, encoding="utf-8"))

    def remove_namespace(self, prefix: str) -> bool:
        """Removes all properties of a namespace; returns whether there were any."""
        found = list(self._of_namespace(prefix))
        for place in found:
            place.remove()
        self._forget(NAMESPACES[prefix])
        return bool(found)

    def _forget(self, space: str) -> None:
        """Removes unused declarations of a namespace: some programs search a packet for its name.

        Other unused declarations stay.
        """
        declared = [pair for one in self._root.iter(etree.Element) for pair in one.nsmap.items()]
        if any(uri == space for _, uri in declared):
            kept = [name for name, uri in declared if name and uri != space]
            etree.cleanup_namespaces(self._root, keep_ns_prefixes=kept)

    def add_descriptions_of(self, other: Packet) -> None:
        """Adds the properties of another packet, such as the extended part of a long one."""
        root = self._rdf()
        if root is not None:
            for description in other._descriptions():
                root.append(description)

    def _of_namespace(self, prefix: str) -> Iterator[Place]:
        start = f"{{{NAMESPACES[prefix]}}}"
        for element in self._root.iter(etree.Element):
            if element.tag.startswith(start):
                yield Place(element, None)
            for name in list(element.attrib):
                if name.startswith(start):
                    yield Place(element, name)

    def _rdf(self) -> Any:
        return self._root if self._root.tag == _ROOT else self._root.find(f".//{_ROOT}")

    def _description(self) -> Any:
        """The first description, which is added if there is none."""
        listed = self._descriptions()
        if listed:
            return listed[0]
        root = self._rdf()
        if root is None:
            root = etree.SubElement(self._root, _ROOT)
        return etree.SubElement(root, _DESCRIPTION, {f"{{{RDF}}}about": ""})

    def _descriptions(self) -> list[Any]:
        root = self._rdf()
        return [] if root is None else root.findall(_DESCRIPTION)


def _extent(text: bytes) -> tuple[int, int]:
    """Start and end of the XML of a packet. Raises ValueError if there is none."""
    for start in _STARTS:
        opening = start.search(text)
        if opening is not None:
            closing = text.rfind(b"</" + opening[1], opening.end())
            end = text.find(b">", closing) + 1
            if closing >= 0 and end:
                return opening.start(), end
    raise ValueError("damaged XMP")


def places_in(element: Any, *shorts: str) -> Iterator[Place]:
    """The values of properties within an element of a packet, itself included."""
    names = [name_of(short) for short in shorts]
    for one in element.iter(etree.Element):
        if one.tag in names:
            yield Place(one, None)
        for name in names:
            if name in one.attrib:
                yield Place(one, name)


def numbers_in(element: Any, shorts: Iterable[str]) -> dict[str, tuple[Place, float]]:
    """The numeric values of some properties within an element, by name."""
    found: dict[str, tuple[Place, float]] = {}
    for short in shorts:
        for place in places_in(element, short):
            try:
                found[short] = place, float(place.text)
            except ValueError:
                continue
            break
    return found


def with_upright_mark(data: bytes) -> bytes:
    """A packet in UTF-8 with its orientation set to upright, and every other byte kept."""
    return _ORIENTATION.sub(rb"\g<1>1", data)


def parsed(text: bytes, *, recover: bool) -> Any:
    """The root element; ValueError if the text is no XML or defines entities."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=recover)
    try:
        root: Any = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"damaged XMP ({error})") from None
    if root is None:
        raise ValueError("damaged XMP")
    if root.getroottree().docinfo.doctype:
        raise ValueError("damaged XMP (it has a document type)")
    return root


def as_utf8(data: bytes) -> bytes:
    """The packet in UTF-8: its first character, `<` or a byte order mark, tells its coding."""
    for coding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        if data.startswith(("<".encode(coding), "\ufeff".encode(coding))):
            text = data[: len(data) // 4 * 4 if "32" in coding else len(data) // 2 * 2]
            return text.decode(coding, "replace").removeprefix("\ufeff").encode()
    return data

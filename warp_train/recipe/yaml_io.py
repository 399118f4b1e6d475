"""YAML of recipes: scalars of YAML 1.2, the origin of every value, one-line errors.

PyYAML reads YAML 1.1, in which `no` and `off` are booleans, `1e-4` is a string, `010` is eight and
`12:30` is a number. Recipes are YAML 1.2 instead, in which `no`, `off` and `12:30` are strings, and
`1e-4` and `010` are the numbers 0.0001 and 10. This module does not depend on a recipe's keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import yaml

from warp_train.runtime.errors import WarpTrainError

KeyPath = tuple[str | int, ...]

_MAX_DEPTH = 32
_SHOWN_CHARS = 60
_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = (_TAG + "map", _TAG + "seq")


class Origin(NamedTuple):
    """The place of a value, and its text."""

    where: str
    """The file and the line, or the file and the command line."""
    text: str
    """The value as written, shortened to one line."""


def parse_yaml(text: str, name: str, *, numbered: bool = True) -> tuple[Any, dict[KeyPath, Origin]]:
    """Parses one YAML document.

    Args:
        text: YAML.
        name: name of the text in errors and origins, such as the file.
        numbered: whether the line number is added to it, as in `name:12`.

    Returns:
        The value (dicts, lists and scalars of JSON) and the origin of every value within it.

    Raises:
        WarpTrainError: not valid YAML, a repeated key, a key that is not a string, or a tag other
            than YAML's own.
    """
    parser = _Parser(text, name, numbered)
    try:
        node = _CoreLoader(text).get_single_node()
        if node is None:
            return None, {(): Origin(name, "")}
        return parser.value(node, ()), parser.origins
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise parser.error(line, f"not valid YAML ({_one_line(error.problem or '')})") from error
    except yaml.YAMLError as error:
        raise parser.error(0, f"not valid YAML ({_one_line(str(error))})") from error
    except RecursionError as error:
        raise parser.error(0, "nested too deeply") from error


def dump_yaml(values: dict[str, Any]) -> str:
    """YAML that is read back as `values`, by `parse_yaml` and by YAML 1.1 readers."""
    return yaml.dump(values, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True, width=100)


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema; only its nodes are used."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (the name PyYAML reads)


class _CoreDumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_SCALARS = {
    "null": (re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_CoreLoader, _CoreDumper):
        _class.add_implicit_resolver(_TAG + _name, _pattern, _first)


def _represent_list(dumper: _CoreDumper, data: list[Any]) -> yaml.Node:
    """Writes lists such as `size: [192, 288]` on one line, and lists of mappings as blocks."""
    flow = not any(isinstance(item, dict) for item in data)
    return dumper.represent_sequence(_TAG + "seq", data, flow_style=flow)


def _represent_string(dumper: _CoreDumper, data: str) -> yaml.Node:
    """Escapes line breaks of every kind, since PyYAML would fold some of them."""
    return dumper.represent_scalar(_TAG + "str", data, style=None if data.isprintable() else '"')


_CoreDumper.add_representer(list, _represent_list)
_CoreDumper.add_representer(str, _represent_string)


def _integer(text: str) -> int:
    return int(text, 0 if text.startswith(("0o", "0x")) else 10)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _string(text: str) -> str:
    text.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
    return text


_CONVERT: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": _integer,
    _TAG + "float": _float,
    _TAG + "str": _string,
}


class _Parser:
    """Converts nodes to values and records the origin of each."""

    def __init__(self, text: str, name: str, numbered: bool) -> None:
        self.origins: dict[KeyPath, Origin] = {}
        self._text = text
        self._name = name
        self._numbered = numbered

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line
        if len(path) > _MAX_DEPTH:  # also the case if an alias contains itself
            raise self.error(line, "nested too deeply")
        written = self._text[node.start_mark.index : node.end_mark.index]
        self.origins[path] = Origin(self._where(line), _one_line(written))
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            raise self.error(line, f"not valid YAML for a recipe (the tag {node.tag})")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(cast(yaml.ScalarNode, node))

    def error(self, line: int, message: str) -> WarpTrainError:
        return WarpTrainError(f"{self._where(line)}: {message}")

    def _where(self, line: int) -> str:
        return f"{self._name}:{line + 1}" if self._numbered else self._name

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                written = self._text[key_node.start_mark.index : key_node.end_mark.index]
                raise self.error(line, f"{_one_line(written)}: a key must be a word")
            here = (*path, key)
            if key in values:
                raise self.error(line, f"{'.'.join(map(str, here))}: this key occurs twice")
            values[key] = self.value(value_node, here)
            # A block starts below its key; the origin is the key's line.
            self.origins[here] = self.origins[here]._replace(where=self._where(line))
        return values

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line
        if node.tag not in _CONVERT:
            raise self.error(line, f"not valid YAML for a recipe (the tag {node.tag})")
        try:
            return _CONVERT[node.tag](node.value)
        except ValueError as error:
            shown = _one_line(ascii(node.value))
            kind = node.tag.removeprefix(_TAG)
            raise self.error(line, f"{shown} cannot be read as {kind}") from error


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"

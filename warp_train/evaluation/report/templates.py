"""The templates of the report. Jinja2 escapes every value that is not markup itself."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from warp_train.evaluation.measuring import printable

_ENVIRONMENT = Environment(
    loader=PackageLoader("warp_train.evaluation", "report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> Markup:
    """A template of this folder, filled in; it may be a value of another one.

    The text can be written as UTF-8 even where names of files cannot.
    """
    return Markup(printable(_ENVIRONMENT.get_template(template).render(values)))

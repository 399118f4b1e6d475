"""The model card: the `README.md` of a model on the hub."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from warp_train.geometry import IDENTITY_PARAMS, PARAM_NAMES
from warp_train.models.config import TrainedOn
from warp_train.runtime.errors import WarpTrainError

_TAGS = ["image-rectification", "lens-distortion", "geometry", "safetensors"]
_MEASURES = (
    ("epe_px", "mean end-point error, px", ".3f"),
    ("loss/total", "loss", ".4f"),
    ("warp_negative_det_pct", "folded, %", ".3f"),
)
_INTRODUCTION = """\
Straightens photographs by geometry alone. The network looks at a small copy of one photo and
predicts a *warp*: a Brown–Conrady lens (eight bounded numbers){residual}. The photo is
then resampled once, from its own pixels: nothing is invented.
"""
_USE = """\
## Use

With the `warp_train` package installed:

```bash
warp-train rectify {model} photos/ --out straight/
warp-train export {model} photos/ --to opencv
```

```python
from warp_train import Straightener

model = Straightener.from_pretrained("{model}")
result = model.straighten(rgb)  # uint8 or uint16 [H, W, 3]
```

The straightened photo is `result.image`, its lens ({names}) is `result.params`, and
`result.expected_error_px` is the expected error in pixels of the photo.
"""
_LIMITS = """\
## Limits

- It corrects what a lens does: no perspective, no rolling shutter, no stitched panorama.
- Lenses beyond the bounds below are corrected in part. A fisheye is beyond them.
- It estimates the lens from lines and texture; for a photo without any (a sky, a wall) the
  prediction is a guess.
- `warp-train` and `Straightener` refuse a warp that folds or reads far outside the photo, or whose
  expected error is large, and apply a weaker warp or none. Code that uses the network's output
  directly must make these checks itself.
"""


def model_card(
    description: Mapping[str, Any],
    *,
    recipe: str | None = None,
    summary: Mapping[str, Any] | None = None,
    license_id: str | None = None,
    repo_id: str | None = None,
) -> str:
    """The card of a model, Markdown under a YAML header. Markup in the arguments has no effect.

    Args:
        description: as `config.json` holds it.
        recipe: the text of a run's `recipe.yaml`. It names the run's folders; look before sharing.
        summary: the contents of a run's `summary.json`.
        license_id: the hub's identifier of a licence, as `apache-2.0`; None: the card names none.
        repo_id: where it will lie, for the examples.

    Raises:
        WarpTrainError: `license_id` is no such identifier.
    """
    parts = [
        _header(license_id),
        _about(description),
        _USE.format(model=_word(repo_id or "MODEL"), names=", ".join(PARAM_NAMES)),
        "" if summary is None else _scores(summary),
        _LIMITS,
        _bounds(description["model"]["param_bounds"]),
        "" if recipe is None else f"## Recipe\n\n{_fenced(recipe, 'yaml')}",
    ]
    return "\n".join(part for part in parts if part)


def _header(license_id: str | None) -> str:
    if license_id is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", license_id):
        raise WarpTrainError(f"license {license_id!r}: not an identifier such as apache-2.0")
    fields = {
        "library_name": "warp_train",
        "pipeline_tag": "image-to-image",
        "tags": _TAGS,
        **({} if license_id is None else {"license": license_id}),
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n"


def _about(description: Mapping[str, Any]) -> str:
    residual = " and a small smooth residual flow" if description["residual_enabled"] else ""
    lines = [
        "# Straight photographs\n",
        _INTRODUCTION.format(residual=residual),
        f"- backbone: `{_word(description['model']['backbone'])}`",
    ]
    known = description["trained_on"]
    if known is not None:
        height, width = known["size"]
        tall, wide = TrainedOn.model_validate(known).look
        lines += [
            f"- newest stage of training: `{_word(known['stage'])}`",
            f"- trained on frames of {height} × {width} px (height × width); of a photo it sees a "
            f"small copy with the area of {tall} × {wide} px",
        ]
    return "\n".join(lines) + "\n"


def _scores(summary: Mapping[str, Any]) -> str:
    """A row for identity, fixed warp and each stage; a dash for what is not a number."""
    stages = summary.get("stages")
    rows = {
        "identity (doing nothing)": summary.get("identity"),
        "fixed warp (the same for every photo)": summary.get("fixed_warp"),
        **{
            f"`{_word(name)}`": row
            for name, row in (stages if isinstance(stages, Mapping) else {}).items()
        },
    }
    lines = [
        "## Scores\n",
        "All rows on the same samples, none of which was trained on.\n",
        "| | " + " | ".join(title for _, title, _ in _MEASURES) + " |",
        "|---|" + "--:|" * len(_MEASURES),
    ]
    for name, row in rows.items():
        known = row if isinstance(row, Mapping) else {}
        cells = (_cell(known.get(key), form) for key, _, form in _MEASURES)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _bounds(bounds: Mapping[str, float]) -> str:
    """The largest and smallest value of each lens parameter."""
    lines = ["| parameter | least | most |", "|---|--:|--:|"]
    for name, middle in zip(PARAM_NAMES, IDENTITY_PARAMS, strict=True):
        reach = float(bounds[name])
        lines.append(f"| `{name}` | {middle - reach:.4g} | {middle + reach:.4g} |")
    return "\n".join(lines) + "\n"


def _cell(value: object, form: str) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return format(value, form) if is_number and math.isfinite(value) else "–"  # type: ignore[arg-type]


def _word(text: object) -> str:
    """A name that Markdown and a shell leave as it is: others' characters become underscores."""
    return re.sub(r"[^\w./-]", "_", str(text)[:96], flags=re.ASCII)


def _fenced(text: str, language: str) -> str:
    """A code block that the text cannot end: its fence is longer than any backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    clean = "".join(char for char in text if char.isprintable() or char in "\n\t").rstrip()
    return f"{fence}{language}\n{clean}\n{fence}\n"

"""The pages of the repository as data: their commands, code, tokens and links."""

import re
import shlex
from pathlib import Path

from runs_helpers import ROOT

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "recipes/README.md",
        "launch/README.md",
        ".github/CONTRIBUTING.md",
        ".github/RESULTS.md",
        ".github/PHOTOS.md",
        "CHANGELOG.md",
    )
}
PROGRAMS = (
    *("warp-train", "accelerate", "torchrun", "python", "pip", "pytest", "sbatch"),
    *("ruff", "mypy", "wandb", "docker", "kubectl", "sky"),
)
_FENCE = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [text for name, _, text in _FENCE.findall(PAGES[page]) if name == language]


def edits(page: str) -> list[tuple[str, str, str]]:
    """The blocks that name a file of the package: language, file, text."""
    return [(name, file, text) for name, file, text in _FENCE.findall(PAGES[page]) if file]


def apply_edits(page: str, package: Path) -> None:
    """Writes the new files of a page and makes its changes, as a reader would by hand.

    A `diff` block has the lines of a unified diff, without numbers; `@@` separates its hunks.
    """
    for language, file, text in edits(page):
        path = package / file
        if language != "diff":
            assert not path.exists(), f"{file} exists already: choose another example"
            path.write_text(text, encoding="utf-8")
            continue
        for hunk in text.split("@@\n"):
            lines = hunk.splitlines()
            before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
            after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
            content = path.read_text(encoding="utf-8")
            assert content.count(before) == 1, f"{file} does not have once:\n{before}"
            path.write_text(content.replace(before, after), encoding="utf-8")


def tokens(page: str) -> list[str]:
    """What stands in backticks within the sentences and tables of a page, on one line each."""
    prose = _FENCE.sub("", PAGES[page])
    return [" ".join(token.split()) for token in _INLINE.findall(prose)]


def links(page: str) -> list[str]:
    """Targets of links and pictures."""
    return _LINK.findall(_FENCE.sub("", PAGES[page]))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def commands(page: str) -> list[list[str]]:
    """Every command of a page, in fenced blocks and in backticks, as its words."""
    lines = [
        line
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
        if line and not line.startswith("#")
    ]
    inline = [token for token in tokens(page) if token.split()[0] in PROGRAMS and " " in token]
    return [
        shlex.split(part, comments=True)
        for line in (*lines, *inline)
        for part in line.split(" && ")
        if "…" not in part
    ]


def all_commands() -> list[tuple[str, list[str]]]:
    return [(page, words) for page in PAGES for words in commands(page)]


def exists_somewhere(page: str, token: str) -> bool:
    """Whether a path is there, from the root, beside the page or within the package."""
    bases = (ROOT, (ROOT / page).parent, ROOT / "warp_train", ROOT / "recipes", ROOT / "launch")
    return any(list(base.glob(token)) for base in bases)


def package_rooms() -> set[str]:
    return {path.parent.name for path in Path(ROOT, "warp_train").glob("*/__init__.py")}

"""The photos of each shoot around the lens that they agree on: as a table, a drawing and a list."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from markupsafe import Markup

from warp_train.evaluation.evaluate import shoot_of
from warp_train.evaluation.measuring import OneLens, PhotoResult, RowName
from warp_train.evaluation.report.dots import Dot, Row, dot_rows
from warp_train.runtime.tables import UNKNOWN, Cells

SHOOT_HEADER: Cells = (
    "shoot",
    "photos",
    "left out",
    "k1",
    "k2",
    "k3",
    "expected_error_px",
    "own lenses differ, px",
    "epe_px of own lenses",
    "epe_px of one lens",
)
AXIS = "px between a photo's own lens and the common one"
_MOST_ROWS = 40


class Member(NamedTuple):
    """A photo of a shoot."""

    photo: PhotoResult
    lens: OneLens


class MeasuredShoot(NamedTuple):
    """Photos with a common lens."""

    name: str
    members: Sequence[Member]

    @property
    def expected_error_px(self) -> float:
        """Of the common lens: the mean over the photos' frames."""
        return fmean(member.lens.common_expected_error_px for member in self.members)

    @property
    def differ_px(self) -> float:
        """Mean distance of the photos' own lenses from the common one."""
        return fmean(member.lens.own_lens_differs_px for member in self.members)

    @property
    def left_out(self) -> list[Member]:
        """The photos that contradict the others."""
        return [member for member in self.members if member.lens.disagrees]


def measured_shoots(photos: Sequence[PhotoResult]) -> list[MeasuredShoot]:
    """The shoots with a common lens, in the order of their first photos."""
    found: dict[str, list[Member]] = {}
    for photo in photos:
        lens, name = photo.task.one_lens, shoot_of(photo.task.item)
        if lens is not None and name is not None:
            found.setdefault(name, []).append(Member(photo, lens))
    return [MeasuredShoot(name, members) for name, members in found.items()]


def shoot_rows(shoots: Sequence[MeasuredShoot]) -> list[Cells]:
    """A row for each shoot, under `SHOOT_HEADER`."""
    return [
        (
            shoot.name,
            str(len(shoot.members)),
            str(len(shoot.left_out)),
            *(f"{value:.4f}" for value in shoot.members[0].lens.common[:3]),
            f"{shoot.expected_error_px:.2f}",
            f"{shoot.differ_px:.2f}",
            _error(shoot.members, "model"),
            _error(shoot.members, "one_lens"),
        )
        for shoot in shoots
    ]


def drawing(shoots: Sequence[MeasuredShoot]) -> Markup:
    """A row for each shoot: its photos at the distances of their own lenses from the common one.

    Of many shoots, those whose photos are farthest apart.
    """
    widest = sorted(shoots, key=lambda shoot: shoot.differ_px, reverse=True)
    names = {shoot.name for shoot in widest[:_MOST_ROWS]}
    return dot_rows([_row(shoot) for shoot in shoots if shoot.name in names], AXIS)


def omitted(shoots: Sequence[MeasuredShoot]) -> str:
    """What the drawing leaves out; empty if it has all shoots."""
    if len(shoots) <= _MOST_ROWS:
        return ""
    return f"The {_MOST_ROWS} of {len(shoots)} shoots whose photos differ most."


def left_out_lines(shoots: Sequence[MeasuredShoot]) -> list[str]:
    """A line for each photo that was left out of the lens of its shoot, with the reason."""
    return [
        f"{member.photo.task.item.image_id} of {shoot.name}: {_contradiction(member)}"
        for shoot in shoots
        for member in shoot.left_out
    ]


def _contradiction(member: Member) -> str:
    expected = member.photo.task.expected_error_px
    by = "" if expected is None else f", with an expected error of {expected:.2f} px"
    return f"its own lens is {member.lens.own_lens_differs_px:.2f} px from that of the others{by}"


def _row(shoot: MeasuredShoot) -> Row:
    return Row(shoot.name, shoot.expected_error_px, [_dot(member) for member in shoot.members])


def _dot(member: Member) -> Dot:
    away, error = member.lens.own_lens_differs_px, member.photo.task.expected_error_px or 0.0
    fate = ", left out" if member.lens.disagrees else ""
    title = f"{member.photo.task.item.image_id}: {away:.2f} ± {error:.2f} px{fate}"
    return Dot("dot-out" if member.lens.disagrees else "dot", away, error, title)


def _error(members: Sequence[Member], row: RowName) -> str:
    figures = [member.photo.rows.get(row) for member in members]
    known = [one["epe_px"] for one in figures if one is not None and one["epe_px"] is not None]
    return f"{fmean(known):.2f}" if known else UNKNOWN

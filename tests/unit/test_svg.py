"""Pictures of a screen: still and moving, and loading nothing from elsewhere."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from mock_provider import svg

SVG = "{http://www.w3.org/2000/svg}"


def screen(*rows):
    return svg.frame(Strip([Segment(row, Style(color="#ffffff", bgcolor="#000000"))]) for row in rows)


def test_a_still_has_all_of_the_text_and_names_no_other_place():
    drawn = svg.still(screen("port <51413>", "kept"), 12, "a & b")
    tree = ET.fromstring(drawn)
    assert [each.text for each in tree.iter(f"{SVG}text")] == ["port <51413>", "kept"]
    assert re.findall(r"https?://[^\"]*", drawn) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\(|href|@import|@font-face", drawn)


def test_what_stays_is_there_once_and_what_changes_has_its_time():
    frames = [(0.0, screen("same", "one")), (1.0, screen("same", "two")), (3.0, screen("same", "one"))]
    tree = ET.fromstring(svg.moving(frames, 4.0, 4, "moving"))
    assert sorted(each.text for each in tree.iter(f"{SVG}text")) == ["one", "same", "two"]
    moves = {
        next(group.iter(f"{SVG}text")).text: (group.get("visibility"), move.get("keyTimes"), move.get("values"))
        for group in tree.iter(f"{SVG}g")
        if (move := group.find(f"{SVG}animate")) is not None
    }
    assert moves == {
        "one": ("visible", "0;0.25;0.75", "visible;hidden;visible"),
        "two": ("hidden", "0;0.25;0.75", "hidden;visible;hidden"),
    }

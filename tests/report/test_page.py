"""A report is one well-formed file without scripts and network, in which every text is escaped."""

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from calepin.report import Curve, Report, Section, Table, curves

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A parsed page: its tags, with their attributes, and the text of each table row."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.rows, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"th", "td"}:
            self.rows[-1].append(data)
        if data.strip() and "style" not in self.open:
            self.words.append(data.strip())

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def checked(html):
    """Return a page after checks that hold for every report."""
    page = Page(html)
    assert html.startswith("<!DOCTYPE html><!-- calepin report -->")
    assert not page.of("script")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.of("img"))
    assert all(image["alt"] for image in page.of("img"))
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for link in (attrs.get("href"), attrs.get("src")):
            assert link is None or link.startswith(("data:", "#"))
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert all(link["href"][1:] in targets for link in page.of("a"))
    assert not re.search(r"https?:|url\(|@import", re.sub(r'"data:[^"]*"', "", html))
    return page


EVIL = '<script>alert("x")</script>\'"><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;'


def test_a_report_shows_what_it_is_given():
    figure = curves({"a": Curve([1, 2], [3, 4])}, xlabel="x", ylabel="y")
    table = Table(("name", "value"), [("sigma", 0.1234567), ("n", 12), ("none", None)], failed=[1])
    sections = [
        Section("First", "One.\n\nTwo.", "Broken!", "The paper.", table, figures={"A curve": figure}),
        Section("Second", table={"ok": True}, figures={"Pixels": np.eye(8)}, details={"More": {"b": 2}}),
    ]
    page = checked(Report("Title", sections, made="today").html())
    assert [attrs["alt"] for attrs in page.of("img")] == ["A curve", "Pixels"]
    assert ["sigma", "0.123457"] in page.rows
    assert ["none", "-"] in page.rows
    assert ["ok", "yes"] in page.rows
    assert ["b", "2"] in page.rows
    assert [row.get("class") for row in page.of("tr")].count("failed") == 1
    assert {"Title", "today", "One.", "Two.", "Broken!", "The paper.", "More"} <= set(page.words)


def test_all_texts_are_escaped():
    figure = curves({"$x$": Curve([1, 2], [3, 4])}, xlabel="x", ylabel="y")
    table = Table((EVIL, "value"), [(EVIL, EVIL)])
    section = Section(EVIL, EVIL, EVIL, EVIL, table, details={EVIL: {EVIL: EVIL}}, figures={EVIL: figure})
    page = checked(Report(EVIL, [section] * 5, made=EVIL).html())
    assert len(page.of("img")) == 5
    assert [attrs["alt"] for attrs in page.of("img")] == [EVIL] * 5
    assert [EVIL, EVIL] in page.rows
    assert EVIL in page.words  # and not 49


def test_a_report_replaces_a_file_at_once_and_survives_odd_names(tmp_path):
    path = tmp_path / "r.html"
    Report("a\udcff\x07b", [Section("empty"), Section("none", table=Table((), []))]).save(path)
    checked(path.read_text("utf-8"))
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]


def test_without_jinja2_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError, match=r"^a report needs Jinja2: pip install 'calepin\[report\]"):
        Report("a", []).html()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table(("a", "b"), [("1",)]), "rows: expected 2 cells in each row"),
        (lambda: Section("a", figures={"f": np.ones(3)}), "expected a Figure, or pixels"),
        (lambda: Section("a", figures={"f": np.ones((3, 3, 2))}), "expected a Figure, or pixels"),
        (lambda: Report("a", ["b"]), "sections: expected"),
        (lambda: Section(3), "title: expected"),
    ],
)
def test_what_is_no_report_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def contrast(a, b):
    """Return the contrast ratio of WCAG 2 of two colours #rrggbb."""

    def luminance(colour):
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_texts_have_the_contrast_of_wcag_aa_in_light_and_dark_and_in_print():
    html = Report("a", []).html()
    blocks = re.findall(r":root \{([^}]*)\}", html)
    themes = [dict(re.findall(r"--([a-z-]+): (#\w+)", block)) for block in blocks]
    assert len(themes) == 3
    full = {"#fff": "#ffffff", "#000": "#000000", "#444": "#444444"}
    for theme in themes:
        colours = {name: full.get(colour, colour) for name, colour in theme.items()}
        for text, page in [("text", "page"), ("muted", "page"), ("text", "head"), ("bad", "bad-page")]:
            assert contrast(colours[text], colours[page]) >= 4.5, (text, page)
        if "link" in colours:
            assert contrast(colours["link"], colours["page"]) >= 4.5

from html.parser import HTMLParser
from random import Random

from seawall.scaling.page import page
from seawall.scaling.pilots import FixedPilot
from seawall.scaling.simulate import Model, play
from seawall.scaling.trace import SHAPES


class Read(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def test_strategies_stand_side_by_side_on_a_page_that_asks_nobody() -> None:
    trace, model = SHAPES["step"](100.0, 4.0, 60.0), Model()
    runs = {
        f"<{count}>": play(trace, model, FixedPilot(count), Random(1), 0.5, begin=count)
        for count in (2, 6)
    }
    text = page("a & b", runs)
    read = Read(text)
    assert read.tags.count("figure") == 2
    assert {"<2>", "<6>", "a & b"} <= set(read.words)
    assert read.links == []
    assert "script" not in read.tags
    assert "prefers-color-scheme: dark" in text


def test_the_best_of_a_column_is_marked() -> None:
    trace, model = SHAPES["step"](100.0, 4.0, 60.0), Model(noise=False)
    runs = {
        str(count): play(trace, model, FixedPilot(count), Random(1), 0.5, begin=count)
        for count in (2, 6)
    }
    rows = page("x", runs).split('<th scope="row">')[1:]
    cost = [row.split("<td")[1] for row in rows]
    shed = [row.split("<td")[2] for row in rows]
    assert ["best" in cell for cell in cost] == [True, False]
    assert ["best" in cell for cell in shed] == [False, True]


def test_where_all_are_the_same_none_is_the_best() -> None:
    trace, model = SHAPES["step"](100.0, 1.0, 60.0), Model(noise=False)
    run = play(trace, model, FixedPilot(2), Random(1), 0.5, begin=2)
    assert 'class="best"' not in page("x", {"one": run, "other": run})
    dearer = play(trace, model, FixedPilot(3), Random(1), 0.5, begin=3)
    rows = page("x", {"one": run, "other": run, "dearer": dearer}).split('<th scope="row">')[1:]
    assert [row.count('class="best"') for row in rows] == [2, 2, 0]  # by cost and peak

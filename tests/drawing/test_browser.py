"""A page with a picture, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import fxprune
from fxprune.drawing import picture_of
from fxprune.drawing.building import Builder
from fxprune.drawing.drawings import write_picture
from fxprune.drawing.page_data import page_data
from fxprune.drawing.page_writing import page_of
from fxprune.drawing.series import series_of
from fxprune.drawing.wording import count, flow
from models_zoo import ZOO
from tests.browsers import Watched
from tests.drawing.models import WORDS, Attention, Dense, analyzed, named, residual
from tests.drawing.test_sharing import Halves

pytest.importorskip("netron")
pytestmark = pytest.mark.xdist_group("browser")
Opened = Callable[..., Watched]
NAMES = ("constructor", "__proto__", "toString", "ottom", "op")
"""Names that objects of scripts have, or that could be those of helpers of the layout."""
SOME = ("attention_windows_shifted", "experts_batched", "recurrent_lstm_pr", "shared_module")


@pytest.fixture(scope="module")
def deps() -> fxprune.DependencyGraph:
    return residual(6, 6, 4)


@pytest.fixture(scope="module")
def drawn(deps: fxprune.DependencyGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a model with a run of two like blocks and another one, and of no plan."""
    path = tmp_path_factory.mktemp("pages") / "model.html"
    fxprune.draw(deps, path)
    return path


def search(watched: Watched, text: str) -> None:
    watched.page.fill("#search", text)
    watched.page.press("#search", "Enter")


def item(title: str) -> str:
    """The selector of the item with a title."""
    return f'.item:has(text.title:text-is("{title}"))'


def details(watched: Watched) -> str:
    return " ".join(watched.page.inner_text("#details").split())


def heading(watched: Watched) -> str:
    """What the panel is about."""
    return watched.page.locator("#details h2").first.inner_text()


def flows(watched: Watched) -> list[str]:
    """The widths that all edges tell when they are pointed at, sorted."""
    told = (title.split("\n")[1:] for title in watched.texts(".edge title"))
    return sorted("\n".join(lines) for lines in told)


def labels(watched: Watched) -> set[str]:
    """The widths beside the edges."""
    return set(watched.texts(".label tspan"))


def slide(watched: Watched, ratio: float) -> None:
    watched.page.evaluate(
        """(place) => {
            const range = document.getElementById('ratio');
            range.value = place;
            range.dispatchEvent(new Event('input'));
        }""",
        round(20 * ratio),
    )


def test_a_page_shows_the_model_and_its_cost(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    assert watched.page.inner_text("h1") == "Residual"
    assert watched.page.inner_text("#cost").startswith("2.65k parameters")
    assert watched.page.title() == "Residual: channels"
    assert {"x", "stem", "head", "output"} <= set(watched.texts(".item .title"))
    assert watched.requests == []


def test_a_module_is_found_shown_and_told_of(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    watched.page.click("[data-do=collapseAll]")
    assert "conv2" not in watched.texts(".item .title")
    search(watched, "blocks.2.conv2")
    assert "conv2" in watched.texts(".item .title")
    text = details(watched)
    assert text.startswith("blocks / 2 blocks.2.conv2 Conv2d")
    for told in (
        *("parameters 296", "forward", "reads 2x4x6x6", "puts out 2x8x6x6", "stem"),
        *("its group is on the axes", "stem.weight[0]", "blocks.0.conv1.weight[1]", "and 7 more"),
    ):
        assert told in text
    selected = watched.page.locator(".item.selected .title")
    assert selected.text_content() == "conv2"


def test_a_block_that_is_drawn_for_others_is_found_by_their_names(
    opened: Opened, drawn: Path
) -> None:
    watched = opened(drawn)
    search(watched, "blocks.1.conv1")
    assert "drawn once for 2: also blocks.1.conv1" in details(watched)


def test_a_parameter_leads_to_its_groups(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    watched.page.fill("#search", "blocks.2.conv1.weight")
    assert watched.texts("#found span") == ["stem", "blocks.2.conv1"]
    watched.page.click('#found button:has-text("blocks.2.conv1")')
    assert heading(watched) == "group blocks.2.conv1"


def test_what_is_not_there_is_not_found(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    watched.page.fill("#search", "nobody")
    assert watched.page.inner_text("#found") == "nothing has that name"


def test_a_click_on_a_node_tells_why_it_must_stay(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    watched.page.keyboard.press("f")
    watched.page.wait_for_timeout(100)
    watched.page.click(f"{item('head')} .body", force=True)
    text = details(watched)
    assert "must stay: output of the model" in text
    assert "outputs keep their shape" in text
    assert watched.page.locator(f"{item('head')} .hatched").count() == 1
    assert watched.page.locator(f"{item('stem')} .hatched").count() == 0


def test_a_group_lights_up_all_that_it_touches_and_nothing_else(
    opened: Opened, drawn: Path, deps: fxprune.DependencyGraph
) -> None:
    watched = opened(drawn)
    watched.page.click("[data-do=expandAll]")
    watched.page.click("#groups summary")
    watched.page.click('#groups button:has-text("blocks.2.conv1")')
    picture = picture_of(deps)
    touched = [node.title for node in picture.nodes if "blocks.2.conv1" in node.groups]
    assert watched.texts(".item.lit .title") == touched == ["conv1", "conv2"]
    assert watched.page.locator(".edge.lit").count() == 1
    assert watched.page.get_attribute("#world", "class") == "faded"
    assert "blocks.2.conv2.weight[1]" in details(watched)
    watched.page.click('#details .link:has-text("blocks.2.conv2")')
    assert heading(watched) == "blocks.2.conv2"
    assert watched.texts(".item.lit .title") == touched
    watched.page.keyboard.press("Escape")
    assert watched.page.locator(".lit").count() == 0
    assert watched.page.get_attribute("#world", "class") == ""


def test_a_group_of_a_block_that_is_not_drawn_lights_up_the_one_in_its_place(
    opened: Opened, drawn: Path
) -> None:
    watched = opened(drawn)
    watched.page.click("[data-do=expandAll]")
    search(watched, "blocks.1.conv1")
    watched.page.keyboard.press("Escape")
    watched.page.click("#groups summary")
    watched.page.click('#groups button:has-text("blocks.1.conv1")')
    assert watched.texts(".item.lit .title") == ["conv1", "conv2"]
    assert watched.page.locator(".edge.lit").count() == 1


def test_boxes_close_and_open_with_one_edge_for_all_that_flows(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    watched.page.click("[data-do=collapseAll]")
    assert watched.texts(".item .title") == ["x", "stem", "blocks", "mean", "head", "output"]
    assert watched.page.locator(".edge").count() == 5
    watched.page.dblclick(f"{item('blocks')} .body", force=True)
    assert watched.texts(".cluster text") == ["\u2212 blocks"]
    assert "0 \u2026 1 (\u00d72)" in watched.texts(".item .title")
    assert watched.page.locator(".edge").count() == 6
    watched.page.click(".cluster .header", force=True)
    assert watched.texts(".cluster") == []
    watched.page.click("[data-do=expandAll]")
    assert watched.page.locator(".item.box").count() == 0
    assert watched.page.locator(".cluster").count() == 3


def test_the_boxes_hold_their_nodes_and_nothing_lies_on_another(
    opened: Opened, drawn: Path
) -> None:
    watched = opened(drawn)
    watched.page.click("[data-do=expandAll]")
    overlaps = watched.page.evaluate(
        """() => {
            const of = (selector) => [...document.querySelectorAll(selector)].map((element) =>
                element.querySelector('.body, .frame').getBoundingClientRect());
            const meet = (a, b) => a.left < b.right && b.left < a.right &&
                a.top < b.bottom && b.top < a.bottom;
            const holds = (a, b) => a.left <= b.left && b.right <= a.right &&
                a.top <= b.top && b.bottom <= a.bottom;
            const [items, boxes] = [of('.item'), of('.cluster')];
            const wrong = items.flatMap((a, place) =>
                items.slice(place + 1).filter((b) => meet(a, b)));
            return wrong.length + boxes.flatMap((box) =>
                items.filter((each) => meet(box, each) && !holds(box, each))).length;
        }"""
    )
    assert overlaps == 0


@pytest.mark.parametrize("name", [n for n in ZOO if n.startswith(SOME)])
def test_every_model_can_be_opened_and_closed(opened: Opened, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.html"
    entry = ZOO[name]
    fxprune.draw(analyzed(entry.build(), entry.example_inputs()), path, level="op")
    watched = opened(path)
    for action in ("expandAll", "collapseAll", "expandAll", "fit"):
        watched.page.click(f"[data-do={action}]")
    picture = picture_of(analyzed(entry.build(), entry.example_inputs()), level="op")
    assert 0 < watched.page.locator(".item").count() <= len(picture.nodes)
    assert watched.page.is_hidden("#busy")


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.95])
def test_the_slider_shows_the_widths_of_the_plan_of_that_ratio(
    opened: Opened, drawn: Path, deps: fxprune.DependencyGraph, ratio: float, tmp_path: Path
) -> None:
    path = tmp_path / "model.html"
    fxprune.draw(deps, path, fold=False)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    slide(watched, ratio)
    plan = fxprune.plan(deps, ratio=ratio)
    picture = picture_of(deps, plan)
    expected = [flow(edge, pruned=ratio > 0) for edge in picture.edges]
    assert flows(watched) == sorted(expected)
    assert labels(watched) == {line for text in expected for line in text.split("\n")}
    assert f"ratio={ratio:g}" in watched.page.inner_text("#call")
    cost = watched.page.inner_text("#cost")
    assert f"{count(picture.parameters[1])} parameters" in cost
    assert f"{count(picture.macs[1])} MACs" in cost


def test_a_page_of_a_plan_begins_with_it_and_comes_back_to_it(
    opened: Opened, deps: fxprune.DependencyGraph, tmp_path: Path
) -> None:
    plan = fxprune.plan(deps, channels={"blocks.2.conv1": [0, 1, 2, 3], "stem": [0]})
    path = tmp_path / "model.html"
    fxprune.draw(deps, path, plan, fold=False)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    expected = sorted(flow(edge, pruned=True) for edge in picture_of(deps, plan).edges)
    assert flows(watched) == expected
    gone = [node.title for node in picture_of(deps, plan).nodes if node.goes]
    assert watched.texts(".item.goes .title") == gone == ["conv1", "conv2"]
    slide(watched, 0.5)
    assert flows(watched) != expected
    assert watched.page.locator(".item.goes").count() == 0
    watched.page.click("#planned")
    assert flows(watched) == expected


def test_many_edges_that_tell_the_same_become_one_and_the_node_tells_it(
    opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "dense.html"
    fxprune.draw(analyzed(Dense(8)), path)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    assert watched.page.locator(".edge.all").count() > 0
    assert "out: 4" in watched.texts(".item .small")
    ends = [edge.get_attribute("data-ends") for edge in watched.page.locator(".edge").all()]
    assert len(ends) == len(set(ends))


def test_a_lit_group_is_lit_on_its_way_through_edges_that_stand_for_others(
    opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "dense.html"
    deps = analyzed(Dense(8))
    fxprune.draw(deps, path)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    watched.page.click("#groups summary")
    watched.page.click('#groups button:has(span:text-is("layers.0.0"))')
    lit = [each.get_attribute("data-id") for each in watched.page.locator(".item.lit").all()]
    ends = [e.get_attribute("data-ends") or "" for e in watched.page.locator(".edge.lit").all()]
    entered = {both.split(" ")[1] for both in ends}
    assert len(lit) > 8
    assert set(lit[1:]) <= entered
    whole = picture_of(deps)
    unread = {e.target for e in whole.edges} - {
        e.target for e in whole.edges for v in e.values for on in v.groups if "layers.0.0" in on
    }
    places = {f"n{place}" for place, node in enumerate(whole.nodes) if node.name in unread}
    assert places.isdisjoint(entered)


class Shown:
    """The items and edges of a page, by the names of the nodes in them."""

    def __init__(self, watched: Watched) -> None:
        found = watched.page.evaluate(
            """() => ({
                items: [...document.querySelectorAll('.item')].map((each) => each.dataset.id),
                edges: [...document.querySelectorAll('.edge')].map((each) =>
                    [...each.dataset.ends.split(' '), each.classList.contains('all'),
                     each.querySelector('title').textContent.split('\\n').slice(1)
                        .some((line) => !line.includes(' reads all that '))]),
            })"""
        )
        self.items: list[str] = found["items"]
        self.edges: list[tuple[str, str, bool, bool]] = [tuple(edge) for edge in found["edges"]]

    def sources(self, item: str) -> set[str]:
        """What an item reads: along its edges, and what those read that dashed edges come from."""
        read: set[str] = set()
        for source, target, is_all, has_label in self.edges:
            if target == item and (has_label or not is_all):
                read.add(source)
            if target == item and is_all:
                read |= self.sources(source)
        return read


def test_closed_boxes_read_what_their_nodes_read(opened: Opened, tmp_path: Path) -> None:
    deps = analyzed(nn.Sequential(nn.Conv2d(3, 3, 1), Dense(7), nn.Conv2d(2, 2, 1)))
    path = tmp_path / "dense.html"
    fxprune.draw(deps, path, fold=False)
    picture = picture_of(deps)
    places = {node.name: f"n{place}" for place, node in enumerate(picture.nodes)}
    watched = opened(path)
    for closed in ("", "1.layers", "1"):
        watched.page.click("[data-do=expandAll]")
        if closed:
            search(watched, closed)
            watched.page.click("#details .head button")
        assert watched.page.locator(".item.box").count() == bool(closed)
        shown = Shown(watched)

        def item(name: str, shown: Shown = shown) -> str:
            parent = next(n.parent for n in picture.nodes if n.name == name)
            boxes = [b[1:] for b in shown.items if b.startswith("b")]
            around = next((b for b in boxes if f"{parent}.".startswith(f"{b}.")), None)
            return places[name] if around is None else f"b{around}"

        flows = {(item(edge.source), item(edge.target)) for edge in picture.edges}
        for target in shown.items:
            read = {source for source, to in flows if to == target and source != target}
            assert shown.sources(target) == read
        ends = [edge[:2] for edge in shown.edges]
        assert len(set(ends)) == len(ends)
        assert all(source != target for source, target in ends)


def test_a_box_that_data_leaves_and_comes_back_to_has_no_frame(
    opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "dense.html"
    fxprune.draw(analyzed(Dense(3)), path)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    assert watched.page.locator(".cluster").count() == 0
    assert {"layers.0.0", "layers.1.0", "layers.2.0"} <= set(watched.texts(".item .title"))
    search(watched, "layers.1.0")
    watched.page.click('nav button:text-is("layers")')
    watched.page.click("#details .head button")
    assert "layers" in watched.texts(".item.box .title")


def test_groups_inside_of_a_node_are_told(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "attention.html"
    fxprune.draw(analyzed(Attention(), WORDS), path)
    watched = opened(path)
    slide(watched, 0.5)
    assert "heads 2 \u2192 1" in watched.texts(f"{item('attend')} .small")


def test_a_part_of_a_model_is_shown_with_what_is_beside_it(
    opened: Opened, deps: fxprune.DependencyGraph, tmp_path: Path
) -> None:
    path = tmp_path / "part.html"
    fxprune.draw(deps, path, around="blocks.2.conv1", hops=0, level="op")
    watched = opened(path)
    assert watched.page.locator(".item:not(.outside)").count() == 1
    assert watched.page.locator(".item.outside").count() == 2


def test_light_and_dark_follow_the_system_and_the_switch(opened: Opened, drawn: Path) -> None:
    def ground(watched: Watched) -> str:
        found = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return str(found)

    light, dark = opened(drawn, color_scheme="light"), opened(drawn, color_scheme="dark")
    assert ground(light) == "rgb(255, 255, 255)"
    assert ground(dark) == "rgb(23, 25, 29)"
    light.page.click("[data-do=theme]")
    assert ground(light) == ground(dark)
    dark.page.keyboard.press("d")
    assert ground(dark) == "rgb(255, 255, 255)"


def test_the_address_can_name_what_is_looked_at(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn, "blocks.2.conv1")
    assert heading(watched) == "blocks.2.conv1"
    assert heading(opened(drawn, "blocks.1.conv1")) == "blocks.0.conv1"  # which is drawn for both
    assert heading(opened(drawn, "blocks_2_bn1")) == "blocks.2.conv1"
    for name in ("nobody", "%"):
        assert details(opened(drawn, name)).startswith("Click a node")


def test_the_keyboard_is_enough(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)
    press = watched.page.keyboard.press
    press("c")
    watched.page.focus("#canvas")
    for _ in range(3):
        press("ArrowDown")
    assert heading(watched) == "blocks"
    press("Enter")
    assert watched.texts(".cluster text") == ["\u2212 blocks"]
    press("]")
    assert watched.page.inner_text("#stop") == "0.05"
    press("/")
    watched.page.keyboard.type("stem")
    press("Enter")
    assert heading(watched) == "stem"
    press("g")
    assert heading(watched) == "group stem"
    press("Escape")
    assert watched.page.locator(".lit").count() == 0


def test_the_picture_is_moved_and_zoomed(opened: Opened, drawn: Path) -> None:
    watched = opened(drawn)

    def place() -> tuple[float, float, float]:
        box = watched.page.locator(f"{item('stem')} .body").bounding_box()
        assert box is not None
        return box["x"], box["y"], box["width"]

    before = place()
    watched.page.mouse.move(60, 400)
    watched.page.mouse.down()
    watched.page.mouse.move(100, 430, steps=4)
    watched.page.mouse.up()
    watched.page.wait_for_timeout(50)
    moved = place()
    assert (moved[0] - before[0], moved[1] - before[1]) == pytest.approx((40, 30), abs=1)
    watched.page.mouse.wheel(0, -200)
    watched.page.wait_for_timeout(50)
    assert place()[2] > moved[2]
    watched.page.click("[data-do=fit]")
    watched.page.wait_for_timeout(50)
    for body in watched.page.locator(".item .body").all():
        box = body.bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800


@pytest.mark.parametrize(
    "name", ["</script><img src=x onerror=alert(1)>", "<!--<script>", "a\"b'&amp;{{data}}"]
)
def test_names_are_shown_as_they_are(opened: Opened, tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.html"
    builder = Builder(residual(6), None, "module")
    path.write_text(page_of(page_data(named(name), series_of(builder))), encoding="utf-8")
    watched = opened(path)
    assert watched.page.inner_text("h1") == name
    search(watched, name)
    assert name in details(watched)
    assert watched.page.locator("img").count() == 0


def test_weights_that_cannot_be_ranked_leave_a_slider_that_tells_why(
    opened: Opened, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    nn.init.constant_(model[0].weight, float("inf"))
    path = tmp_path / "model.html"
    fxprune.draw(analyzed(model), path)
    watched = opened(path)
    assert watched.page.is_disabled("#ratio")
    assert "contains NaN or infinite values" in watched.page.inner_text("#call")


def test_a_part_of_a_model_without_the_model_has_no_slider_and_tells_the_cost_of_the_whole(
    opened: Opened, deps: fxprune.DependencyGraph, tmp_path: Path
) -> None:
    path = tmp_path / "part.html"
    for plan, cost in (
        (None, "2.65k parameters, "),
        (fxprune.plan(deps, ratio=0.5), "2.65k \u2192 "),
    ):
        picture = picture_of(deps, plan).around("blocks.2.conv1", 1)
        write_picture(picture, path, fold=False)
        watched = opened(path)
        assert watched.page.inner_text("#cost").startswith(cost)
        assert count(picture.parameters[1]) in watched.page.inner_text("#cost")
        for hidden in ("#ratio", "label[for=ratio]", "#stop", "#planned"):
            assert watched.page.is_hidden(hidden)
        assert "a part of a model" in watched.page.inner_text("#call")
        assert flows(watched) == sorted(flow(e, pruned=plan is not None) for e in picture.edges)


MARK = "all is <b>wrong</b> & 'more' here"


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """The page of many different blocks, of which a node in one is marked, and the head."""
    path = tmp_path / "error.html"
    picture = picture_of(residual(*range(3, 30)))
    write_picture(replace(picture, marks={"blocks_20_conv2": MARK, "head": "and here"}), path)
    return path


def test_a_page_of_an_error_opens_at_the_node_in_question(opened: Opened, marked: Path) -> None:
    watched = opened(marked)
    page = watched.page
    page.wait_for_selector(".item.selected")
    assert watched.texts(".item.marked .title") == ["conv2", "head"]
    assert watched.texts(".cluster text") == ["\u2212 blocks", "\u2212 20  Block"]
    assert " ".join(watched.texts(f"{item('conv2')} .mark")) == MARK
    assert details(watched).startswith(f"blocks / 20 blocks.20.conv2 {MARK} Conv2d")
    page.wait_for_timeout(100)
    box, canvas = (
        page.locator(each).bounding_box() for each in (f"{item('conv2')} .body", "#canvas")
    )
    assert box is not None
    assert canvas is not None
    for start, size in (("x", "width"), ("y", "height")):
        middle = canvas[start] + canvas[size] / 2
        assert box[start] + box[size] / 2 == pytest.approx(middle, abs=2)


def test_marked_nodes_have_a_thick_red_border_and_others_do_not(
    opened: Opened, marked: Path, drawn: Path
) -> None:
    watched = opened(marked)
    watched.page.wait_for_selector(".item.selected")
    looks = watched.page.evaluate(
        """() => [...document.querySelectorAll('.item')].map((each) => {
            const { stroke, strokeWidth } = getComputedStyle(each.querySelector('.body'));
            return [each.querySelector('.title').textContent, stroke, strokeWidth];
        })"""
    )
    red = ["rgb(212, 0, 0)", "5px"]
    assert [title for title, *look in looks if look == red] == ["conv2", "head"]
    assert "the place in question" in (watched.page.text_content("#legend") or "")
    assert opened(drawn).page.locator(".marked").count() == 0


def test_a_closed_box_around_a_marked_node_is_marked_and_leads_there(
    opened: Opened, marked: Path
) -> None:
    watched = opened(marked)
    watched.page.wait_for_selector(".item.selected")
    watched.page.click("[data-do=collapseAll]")
    assert watched.texts(".item.marked .title") == ["blocks", "head"]
    search(watched, "blocks")
    assert f"blocks.20.conv2: {MARK}" in details(watched)
    watched.page.click("#details .mark .link")
    assert heading(watched) == "blocks.20.conv2"


def test_the_address_goes_before_what_is_marked(opened: Opened, marked: Path) -> None:
    watched = opened(marked, "stem")
    watched.page.wait_for_selector(".item.selected")
    assert heading(watched) == "stem"


def test_a_why_not_is_a_page(opened: Opened, deps: fxprune.DependencyGraph, tmp_path: Path) -> None:
    path = tmp_path / "why.html"
    picture = deps.why("head").draw(path)
    watched = opened(path)
    watched.page.wait_for_selector(".item.selected")
    assert watched.texts(".item.marked .title") == ["output"]
    assert " ".join(picture.marks["output"].split()) in details(watched)


def test_names_that_scripts_know_are_names_like_others(opened: Opened, tmp_path: Path) -> None:
    model = nn.Sequential()
    for name in NAMES:
        model.add_module(name, nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)))
    path = tmp_path / "model.html"
    fxprune.draw(analyzed(model), path, fold=False)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    assert watched.texts(".cluster text") == [f"\u2212 {name}" for name in NAMES]
    search(watched, "constructor.1")
    assert heading(watched) == "constructor.1"


def test_nodes_that_read_different_tensors_of_the_same_nodes_keep_their_edges(
    opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "halves.html"
    fxprune.draw(analyzed(Halves()), path)
    watched = opened(path)
    watched.page.click("[data-do=expandAll]")
    assert watched.page.locator(".edge.all").count() == 0
    assert {"3", "2"} <= labels(watched)

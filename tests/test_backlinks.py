"""Who uses a thing and who tests it, as notebooks tell."""

import json
from dataclasses import asdict

from litml.backlinks import PageUses, link_uses, read_uses, uses_from_json
from litml.page import Block, Code, Page, Prose, Symbol


def page(name: str, *blocks: Block, module: str = "", symbols: str = "") -> Page:
    made = tuple(Symbol(one, module, "function") for one in symbols.split())
    return Page(name, f"nbs/{name}.ipynb", module, name.title(), "", blocks, made)


def code(cell: str, source: str, exported: bool = False) -> Code:
    return Code(cell, source, exported=exported)


CATS = page(
    "cats",
    Prose("a", "# Cats\n\n## Feeding `cats`"),
    code("feed", "def feed(cat): ...", exported=True),
    code("example", "feed(1)"),
    code("check", "assert feed(1) is None"),
    module="zoo.cats",
    symbols="feed Cat Cat.sleep",
)


def link(*pages: Page) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Link pages, by way of JSON as the site does; return what is known of cats."""
    uses = [json.loads(json.dumps(asdict(read_uses(one)))) for one in pages]
    return link_uses(map(uses_from_json, uses)).get("zoo.cats", {})


def test_the_own_page_tests_but_does_not_use() -> None:
    assert link(CATS) == {"feed": ((), ("cats.html#cell-check Feeding cats",))}


def test_ways_to_name_a_thing() -> None:
    ways = {
        "a": "from zoo.cats import feed\nfeed(1)",
        "b": "from zoo.cats import feed as give\ngive(1)",
        "c": "import zoo.cats\nzoo.cats.feed(1)",
        "d": "import zoo.cats as cats\ncats.feed(1)",
        "e": "from zoo import cats\nmap(cats.feed, [])",
        "f": "from zoo.cats import *\nfeed(1)",
        "g": "from zoo.cats import Cat\nCat.sleep(1)",
    }
    pages = [page(name, code("x", source)) for name, source in ways.items()]
    found = link(CATS, *pages)
    assert [one.split(".")[0] for one in found["feed"][0]] == list("abcdef")
    assert [one.split(".")[0] for one in found["Cat.sleep"][0]] == ["g"]


def test_what_is_no_use() -> None:
    others = {
        "a": "feed = 1",
        "b": "def feed(): ...",
        "c": "'feed'",
        "d": "# feed",
        "e": "other.feed(1)",
        "f": "from elsewhere import feed\nfeed(1)",
        "g": "feed(1)",  # another of that name: nothing was imported
        "h": "!feed\nfrom zoo.cats import feed\nfeed(1)",
    }
    pages = [page(name, code("x", source)) for name, source in others.items()]
    assert link(CATS, *pages).get("feed", ((), ()))[0] == ()


def test_relative_imports_and_modules_that_pass_on() -> None:
    door = page("index", code("i", "from .cats import feed"), module="zoo.__init__")
    near = page(
        "near", code("n", "from .cats import feed\nfeed(1)", True), module="zoo.b"
    )
    assert link(CATS, door, near)["feed"][0] == ("near.html#cell-n Near",)
    whole = page("whole", code("i", "from zoo.cats import feed", True), module="zoo")
    far = page("far", code("f", "import zoo\nzoo.feed(1)"))
    assert "far.html#cell-f Far" in link(CATS, whole, far)["feed"][0]


def test_tests_of_a_class_s_method_on_its_page() -> None:
    cats = page(
        "cats",
        code("t", "tom = Cat()\nassert tom.sleep()"),
        module="zoo.cats",
        symbols="Cat Cat.sleep",
    )
    assert link(cats)["Cat.sleep"][1] == ("cats.html#cell-t Cats",)
    two = page(
        "cats",
        code("t", "assert tom.sleep()"),
        module="zoo.cats",
        symbols="Cat.sleep Dog.sleep",
    )
    assert link(two) == {}


def test_exported_asserts_are_no_tests_and_few_are_named() -> None:
    source = "from zoo.cats import feed\ndef f(): assert feed(1)"
    users = [page(f"p{i:02}", code("x", source, exported=True)) for i in range(20)]
    used, tested = link(CATS, *users)["feed"]
    assert len(used) == 8 and used[0] == "p00.html#cell-x P00"
    assert len(tested) == 1


def test_order_of_pages_does_not_matter() -> None:
    others = [page(n, code("x", "from zoo.cats import feed\nfeed(1)")) for n in "cab"]
    assert link(CATS, *others) == link(*others[::-1], CATS)


def test_nothing_at_all() -> None:
    assert link_uses([]) == {}
    assert link_uses([PageUses("a", "A")]) == {}

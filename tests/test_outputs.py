"""Outputs: what is shown of them, and that nothing of them runs on the page."""

import base64
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litml.outputs import colour_text, plotly_script, render_output, settle_lines
from litml.page import Page, Shown
from litml.prose import plain_text
from litml.safe import Context, image_size
from litml.widgets import STATE, VIEW, pack_models, read_models

PAGE = Page("sub/page", "nbs/sub/page.ipynb", "sums.core", "Page", "", ())


def new_context() -> Context:
    return Context(PAGE, lambda name, module: None)


def show(data: dict[str, Any], context: Context | None = None, **more: Any) -> str:
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    return render_output(Shown("c", output, **more), context or new_context())


# Text --------------------------------------------------------------------------------


@given(st.text(st.sampled_from("ab<&\n ")), st.lists(st.integers(0, 110), max_size=4))
def test_colours_change_no_text(text: str, codes: list[int]) -> None:
    escape = f"\x1b[{';'.join(map(str, codes))}m"
    html = colour_text(f"{text}{escape}{text}\x1b[0m")
    assert plain_text(html) == " ".join((text * 2).split())
    assert set(re.findall(r"<(\w+)", html)) <= {"span"}


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        ("31", "ansi-red"),
        ("91", "ansi-red"),
        ("44", "ansi-bg-blue"),
        ("38;5;196", "ansi-red"),
        ("38;5;28", "ansi-green"),
        ("38;2;20;20;250", "ansi-blue"),
        ("48;5;11", "ansi-bg-yellow"),
        ("1;3;4", "ansi-bold ansi-italic ansi-underline"),
    ],
)
def test_colours(codes: str, name: str) -> None:
    assert f'class="{name}"' in colour_text(f"\x1b[{codes}mx")


@pytest.mark.parametrize(
    "codes", ["39", "0", "38", "38;5", "38;2;1", "1;22", "", "999"]
)
def test_codes_that_end_a_colour_or_make_no_sense(codes: str) -> None:
    assert "x" in colour_text(f"\x1b[{codes}mx")


def test_a_terminal_in_the_end() -> None:
    assert settle_lines("a\r\nb\rc\n\x1b[?25lxy\b\bz\x1b]0;title\x07") == "a\nc\nz"
    assert len(settle_lines("x" * 10**6)) < 10**6
    assert settle_lines("\b\b") == ""


# Images ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["png", "jpeg", "gif"])
def test_sizes_are_those_that_pillow_sees(form: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow draws the images")
    file = io.BytesIO()
    image.new("RGB", (37, 11)).save(file, form)
    assert image_size(file.getvalue()) == (37, 11)
    assert image_size(file.getvalue()[:9]) is None
    context = new_context()
    data = {f"image/{form}": base64.b64encode(file.getvalue()).decode()}
    html = show(data, context, alt="A <plot>", caption="See *this*", label="fig-a")
    assert 'alt="A &lt;plot&gt;" width="37" height="11"' in html
    assert html.startswith('<figure class="output image" id="fig-a">')
    assert "<figcaption>See <em>this</em></figcaption>" in html
    (name,) = context.assets
    assert context.assets[name] == file.getvalue()
    assert f'src="../{name}"' in html, "as it is written two folders down"


def test_the_same_image_is_one_file() -> None:
    context, data = new_context(), base64.b64encode(b"\x89PNG same").decode()
    assert show({"image/png": data}, context) == show({"image/png": [data]}, context)
    assert len(context.assets) == 1
    output = {"output_type": "display_data", "data": {"image/png": data}}
    output["metadata"] = {"image/png": {"width": 20, "height": 10.4}}
    html = render_output(Shown("c", output), context)
    assert 'width="20" height="10"' in html


def test_an_image_without_words_is_told_to_the_checker() -> None:
    context = new_context()
    assert "Plot made by" in show({"image/png": "AAAA"}, context)
    assert [link.text for link in context.links] == [""]


# Forms -------------------------------------------------------------------------------


def test_the_richest_safe_form_is_shown() -> None:
    table, plot = "<table><tr><td>1</td></tr></table>", {"image/png": "AAAA"}
    assert "<table" in show({"text/html": table, "text/plain": "1", **plot})
    assert "<img" in show({"text/html": "<script>x()</script>", **plot})
    assert "<math" in show({"text/latex": "$x$", "text/plain": "x", **plot})
    assert "<em>" in show({"text/markdown": ["*a*"], "text/plain": "a"})
    assert "damaged?" in show({"image/png": "!", "text/plain": "damaged?"})
    assert "Slider" in show(
        {
            "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
            "text/plain": "Slider(0)",
        }
    )
    assert "&quot;a&quot;" not in show({"application/json": {"a": 1}})
    assert show({"application/x-unknown": "x"}) == ""
    assert show({}) == "" and render_output(Shown("c", {}), new_context()) == ""


def test_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas writes the table")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["<x>", "y"]})
    html = show({"text/html": frame._repr_html_(), "text/plain": repr(frame)})
    assert html.count('scope="col"') == 3 and html.count('scope="row"') == 2
    assert "&lt;x&gt;" in html and "<style" not in html and 'border="1"' not in html


def test_headings_of_an_output_are_none_of_the_page() -> None:
    context = new_context()
    html = show({"text/html": "<h1 onclick=x()>Big</h1>"}, context)
    assert '<div class="heading">Big</div>' in html and not context.headings


def test_a_player_of_another_site_is_a_link() -> None:
    html = show({"text/html": '<iframe src="https://video.example/1"></iframe>'})
    assert '<a href="https://video.example/1">' in html and "<iframe" not in html


def test_errors_can_be_read() -> None:
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'a<b'"}
    lines = ["\x1b[31mKeyError\x1b[0m", "line 2"]
    html = render_output(Shown("c", {**error, "traceback": lines}), new_context())
    assert "<strong>KeyError</strong>: 'a&lt;b'" in html
    assert "<summary>Traceback</summary>" in html and "ansi-red" in html


def test_folded_outputs() -> None:
    html = show({"text/plain": "x"}, folded=True)
    assert html.startswith('<details class="output-fold"><summary>Output</summary>')
    assert " open>" in show({"text/plain": "x"}, summary="See")


# Frames ------------------------------------------------------------------------------


def frame_of(context: Context) -> str:
    (name,) = (name for name in context.assets if name.endswith(".html"))
    assert name.startswith("_out/")
    return context.assets[name].decode()


def test_a_script_runs_in_a_frame_that_reaches_nothing() -> None:
    context = new_context()
    data = {"application/javascript": "a()</script><b>", "text/plain": "<JS>"}
    html = show(data, context)
    assert 'sandbox="allow-scripts"' in html and "allow-same-origin" not in html
    assert "<summary>As text</summary>" in html and "&lt;JS&gt;" in html
    frame = frame_of(context)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', frame)
    assert policy and "default-src 'none'" in policy[1]
    assert "connect-src" not in policy[1] and "http" not in policy[1]
    assert frame.index("Content-Security-Policy") < frame.index("<script>")
    assert "a()<\\/script><b>" in frame, "the script cannot be closed from within"
    assert frame.index("self.origin") < frame.index("a()"), "it looks where it is first"


def test_html_that_is_only_a_script_is_framed() -> None:
    context = new_context()
    show({"text/html": "<div id=p></div><script>draw()</script>"}, context)
    assert "draw()" in frame_of(context)


def test_a_script_that_would_be_loaded_from_elsewhere_is_text() -> None:
    context = new_context()
    cdn = "<div></div><script src='https://cdn.example/a.js'></script>"
    assert "alt.Chart" in show({"text/html": cdn, "text/plain": "alt.Chart()"}, context)
    assert not context.assets and "from elsewhere" in context.remarks[0].message


def test_an_empty_display_is_nothing() -> None:
    plain = "<IPython.core.display.HTML object>"
    assert show({"text/html": "<style>a{}</style>", "text/plain": plain}) == ""


def test_plotly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its script is copied from the package, which is not imported."""
    folder = tmp_path / "plotly" / "package_data"
    folder.mkdir(parents=True)
    (tmp_path / "plotly" / "__init__.py").write_text("raise ImportError")
    (folder / "plotly.min.js").write_text("Plotly = 1")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    plotly_script.cache_clear()
    context = new_context()
    plot = {"data": [{"y": [1], "name": "</script>"}], "layout": {"title": "A"}}
    show({"application/vnd.plotly.v1+json": plot, "text/html": "<p>x</p>"}, context)
    plotly_script.cache_clear()
    frame = frame_of(context)
    (script,) = (name for name in context.assets if name.endswith(".js"))
    assert f'src="{script.removeprefix("_out/")}"' in frame.replace('"./', '"')
    assert "\\u003c/script>" in frame
    data = re.search(r"\.\.\.(\[.*\]), \{responsive", frame)
    assert data and json.loads(data[1]) == [plot["data"], plot["layout"]]


def test_plotly_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litml.outputs.plotly_script", lambda: None)
    context = new_context()
    data = {"application/vnd.plotly.v1+json": {"data": []}, "text/plain": "Figure"}
    assert "Figure" in show(data, context)
    assert "install `plotly`" in context.remarks[0].message


# Widgets -----------------------------------------------------------------------------


def model(name: str, **state: Any) -> dict[str, Any]:
    return {"model_name": f"{name}Model", "state": state}


def show_widget(models: dict[str, Any], context: Context | None = None) -> str:
    """Return the widget `top` of a notebook that has kept these models."""
    view = {VIEW: {"model_id": "top"}, "text/plain": "as text"}
    output = {"output_type": "display_data", "data": view, "metadata": {}}
    known = read_models({"widgets": {STATE: {"state": models}}})
    return show(dict(pack_models(output, known)["data"]), context)


def test_a_bar_of_tqdm() -> None:
    html = show_widget(
        {
            "top": model("HBox", children=["IPY_MODEL_a", "IPY_MODEL_b"]),
            "a": model("HTML", value="epoch 3: <b>75%</b><script>x()</script>"),
            "b": model("FloatProgress", min=0, max=8, value=6),
            "c": model("Text", value="of another cell"),
        }
    )
    assert '<progress max="8" value="6" aria-label="Progress">' in html
    assert "epoch 3: <b>75%</b>" in html and "as text" not in html
    assert "script" not in html and "another" not in html


def test_what_a_widget_shows_is_an_output_like_others() -> None:
    image = base64.b64encode(b"\x89PNG").decode()
    buffer = {"path": ["value"], "encoding": "base64", "data": image}
    printed = {"output_type": "stream", "name": "stdout", "text": "loss <0.1"}
    context = new_context()
    html = show_widget(
        {
            "top": model("Tab", children=["o", "i", "p"], titles=["One", "<2>"]),
            "o": model("Output", outputs=[printed, 3]),
            "i": {**model("Image", format="png"), "buffers": [buffer]},
            "p": model("Password", description="token", value="secret"),
        },
        context,
    )
    assert "loss &lt;0.1" in html and "&lt;2&gt;" in html
    assert [name for name in context.assets if name.endswith(".png")]
    assert "token" in html and "secret" not in html


def test_a_widget_that_was_not_saved_is_text() -> None:
    assert "as text" in show_widget({})
    assert "as text" in show_widget({"top": model("Box", children=["IPY_MODEL_top"])})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from("<&ab"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "children titles _titles value min max outputs path".split()
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(["HBox", "Tab", "HTML", "Image", "Output", "IntSlider", "Text"]),
    st.fixed_dictionaries({"description": st.just("<b>")}, optional={
        "value": JSON, "min": JSON, "max": JSON, "children": JSON, "outputs": JSON,
        "titles": JSON, "_titles": JSON, "index": JSON, "_options_labels": JSON,
        "format": JSON,
    }),
    JSON,
)  # fmt: skip
def test_any_state_is_survived(name: str, state: dict[str, Any], more: Any) -> None:
    """Whatever a notebook has instead of a widget's state, nothing of it runs."""
    top = {**model(name, **state), "buffers": more}
    box = model("HBox", children=["IPY_MODEL_a"])
    html = show_widget({"top": box, "a": top, "b": more})
    assert "<b>" not in html
    read_models({"widgets": more}), read_models({"widgets": {STATE: more}})


def test_a_widget_without_end() -> None:
    deep = {
        f"a{n}": model("Box", children=[f"IPY_MODEL_a{n + 1}"]) for n in range(5000)
    }
    assert "as text" in show_widget({**deep, "top": deep["a0"]})

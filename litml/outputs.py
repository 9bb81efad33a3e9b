# Exported from nbs/15c_outputs.ipynb. Edit either side, then run `litml sync`.
"""What a cell put out, as HTML: the richest form that is safe."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from litml.formula import strip_dollars, to_mathml
from litml.highlight import code_block
from litml.page import Code, Link, Shown
from litml.prose import REACHABLE, plain_text, render_inline, render_prose
from litml.safe import (
    SUFFIXES,
    Context,
    asset_name,
    clean_drawing,
    decode,
    image_size,
    sanitize,
    settle,
    wrap_tables,
)
from litml.widgets import VIEW, draw_widget

__all__ = [
    "LONG",
    "CONTROLS",
    "settle_lines",
    "NAMES",
    "STYLES",
    "colour_name",
    "set_style",
    "colour_text",
    "text_block",
    "join",
    "render_image",
    "find_size",
    "PLAYER",
    "SEEN",
    "render_html",
    "render_markdown",
    "render_latex",
    "POLICY",
    "FRAME",
    "render_frame",
    "REMOTE",
    "render_script",
    "plotly_script",
    "render_plotly",
    "LOADED",
    "inline_scripts",
    "render_json",
    "OBJECT",
    "render_plain",
    "render_film",
    "render_widget",
    "Form",
    "FORMS",
    "render_data",
    "render_error",
    "render_output",
    "frame_output",
    "fold",
]


# ## Text
# %% settle_lines
LONG = 100_000  # characters, past which a page would be a log file
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def settle_lines(text: str) -> str:
    """Return the text that a terminal shows in the end."""
    if len(text) > LONG:
        text = f"{text[:LONG]}\n… {len(text) - LONG} more characters"
    text = CONTROLS.sub("", text).replace("\r\n", "\n")
    while "\b" in text:
        shorter = re.sub(r"[^\n\b]\x08|^\x08+", "", text, flags=re.MULTILINE)
        if shorter == text:
            break
        text = shorter
    if "\r" in text:
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
        text = "\n".join(lines)
    return text.rstrip("\n")


# %% colour_name
NAMES = "black red green yellow blue magenta cyan white".split()
STYLES = {1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "inverse"}


def colour_name(codes: list[int]) -> str:
    """Return the name of the colour that `38;5;n` or `38;2;r;g;b` goes on to choose."""
    if len(codes) > 1 and codes[0] == 5:
        if codes[1] < 16:
            return NAMES[codes[1] % 8]
        cube = codes[1] - 16
        parts = [cube // 36 % 6 * 51, cube // 6 % 6 * 51, cube % 6 * 51]
        parts = parts if codes[1] < 232 else [codes[1] % 24 * 10] * 3
    else:
        parts = [*codes[1:4], 0, 0, 0][:3]
    middle = (max(parts) + min(parts)) / 2
    grey = max(parts) - min(parts) < 40
    bits = [part > (127 if grey else middle) for part in parts]
    return NAMES[bits[0] + 2 * bits[1] + 4 * bits[2]]


def set_style(style: dict[str, str], codes: list[int]) -> None:
    """Change the present style as the codes of one escape sequence say."""
    while codes:
        code = codes.pop(0)
        if code == 0:
            style.clear()
        elif code in STYLES:
            style[STYLES[code]] = STYLES[code]
        elif code in (22, 23, 24, 27):
            for name in {22: ("bold", "faint")}.get(code, (STYLES[code - 20],)):
                style.pop(name, None)
        elif code in (38, 48):
            mark = "" if code == 38 else "bg-"
            style[mark] = mark + colour_name(codes)
            del codes[: 2 if codes[:1] == [5] else 4]
        elif code in (39, 49):
            style.pop("" if code == 39 else "bg-", None)
        elif (tens := code // 10) in (3, 4, 9, 10) and code % 10 < 8:
            mark = "" if tens in (3, 9) else "bg-"
            style[mark] = mark + NAMES[code % 10]


# %% colour_text
def colour_text(text: str) -> str:
    """Return text for a terminal as HTML."""
    style: dict[str, str] = {}
    html = []
    for i, part in enumerate(re.split(r"\x1b\[([0-9;]*)m", settle_lines(text))):
        if i % 2:
            set_style(style, [int(code or 0) for code in part.split(";")])
        elif part and style:
            names = " ".join(f"ansi-{name}" for name in style.values())
            html.append(f'<span class="{names}">{escape(part, quote=False)}</span>')
        else:
            html.append(escape(part, quote=False))
    return "".join(html)


def text_block(text: str, label: str = "Output") -> str:
    """Return text as a block that can be reached by keyboard."""
    inner = colour_text(text)
    return f'<pre tabindex="0" role="group" aria-label="{label}">{inner}</pre>'


# ## Images
# %% render_image
def join(text: object) -> str:
    """Return text that may be stored as a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def render_image(
    kind: str, value: object, shown: Shown, context: Context
) -> str | None:
    """Return an image as HTML; None if it is damaged."""
    if kind == "image/svg+xml":
        text = join(value)
        if "xmlns=" not in text:
            text = text.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        data = clean_drawing(text.encode("utf-8", "replace"))
    else:
        data = decode(value)
    if not data:
        context.remark(f"an output in `{kind}` is damaged")
        return None
    url = context.add_asset(data, SUFFIXES[kind])
    alt = shown.alt or shown.caption
    context.links.append(Link(url, context.cell, is_image=True, text=alt))
    size = find_size(shown.output, kind) or image_size(data)
    sized = f' width="{size[0]}" height="{size[1]}"' if size else ""
    words = escape(alt or "Plot made by the code above")
    return f'<img src="{escape(url)}" alt="{words}"{sized} loading="lazy">'


def find_size(output: Mapping[str, Any], kind: str) -> tuple[int, int] | None:
    """Return the size that an output asks for, which is half for sharp screens."""
    about = output.get("metadata")
    size = about.get(kind) if isinstance(about, dict) else None
    if isinstance(size, dict):
        width, height = size.get("width"), size.get("height")
        if isinstance(width, int | float) and isinstance(height, int | float):
            return round(width), round(height)
    return None


# ## HTML
# %% render_html
PLAYER = re.compile(r"<iframe\b[^<>]*\bsrc=[\"']?(https://[^\"'\s>]+)")
SEEN = re.compile(r"<(?:img|table|video|audio|math|hr)\b")


def render_html(kind: str, value: object, shown: Shown, context: Context) -> str | None:
    """Return the safe part of an output in HTML; None if nothing is seen of it."""
    text = join(value)
    html = sanitize(text, context)
    if SEEN.search(html) or plain_text(html):
        html = re.sub(r"<h[1-6]\b[^>]*>", '<div class="heading">', html)
        html = re.sub(r"</h[1-6]>", "</div>", html)
        return wrap_tables(settle(html, context))
    if match := PLAYER.search(text):
        url = escape(match[1])
        return settle(f'<p><a href="{url}">{url}</a></p>', context)
    return None


def render_markdown(kind: str, value: object, shown: Shown, context: Context) -> str:
    """Return an output in Markdown."""
    return render_prose(join(value), context)


def render_latex(kind: str, value: object, shown: Shown, context: Context) -> str:
    """Return a formula, or how it is written if it cannot be drawn."""
    latex = strip_dollars(join(value))
    if drawn := to_mathml(latex, display=True):
        return f'<div class="formula" {REACHABLE}>{drawn}</div>'
    context.remark(f"a formula that cannot be drawn: `{latex[:60]}`")
    return code_block(latex, "latex")


# ## Frames
# %% render_frame
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' 'self';"
    " style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Output</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<script>if (self.origin !== "null") {{ document.open(); document.close(); stop(); }}
addEventListener("load", () => new ResizeObserver(() => parent.postMessage(
  {{litmlHeight: document.documentElement.offsetHeight}}, "*")).observe(document.body));
</script></head><body style="margin:0">
{body}
</body></html>
"""


def render_frame(body: str, shown: Shown, context: Context) -> str:
    """Return a frame in which `body` runs; its text form stands below it."""
    page = FRAME.format(policy=POLICY, body=body)
    url = context.add_asset(page.encode("utf-8", "replace"), ".html", "_out")
    title = escape(shown.alt or shown.caption or "Interactive output")
    data = shown.output.get("data")
    text = join(data.get("text/plain", "")) if isinstance(data, dict) else ""
    below = f"<details><summary>As text</summary>{text_block(text)}</details>"
    return (
        f'<iframe class="sandbox" sandbox="allow-scripts" src="{escape(url)}"'
        f' title="{title}" loading="lazy" height="450"></iframe>'
        f"{below if text else ''}"
    )


REMOTE = re.compile(r"<script[^<>]+\bsrc=[\"']?(?:https?:)?//|cdn\.jsdelivr\.net")


def render_script(
    kind: str, value: object, shown: Shown, context: Context
) -> str | None:
    """Return a program in a frame: a script, or HTML that needs its own."""
    text = join(value)
    if kind == "application/javascript":
        text = re.sub("</(?=script)", r"<\\/", text, flags=re.IGNORECASE)
        text = f"<script>{text}</script>"
    if REMOTE.search(text):
        context.remark("an output that loads its script from elsewhere is left out")
        return None
    return render_frame(text, shown, context) if "<script" in text else None


# %% render_plotly
@cache
def plotly_script() -> bytes | None:
    """Return plotly's script from the installed package; None if there is none."""
    from importlib.util import find_spec

    spec = find_spec("plotly")
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder, "package_data", "plotly.min.js")
        if path.is_file():
            return path.read_bytes()
    return None


def render_plotly(
    kind: str, value: object, shown: Shown, context: Context
) -> str | None:
    """Return a plot of plotly in a frame; None if plotly's script is not at hand."""
    if not isinstance(value, dict):
        return None
    if (script := plotly_script()) is None:
        context.remark("a plot of plotly: install `plotly` to have it on the page")
        return None
    context.add_asset(script, ".js", "_out")
    name = asset_name(script, ".js", "")
    plot = json.dumps([value.get("data", []), value.get("layout", {})])
    plot = plot.replace("<", "\\u003c")
    return render_frame(
        f'<div id="plot"></div><script src=".{name}"></script>\n'
        f'<script>Plotly.newPlot("plot", ...{plot}, {{responsive: true}})</script>',
        shown,
        context,
    )


# %% inline_scripts
LOADED = re.compile(rb'<script src="\./(\w+\.js)"></script>')


def inline_scripts(frame: bytes, scripts: Mapping[str, bytes]) -> bytes:
    """Return the page of a frame with the scripts inside that it loads, by name."""

    def inline(found: re.Match[bytes]) -> bytes:
        script = scripts.get(f"_out/{found[1].decode()}")
        if script is None:
            return found[0]
        return b"<script>" + script.replace(b"</script", b"<\\/script") + b"</script>"

    return LOADED.sub(inline, frame)


# ## Choosing
# %% render_data
def render_json(kind: str, value: object, shown: Shown, context: Context) -> str:
    """Return data as they are written in JSON."""
    return code_block(json.dumps(value, indent=2, ensure_ascii=False)[:LONG], "json")


OBJECT = re.compile(r"<IPython\.core\.display\.\w+ object>")


def render_plain(kind: str, value: object, shown: Shown, context: Context) -> str:
    """Return plain text; nothing if it only names a form that nothing is left of."""
    text = join(value)
    return "" if OBJECT.fullmatch(text.strip()) else text_block(text)


def render_film(kind: str, value: object, shown: Shown, context: Context) -> str | None:
    """Return a film or a sound; None if it is damaged."""
    if not (data := decode(value)):
        return None
    tag, url = kind.partition("/")[0], context.add_asset(data, SUFFIXES[kind])
    return f'<{tag} src="{escape(url)}" controls></{tag}>'


def render_widget(kind: str, value: object, shown: Shown, context: Context) -> str:
    """Return a widget as it was saved; nothing if it was not."""
    view = value if isinstance(value, dict) else {}
    return draw_widget(view, lambda one: render_output(Shown(shown.cell, one), context))


Form = Callable[[str, object, Shown, Context], str | None]
FORMS: tuple[tuple[str, Form], ...] = (
    (VIEW, render_widget),
    ("application/vnd.plotly.v1+json", render_plotly),
    ("text/html", render_html),
    ("text/markdown", render_markdown),
    ("text/latex", render_latex),
    *((kind, render_image) for kind in SUFFIXES if kind.startswith("image/")),
    *((kind, render_film) for kind in SUFFIXES if not kind.startswith("image/")),
    ("text/html", render_script),
    ("application/javascript", render_script),
    ("application/json", render_json),
    ("text/plain", render_plain),
)


def render_data(shown: Shown, context: Context) -> tuple[str, str]:
    """Return the kind that is shown of an output, and its HTML."""
    data = shown.output.get("data")
    forms = data if isinstance(data, dict) else {}
    for kind, render in FORMS:
        if kind in forms and (html := render(kind, forms[kind], shown, context)):
            return kind, html
    return "", ""


# ## Errors
# %% render_error
def render_error(output: Mapping[str, Any]) -> str:
    """Return an error: its message, and its traceback folded."""
    name = escape(join(output.get("ename", "Error")))
    message = colour_text(join(output.get("evalue", "")))
    html = f'<p class="error-message"><strong>{name}</strong>: {message}</p>'
    if lines := output.get("traceback"):
        text = "\n".join(map(str, lines)) if isinstance(lines, list) else str(lines)
        block = text_block(text, "Traceback")
        html += f"<details><summary>Traceback</summary>{block}</details>"
    return html


# ## An output
# %% render_output
def render_output(shown: Shown, context: Context) -> str:
    """Return an output as HTML; nothing if there is nothing to be seen."""
    output = shown.output
    if output.get("output_type") == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        text = join(output.get("text", ""))
        kind, html = f"stream {name}", text_block(text) if text.strip() else ""
    elif output.get("output_type") == "error":
        kind, html = "error", render_error(output)
    else:
        trusted, context.trusted = context.trusted, False  # as prose may be
        mime, html = render_data(shown, context)
        context.trusted = trusted
        kind = "rich" if mime.startswith("text/") else mime.partition("/")[0]
        kind = {"text/plain": "text", "text/markdown": "markdown"}.get(mime, kind)
    return frame_output(kind, html, shown, context) if html else ""


def frame_output(kind: str, html: str, shown: Shown, context: Context) -> str:
    """Return an output in its element, with what stands around it."""
    id = f' id="{escape(context.new_id(shown.label))}"' if shown.label else ""
    tag = "figure" if shown.caption else "div"
    if shown.caption:
        html += f"<figcaption>{render_inline(shown.caption, context)}</figcaption>"
    html = f'<{tag} class="output {kind}"{id}>{html}</{tag}>\n'
    return fold("output", html, shown, context)


def fold(kind: str, html: str, block: Code | Shown, context: Context) -> str:
    """Return `code` or an `output` in a fold, open or not, if it is to have one."""
    if not (block.folded or block.summary):
        return html
    is_open = "" if block.folded else " open"
    title = render_inline(block.summary or kind.title(), context)
    inner = f"<summary>{title}</summary>{html}"
    return f'<details class="{kind}-fold"{is_open}>{inner}</details>\n'

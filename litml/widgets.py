# Exported from nbs/15b_widgets.ipynb. Edit either side, then run `litml sync`.
"""A widget as it was when its notebook was saved: what it showed, without what it
could do.
"""

import math
from collections.abc import Callable, Mapping
from html import escape
from itertools import zip_longest
from typing import Any, TypeGuard

__all__ = [
    "STATE",
    "VIEW",
    "Models",
    "table",
    "read_models",
    "pack_models",
    "list_children",
    "read_value",
    "draw_control",
    "draw_bar",
    "is_number",
    "Show",
    "DEEPEST",
    "draw_widget",
    "draw_model",
    "draw_box",
    "list_outputs",
    "find_bytes",
]


# ## The models of a notebook
# %% read_models
STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
Models = Mapping[str, Mapping[str, Any]]


def table(value: object) -> Mapping[str, Any]:
    """Return a value that should be a table; an empty one if it is not."""
    return value if isinstance(value, dict) else {}


def read_models(metadata: Mapping[str, Any]) -> Models:
    """Return the models that a notebook keeps, by their ids."""
    kept = table(table(metadata.get("widgets")).get(STATE))
    models = table(kept.get("state", kept))
    return {id: model for id, model in models.items() if table(model).get("state")}


# %% pack_models
def pack_models(output: Mapping[str, Any], models: Models) -> Mapping[str, Any]:
    """Return an output with the models that its widget consists of."""
    view = table(table(output.get("data")).get(VIEW))
    found, wanted = {}, [str(view.get("model_id"))]
    while wanted:
        id = wanted.pop()
        if id in models and id not in found:
            found[id] = models[id]
            wanted += list_children(table(models[id]["state"]))
    if not found:
        return output
    return {**output, "data": {**output["data"], VIEW: {**view, "models": found}}}


def list_children(state: Mapping[str, Any]) -> list[str]:
    """Return the ids of the models in a box."""
    children = state.get("children")
    some = children if isinstance(children, list) else []
    return [str(one).removeprefix("IPY_MODEL_") for one in some]


# ## What a control said
# %% read_value
def read_value(name: str, state: Mapping[str, Any]) -> str:
    """Return the value of a control as text; nothing if it has none to be shown."""
    labels, value = state.get("_options_labels"), state.get("value")
    if isinstance(labels, list):
        index = state.get("index")
        some = index if isinstance(index, list) else [index]
        known = range(len(labels))
        return ", ".join(str(labels[i]) for i in some if type(i) is int and i in known)
    if name == "Password":
        return "•••" if value else ""
    if isinstance(value, bool):
        return "☑" if value else "☐"
    if isinstance(value, list):
        return " – ".join(map(str, value))
    return str(value) if isinstance(value, str | int | float) else ""


# %% draw_control
def draw_control(name: str, state: Mapping[str, Any]) -> str:
    """Return a control with its description, as it last was."""
    words = str(state.get("description") or "")
    value = "" if "Progress" in name else read_value(name, state)
    parts = [f'<span class="widget-name">{escape(words)}</span>' if words else ""]
    if "Progress" in name or name in ("IntSlider", "FloatSlider"):
        parts.append(draw_bar("meter" if "Slider" in name else "progress", state))
    parts.append(f'<span class="widget-value">{escape(value)}</span>' if value else "")
    html = " ".join(filter(None, parts))
    return f'<span class="widget">{html}</span>' if html else ""


def draw_bar(tag: str, state: Mapping[str, Any]) -> str:
    """Return how far a value is between its limits; nothing if that is not known."""
    least, most, value = (state.get(key) for key in ("min", "max", "value"))
    if not (is_number(least) and is_number(most) and is_number(value)):
        return ""
    label = escape(str(state.get("description") or tag.title()))
    limits = f'max="{most - least}" value="{value - least}"'
    return f'<{tag} {limits} aria-label="{label}"></{tag}>' if least < most else ""


def is_number(value: object) -> TypeGuard[float]:
    """Is a value a number that can be drawn?"""
    return isinstance(value, int | float) and math.isfinite(value)


# ## A widget
# %% draw_widget
Show = Callable[[Mapping[str, Any]], str]
DEEPEST = 20  # boxes in boxes


def draw_widget(view: Mapping[str, Any], show: Show) -> str:
    """Return a widget with its models as HTML; nothing if nothing is known of it."""
    left = {id: one for id, one in table(view.get("models")).items() if table(one)}
    html = draw_model(str(view.get("model_id")), left, show)
    about = 'role="group" aria-label="Widget, as it was saved"'
    return f'<div class="widgets" {about}>{html}</div>' if html else ""


def draw_model(
    id: str, left: dict[str, Mapping[str, Any]], show: Show, depth: int = 0
) -> str:
    """Return one model as HTML, and take it out of those that are left."""
    model = left.pop(id, None)
    if model is None or depth > DEEPEST:
        return ""
    name = str(model.get("model_name", "")).removesuffix("Model")
    state = table(model.get("state"))
    if "children" in state:
        drawn = [draw_model(one, left, show, depth + 1) for one in list_children(state)]
        return draw_box(name, state, drawn)
    return "".join(map(show, list_outputs(name, model))) or draw_control(name, state)


def draw_box(name: str, state: Mapping[str, Any], drawn: list[str]) -> str:
    """Return what is in a box, with the titles that its parts have."""
    old, titles = table(state.get("_titles")), state.get("titles")
    if not isinstance(titles, list):
        titles = [old.get(str(n)) for n in range(len(drawn))]
    heads = [
        f'<p class="heading">{escape(str(one))}</p>' if one else "" for one in titles
    ]
    parts = zip_longest(heads, drawn, fillvalue="")
    inner = "".join(f"<div>{head}{one}</div>" for head, one in parts if one)
    kind = "widget-row" if name == "HBox" else "widget-column"
    return f'<div class="{kind}">{inner}</div>' if inner else ""


# %% list_outputs
def list_outputs(name: str, model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a model shows that is an output: HTML, an image, what was printed."""
    state = table(model.get("state"))
    if name == "Output":
        some = state.get("outputs")
        return [one for one in some if table(one)] if isinstance(some, list) else []
    form, value = "text/html", state.get("value")
    if name == "Image":
        form, value = f"image/{state.get('format', 'png')}", find_bytes(model)
    elif name not in ("HTML", "HTMLMath"):
        return []
    return [{"output_type": "display_data", "data": {form: value}}] if value else []


def find_bytes(model: Mapping[str, Any]) -> str:
    """Return the bytes of an image, in base64 as notebooks keep them."""
    buffers = model.get("buffers")
    for one in buffers if isinstance(buffers, list) else ():
        if table(one).get("path") == ["value"] and one.get("encoding") == "base64":
            return str(one.get("data", ""))
    return ""

# Exported from nbs/09f_textconv.ipynb. Edit either side, then run `litml sync`.
"""Show notebooks as text to git's own diff, for whoever asks it to."""

import json
import sys

__all__ = ["main"]


# %% to_text
def to_text(raw: bytes) -> bytes:
    """Return the sources of a notebook as text; of anything else, the bytes."""
    try:
        cells = json.loads(raw.decode("utf-8-sig"))["cells"]
        lines = [line for cell in cells for line in write_cell(cell)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return raw
    return "\n".join(lines).translate(SPELLED).encode(errors="backslashreplace")


def write_cell(cell: dict[str, object]) -> list[str]:
    """Return the lines of a cell, under a marker with its kind and id."""
    source = cell["source"]
    text = "".join(source) if isinstance(source, list) else str(source)
    kind = "" if cell["cell_type"] == "code" else f" [{cell['cell_type']}]"
    name = f" {cell['id']}" if cell.get("id") else ""
    return [f"# %%{kind}{name}", *text.split("\n"), ""]


UNSEEN = (
    *(*range(9), *range(11, 32), *range(127, 160)),
    *(0x61C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x206A)),
    0xFEFF,
)
SPELLED = {number: f"\\u{number:04x}" for number in UNSEEN}


# %% main
def main(words: list[str]) -> int:
    """Write the text of the file that the last word names to stdout."""
    with open(words[-1], "rb") as file:
        sys.stdout.buffer.write(to_text(file.read()))
    return 0

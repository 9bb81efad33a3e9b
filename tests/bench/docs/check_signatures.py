"""How often the signatures that litml reads from text are those of the program.

    python check_signatures.py [--python PYTHON] PACKAGE [PACKAGE ...]

Each package is read where PYTHON has it installed; PYTHON imports it and says, with
`inspect.signature`, what parameters its public functions, classes and methods have.
Enumerations are left out, as calling one looks a member up, and so are protocols, which
are not called. What `inspect` gives no signature for is not counted.

What a program binds while it runs, as with `setattr`, is in no text: `unseen` counts it
apart. `marked` are those of which the card says that the signature is made at run time.
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from litml.library import Library
from litml.symbols import read_symbols

INSPECT = r"""
import enum, importlib, inspect, json, os, sys, types, warnings
from pathlib import Path
warnings.simplefilter("ignore")
said, sys.stdout = sys.stdout, sys.stderr

def names(found, drop):
    try:
        return [*inspect.signature(found).parameters][drop:]
    except (ValueError, TypeError):
        return None

def members(cls):
    for name, value in vars(cls).items():
        kinds = types.FunctionType, staticmethod, classmethod
        if not name.startswith("_") and isinstance(value, kinds):
            drop = isinstance(value, types.FunctionType)
            yield name, names(getattr(cls, name), int(drop))

def is_protocol(cls):
    return vars(cls).get("_is_protocol", False)

def look(module):
    public = getattr(module, "__all__", None)
    found = {}
    for name in public or [one for one in vars(module) if one[0] != "_"]:
        value = getattr(module, name, None)
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            is_called = not issubclass(value, enum.Enum)
            if value.__qualname__ != name or not is_called or is_protocol(value):
                continue
            found[name] = names(value, 0)
            found |= {f"{name}.{one}": said for one, said in members(value)}
        elif isinstance(value, types.FunctionType) and value.__name__ == name:
            found[name] = names(value, 0)
    return {name: said for name, said in found.items() if said is not None}

package = importlib.import_module(sys.argv[1])
root = Path(package.__file__).parent
modules = {}
for file in sorted(root.rglob("*.py")):
    parts = [*sys.argv[1].split("."), *file.relative_to(root).with_suffix("").parts]
    name = ".".join(parts).removesuffix(".__init__")
    if parts[-1] == "__main__":
        continue
    try:
        modules[name] = look(importlib.import_module(name)), str(file)
    except Exception as error:
        print(name, "is left out:", repr(error)[:90], file=sys.stderr)
json.dump({"root": str(root.parent), "modules": modules}, said)
said.flush()
os._exit(0)
"""


@dataclass
class Score:
    """What came out for a package."""

    package: str
    equal: int = 0
    unseen: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many have a card, and so a signature to compare."""
        return self.equal + len(self.marked) + len(self.differ)


def check(package: str, python: str) -> Score:
    """Compare what the text says of a package with what the program says."""
    done = subprocess.run(
        [python, "-c", INSPECT, package], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    print(done.stderr.strip(), file=sys.stderr)
    truth = json.loads(done.stdout)
    library = Library(Path(truth["root"]))
    score = Score(package)
    for module, (expected, file) in truth["modules"].items():
        text = Path(file).read_text("utf-8")
        symbols = {one.name: one for one in read_symbols(text, module, library)}
        for name, parameters in expected.items():
            symbol = symbols.get(name)
            read = symbol and [one.name for one in symbol.signature_params]
            last = name.rpartition(".")[2]
            is_written = re.search(rf"(?m)^\s*(async def|def|class) {last}\b", text)
            is_seen = is_written or (symbol and symbol.kind != "attribute")
            path = f"{module}.{name}: {parameters}, read {read}"
            if not is_seen:
                score.unseen.append(path)
            elif read == parameters:
                score.equal += 1
            elif symbol and symbol.dynamic:
                score.marked.append(path)
            else:
                score.differ.append(path)
    return score


def main() -> None:
    """Print a row a package, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("packages", nargs="+")
    arguments = parser.parse_args()
    scores = [check(one, arguments.python) for one in arguments.packages]
    print("| package | public | equal | marked | differ | equal or marked | unseen |")
    print("|---|---|---|---|---|---|---|")
    for one in scores:
        part = f"{100 * (one.total - len(one.differ)) / one.total:.1f} %"
        counts = one.total, one.equal, len(one.marked), len(one.differ)
        row = one.package, *counts, part, len(one.unseen)
        print(f"| {' | '.join(map(str, row))} |")
    for one in scores:
        for kind in ("marked", "differ", "unseen"):
            for line in getattr(one, kind):
                print(f"{kind}: {line}")


if __name__ == "__main__":
    main()

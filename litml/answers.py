# Exported from nbs/19_answers.ipynb. Edit either side, then run `litml sync`.
"""What a new project is called and whose it is: asked for only if nothing else can
say it, and refused with something better.
"""

import keyword
import re
import subprocess
import sys
import unicodedata
from dataclasses import dataclass, fields
from datetime import date

from litml.notebook import LitmlError

__all__ = [
    "NewError",
    "package_name",
    "TAKEN",
    "find_fault",
    "suggest_name",
    "check_name",
    "Answers",
    "find_answers",
    "git_setting",
    "EMAIL",
    "check_answers",
]


# %% NewError
class NewError(LitmlError):
    """An answer, a template or a folder of which no project can be made."""


# ## A name
# %% package_name
def package_name(name: str) -> str:
    """Return the package's name of a project's name."""
    return re.sub(r"[-.]", "_", name)


# %% find_fault
TAKEN = {
    "litml": "is this program",
    **dict.fromkeys(["nbs", "tests", "docs"], "is a folder beside the package"),
    **dict.fromkeys(["build", "dist", "env"], "is a folder that git ignores"),
    **dict.fromkeys(["aux", "con", "nul", "prn"], "cannot be a file on Windows"),
    **dict.fromkeys(map(str.lower, sys.stdlib_module_names), "hides a standard module"),
}


def find_fault(name: str) -> str | None:
    """Say why a project, its folder or its package cannot have this name, if so."""
    package = package_name(name).lower()
    if not re.fullmatch(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*", name):
        return "is not letters and digits with single `-`, `_` or `.` between them"
    if name[0].isdigit():
        return "begins with a digit, which the name of a package cannot"
    if keyword.iskeyword(package) or keyword.iskeyword(package.title()):
        return "is a word of the Python language"
    return TAKEN.get(package)


# %% suggest_name
def suggest_name(name: str) -> str:
    """Return a name near to `name` that has no fault."""
    last = re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", plain.lower().replace("'", ""))
    near = "-".join(words) or "library"
    return f"my-{near}" if find_fault(near) else near


# %% check_name
def check_name(name: str) -> None:
    """Raise `NewError`, with a better name, unless `name` will do."""
    if fault := find_fault(name):
        hint = f"what about `{suggest_name(name)}`?"
        raise NewError(f"the name `{name}` {fault}", hint=hint)


# ## The other answers
# %% Answers
@dataclass(frozen=True, slots=True)
class Answers:
    """What a template is filled with; `email` may be empty."""

    name: str
    description: str
    author: str
    email: str
    year: int

    @property
    def package(self) -> str:
        """The name that Python imports."""
        return package_name(self.name)


# %% find_answers
def find_answers(
    name: str, description: str = "", author: str = "", email: str = ""
) -> Answers:
    """Fill in what was not given: from git's configuration, the clock, or a default.

    Raises `NewError` for an answer that makes no sense.
    """
    known = git_setting("user.email")
    answers = Answers(
        name=name,
        description=description or "A small machine-learning library.",
        author=author or git_setting("user.name") or f"The {name} authors",
        email=email or (known if EMAIL.fullmatch(known) else ""),
        year=date.today().year,
    )
    check_answers(answers)
    return answers


# %% git_setting
def git_setting(key: str) -> str:
    """Return a setting of git, or an empty string if there is none, or no git."""
    command = ["git", "config", "--get", key]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace").strip()


# %% check_answers
EMAIL = re.compile(r"""[!#-'*+\--9=?A-Z^-~]+@[A-Za-z0-9.-]*[A-Za-z0-9]""")


def check_answers(answers: Answers) -> None:
    """Raise `NewError` for the first answer that a project cannot be made of."""
    check_name(answers.name)
    for one in fields(answers):
        value = str(getattr(answers, one.name))
        if not value.isprintable():
            hint = "leave out line breaks and control characters"
            raise NewError(f"the {one.name} is not one line: {value!r}", hint=hint)
    if answers.email and not EMAIL.fullmatch(answers.email):
        hint = "it looks like `name@example.org`, or is left out"
        raise NewError(f"not an e-mail address: `{answers.email}`", hint=hint)

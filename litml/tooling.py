# Exported from nbs/06f_tooling.ipynb. Edit either side, then run `litml sync`.
"""Change the small files around an nbdev project: workflows, hooks, git's
attributes.
"""

import re
from collections.abc import Callable, Iterator

__all__ = [
    "find_mentions",
    "convert_git_hook",
    "convert_manifest",
    "converter_of",
]


# ## Workflows
# %% STEPS
STEPS = """\
- uses: actions/checkout@v4
- uses: actions/setup-python@v5
  with:
    python-version: "3.12"
- run: python -m pip install --editable ".[dev]"
- run: litml export --check
- run: litml test {notebooks}
"""
ACTION = r"uses: *[\w.-]+/workflows/nbdev3?-ci@[\w./-]+"
IN_LINE = re.compile(rf"^( *)steps: *\[ *{ACTION} *\]", re.MULTILINE)
AS_ITEM = re.compile(rf"^( *)- {ACTION} *(?:\n\1 +.*)*(?=\n|\Z)", re.MULTILINE)


# %% replace_action
def replace_action(text: str, notebooks: str) -> str:
    """Put litml's steps in the place of nbdev's action."""
    lines = STEPS.format(notebooks=notebooks).splitlines()

    def steps(indent: str) -> str:
        return "\n".join(indent + line for line in lines)

    text = IN_LINE.sub(lambda m: f"{m[1]}steps:\n{steps(m[1] + '  ')}", text)
    return AS_ITEM.sub(lambda m: steps(m[1]), text)


# %% translate
COMMAND = re.compile(r"^(\s*(?:- )?(?:run: *)?)(nbdev[_-](export|test)\b)([^#&|;]*)$")


def translate(match: re.Match[str], notebooks: str) -> str:
    """Return what stands for a command of nbdev, or the command if not understood."""
    known = r"--(?:do_print|timing|pause(?:\s+[\d.]+)?|n_workers\s+\d+)(?!\S)"
    rest = re.sub(known, "", match[4]).strip()
    if not rest:
        return "litml export" if match[3] == "export" else f"litml test {notebooks}"
    flags = re.fullmatch(r"""--flags[ =](['"]?)([\w ,]+)\1""", rest)
    if flags and match[3] == "test":
        words = ",".join(re.split(r"[ ,]+", flags[2].strip()))
        return f"litml test {notebooks} --needs {words}"
    return match[2] + match[4]


# %% replace_commands
def replace_commands(text: str, notebooks: str) -> str:
    """Put litml's commands in the place of those of nbdev that are understood."""
    lines = text.split("\n")
    elsewhere = False
    for i, line in enumerate(lines):
        elsewhere = bool(re.search(r"\bcd\s", line)) or (
            elsewhere and "run:" not in line
        )
        if not elsewhere:
            line = COMMAND.sub(lambda m: m[1] + translate(m, notebooks), line)
            lines[i] = INSTALL.sub(lambda m: REQUIREMENT.sub(r"\1litml", m[0]), line)
    return "\n".join(lines)


INSTALL = re.compile(r".*\bpip3? install\b.*")
REQUIREMENT = re.compile(
    r"""(\s)(?:nbdev(?:[<>=!~][^\s"']*)?|(["'])nbdev[^"']*\2)(?=\s|$)"""
)


# %% convert_workflow
def convert_workflow(text: str, notebooks: str) -> str:
    """Return a workflow that calls litml where it called nbdev."""
    return replace_commands(replace_action(text, notebooks), notebooks)


# %% find_mentions
def find_mentions(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines, and their numbers from 1, that still speak of nbdev's ways."""
    for number, line in enumerate(text.split("\n"), start=1):
        if re.search(r"nbdev|settings\.ini|quarto-ghp", line) and "litml" not in line:
            yield number, line.strip()


# ## Hooks
# %% convert_pre_commit
def convert_pre_commit(text: str) -> str:
    """Return a pre-commit configuration with litml's check for nbdev's hooks."""
    lines = HOOK.splitlines()
    return REPO.sub(lambda m: "\n".join(m[1] + line for line in lines), text)


REPO = re.compile(
    r"^( *)- repo: *https://github\.com/[\w-]+/nbdev(?:\.git)?/? *(?:\n\1 +.*)*",
    re.MULTILINE,
)
HOOK = """\
- repo: local
  hooks:
    - id: litml-export
      name: litml export
      entry: litml export --check
      language: system
      pass_filenames: false
"""


# %% convert_git_hook
def convert_git_hook(text: str) -> str:
    """Return a git hook without nbdev's command; empty if nothing else is in it."""
    kept = re.sub(r"^[ \t]*nbdev[_-]trust\b.*\n?", "", text, flags=re.MULTILINE)
    code = [line for line in kept.split("\n") if line.strip()[:1] not in ("", "#")]
    return kept if code else ""


# ## Git
# %% convert_attributes
def convert_attributes(text: str) -> str:
    """Return `.gitattributes` without nbdev's drivers; empty if nothing is left."""
    lines = []
    for line in text.split("\n"):
        kept = DRIVER.sub("", line)
        if kept == line or len(kept.split()) > 1:
            lines.append(kept)
    return "\n".join(lines) if "".join(lines).strip() else ""


DRIVER = re.compile(
    r"\s+(?:merge=(?:nbdev-merge|jupyternotebook)|diff=jupyternotebook)\b"
)


# %% convert_git_config
def convert_git_config(text: str) -> str:
    """Return the repository's `.gitconfig` without nbdev's drivers, or nothing."""
    section = (
        r'^\[(?:merge|diff) "(?:nbdev-merge|jupyternotebook)"\] *(?:\n[ \t]+.*)*\n?'
    )
    kept = re.sub(section, "", text, flags=re.MULTILINE)
    kept = re.sub(r"^# Generated by nbdev_install_hooks\n(?:#.*\n?)*", "", kept)
    return kept if kept.strip() else ""


# %% convert_manifest
def convert_manifest(text: str) -> str:
    """Return `MANIFEST.in` without nbdev 2's settings file."""
    return re.sub(r"^include settings\.ini *\n?", "", text, flags=re.MULTILINE)


# ## Which file is whose
# %% converter_of
def converter_of(name: str, notebooks: str) -> Callable[[str], str] | None:
    """Return what converts the file of a name below the root, if anything does."""
    if re.fullmatch(r"\.github/workflows/[^/]+\.ya?ml", name):
        return lambda text: convert_workflow(text, notebooks)
    return {
        ".pre-commit-config.yaml": convert_pre_commit,
        ".gitattributes": convert_attributes,
        ".gitconfig": convert_git_config,
    }.get(name)

# Exported from nbs/07c_tidy.ipynb. Edit either side, then run `litml sync`.
"""Clean the notebooks of a project: only those that need it, and say why."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litml.canonical import OddFile, load_tree
from litml.clean import MARKERS, OUTPUTS, Policy, parse_policy
from litml.files import Transaction, locked, state_dir
from litml.notebook import LitmlError, Location, NotebookError, parse_json, read_file
from litml.project import ConfigError, Project, list_notebooks
from litml.secrets import Finding, clean_safely, scan_tree

__all__ = [
    "project_policy",
    "list_doubts",
    "find_doubts",
    "wrong_words",
    "find_conflicts",
    "CleanReport",
    "clean_project",
    "find_files",
]


# ## The policy of a project
# %% project_policy
def project_policy(project: Project, outputs: str | None = None) -> Policy:
    """Return the policy of a project; `outputs` takes the place of its own word."""
    if project.nbdev and outputs is None:
        hint = "`--outputs keep` or `--outputs drop` decides for this run"
        message = "this project is configured for nbdev, and does not say what to keep"
        raise ConfigError(message, hint=hint)
    policy = parse_policy(project.config.tables.get("clean", {}))
    return policy._replace(outputs=outputs) if outputs else policy


# ## Why a notebook changes
# %% explain_change
@dataclass(frozen=True, slots=True)
class Change:
    """A notebook that was cleaned, or would be, and why."""

    name: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.reasons)}"


def explain_change(raw: bytes, data: bytes) -> tuple[str, ...]:
    """Return what is different between a notebook's bytes and its clean ones."""
    before, after = load_tree(raw), load_tree(data)
    pairs = list(zip(before["cells"], after["cells"], strict=True))
    found = []
    for what, look in PARTS.items():
        if count := sum(look(one) != look(other) for one, other in pairs):
            found.append(f"{what} of {count} cell{'s' if count > 1 else ''}")
    tables = [
        (one.get("metadata", {}), other.get("metadata", {})) for one, other in pairs
    ]
    for what, both in (
        ("metadata", [(before.get("metadata", {}), after.get("metadata", {}))]),
        ("metadata of cells", tables),
    ):
        if keys := sorted({key for pair in both for key in changed_keys(*pair)}):
            found.append(f"{what} ({', '.join(keys)})")
    return tuple(found or ["layout"])


def changed_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Return the keys whose values differ."""
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


def shown_by(cell: Mapping[str, Any]) -> list[Any]:
    """Return the outputs of a cell without their counts."""
    return [{**one, "execution_count": None} for one in cell.get("outputs") or []]


PARTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "outputs": shown_by,
    "execution count": lambda cell: cell.get("execution_count"),
    "id": lambda cell: cell.get("id"),
}


# ## What a clean notebook may still have
# %% find_doubts
def list_doubts(project: Project) -> Iterator[LitmlError]:
    """Yield what somebody has to decide about the notebooks of a project."""
    for path in list_notebooks(project):
        if path.suffix == ".ipynb" and path.is_file():  # what is none, the export says
            yield from find_doubts(path.read_bytes(), project.name_of(path))


def find_doubts(raw: bytes, name: str) -> Iterator[LitmlError]:
    """Yield what somebody has to decide about a notebook; nothing for an odd file."""
    try:
        tree = load_tree(raw)
    except OddFile:
        return
    yield from wrong_words(tree.get("metadata", {}), Location(name))
    seen: set[str] = set()
    for index, cell in enumerate(tree["cells"], start=1):
        cell_id = str(cell.get("id") or f"number {index}")
        at = Location(name, cell_id)
        if cell_id in seen:
            hint = "`litml clean` gives the second one another"
            yield NotebookError(f"two cells have the id `{cell_id}`", at=at, hint=hint)
        seen.add(cell_id)
        yield from wrong_words(cell.get("metadata", {}), at)
        yield from find_conflicts(cell, at)


def wrong_words(metadata: Mapping[str, Any], at: Location) -> Iterator[LitmlError]:
    """Yield an error if metadata say something of outputs that makes no sense."""
    said = metadata.get("litml")
    word = said.get("outputs", "keep") if isinstance(said, dict) else "keep"
    if word not in OUTPUTS:
        message = f"`outputs` in the metadata is one of {', '.join(OUTPUTS)}"
        yield NotebookError(f"{message}, not {word!r}", at=at)


def find_conflicts(cell: Mapping[str, Any], at: Location) -> Iterator[LitmlError]:
    """Yield an error if a merge left something to decide in the cell."""
    text = "".join(cell["source"])
    said = cell.get("metadata", {}).get("litml")
    if match := re.search(MARKERS, text):
        line = text.count("\n", 0, match.start()) + 1
        hint = "keep what is right, and delete the markers"
        where = Location(at.notebook, at.cell, line)
        yield NotebookError("conflict markers of a git merge", at=where, hint=hint)
    elif isinstance(said, dict) and "conflict" in said:
        hint = "`litml resolve` settles it"
        yield NotebookError(
            f"a merge left a conflict: {said['conflict']}", at=at, hint=hint
        )


# ## Cleaning
# %% clean_project
@dataclass(slots=True)
class CleanReport:
    """What was cleaned, or would be; what cannot be; and what looks like a secret."""

    changed: list[Change] = field(default_factory=list)
    problems: list[LitmlError] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def clean_project(
    project: Project,
    policy: Policy,
    paths: Iterable[Path] = (),
    *,
    check: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CleanReport:
    """Clean notebooks of a project, all of them by default; a check writes nothing."""
    report = CleanReport()
    found = list(find_files(project, paths))
    if check:
        for _ in clean_files(project, policy, found, report, progress):
            pass
        return report
    state = state_dir(project.root)
    with locked(state), Transaction(state) as transaction:
        written = list(clean_files(project, policy, found, report, progress))
        for path, raw, data in written:
            if path.read_bytes() == raw:
                transaction.stage(path, data)
            else:
                at = Location(project.name_of(path))
                report.problems.append(NotebookError("changed while clean ran", at=at))
        transaction.commit({path: raw for path, raw, _ in written})
    return report


def find_files(project: Project, paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the notebooks that paths stand for, by default those of the project."""
    paths = list(paths)
    for path in map(Path.resolve, paths or list_notebooks(project)):
        if path.is_dir():
            yield from sorted(path.rglob("*.ipynb"))
        elif path.suffix == ".ipynb" or paths:
            yield path


# %% clean_files
def clean_files(
    project: Project,
    policy: Policy,
    paths: list[Path],
    report: CleanReport,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[Path, bytes, bytes]]:
    """Yield each notebook that may be written: its path, its bytes, the clean ones."""
    for count, path in enumerate(paths, start=1):
        name = project.name_of(path)
        try:
            raw = read_file(path, name)
            data = clean_file(raw, name, policy)
        except NotebookError as error:
            report.problems.append(error)
            continue
        findings = scan_tree(load_tree(data), name) if policy.secrets == "block" else []
        report.findings += findings
        if data != raw and not findings:
            report.changed.append(Change(name, explain_change(raw, data)))
            yield path, raw, data
        if progress:
            progress(count, len(paths))


def clean_file(raw: bytes, name: str, policy: Policy) -> bytes:
    """Return the clean bytes of a notebook; raises `NotebookError` for an odd file."""
    cleaned = clean_safely(raw, policy)
    if cleaned.left:
        parse_json(raw, name)
        hint = "open and save it in Jupyter once"
        raise NotebookError(cleaned.left, at=Location(name), hint=hint)
    return cleaned.data

"""What git costs with notebooks in it: CPU seconds of the whole tree of processes.

    python tests/bench/git/bench_git.py FOLDER [--rounds N] [--only add|work|diff]

FOLDER holds real notebooks, below it at any depth. Three things are measured: `git add`
of 200 of them through the filters of litml and of others; checkout and status with the
filter of litml and without; and the difference of 50 of them that were edited. Commands
take turns; medians of the rounds count. Slow peers get a few of the files, in fewer
rounds, and their figures are scaled: the table says so. The first run makes a virtual
environment for each peer in the cache folder.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
LITML = Path(sys.executable).with_name("litml")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "litml-bench"
ENVIRONMENT = {
    **os.environ,
    **{"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_PAGER": "cat"},
    **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")},
}

Command = Sequence[str | Path]

# Measuring ---------------------------------------------------------------------------

# A process counts what its children used only once it has waited for them; git waits
# for its filters, and this waits for git.
STARTER = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(f"\\n{os.waitstatus_to_exitcode(status)} {usage.ru_utime + usage.ru_stime}")
"""


def measure(command: Command, folder: Path) -> float:
    """Run a command, which must succeed, and return the CPU seconds it took."""
    words = [str(word) for word in command]
    words[0] = shutil.which(words[0]) or words[0]
    done = subprocess.run(
        [sys.executable, "-S", "-c", STARTER, *words],
        cwd=folder,
        capture_output=True,
        env=ENVIRONMENT,
    )
    code, seconds = done.stdout.rstrip().rpartition(b"\n")[2].split()
    if code != b"0":
        sys.exit(f"{shlex.join(words)}\n{done.stderr.decode(errors='replace')}")
    return float(seconds)


def run(folder: Path, *words: object) -> None:
    """Run a command that is not measured."""
    command = [str(word) for word in words]
    subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL
    )


@dataclass(slots=True)
class Trial:
    """A command to measure on `files` files; `prepare` is run before, not measured.

    A slow one is measured `once`, when it is first run.
    """

    name: str
    command: Command
    folder: Path
    files: int
    prepare: Callable[[], object] = lambda: None
    once: bool = False
    costs: list[float] = field(default_factory=list)

    @property
    def each(self) -> float:
        """Milliseconds a file."""
        return statistics.median(self.costs) / self.files * 1e3


def take_turns(trials: Sequence[Trial], rounds: int) -> None:
    """Measure every trial, in turns, after a round to warm up; slow ones only once."""
    for turn in range(rounds + 1):
        for trial in trials:
            if turn == 0 or not trial.once:
                trial.prepare()
                cost = measure(trial.command, trial.folder)
                if turn or trial.once:
                    trial.costs.append(cost)


def show(title: str, trials: Sequence[Trial], base: str) -> None:
    """Print a table: seconds for all files, and how many times what `base` takes."""
    [own] = [trial for trial in trials if trial.name == base]
    print(f"\n{title}\n| | CPU s | ms a file | × {base} |\n|---|---|---|---|")
    for trial in sorted(trials, key=lambda trial: trial.each):
        scaled = f" ({trial.files} files, scaled)" if trial.files < own.files else ""
        scaled += " (once)" if trial.once else ""
        seconds, ratio = trial.each * own.files / 1e3, trial.each / own.each
        print(
            f"| {trial.name}{scaled} | {seconds:.2f} | {trial.each:.1f} | {ratio:.2f} |"
        )
    sys.stdout.flush()


def install(name: str, peers: Path) -> Path:
    """Return the `bin` of a peer's environment, which is made when it is missing."""
    folder = peers / name
    if not (folder / "bin" / "python").exists():
        lines = (HERE / "requirements.txt").read_text().splitlines()
        [pinned] = [line.split() for line in lines if line.startswith(f"{name}==")]
        print(f"making {folder} with {' '.join(pinned)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin/python", "-m", "pip", "install", "-q", *pinned]
        subprocess.run(pip, check=True)
    return folder / "bin"


# Repositories ------------------------------------------------------------------------


def is_notebook(path: Path) -> bool:
    """Is it a notebook of format 4, in order, so that nobody refuses it?"""
    try:
        tree = json.loads(path.read_bytes(), object_pairs_hook=make_dict)
        code = [cell for cell in tree["cells"] if cell["cell_type"] == "code"]
        whole = all(isinstance(cell["outputs"], list) for cell in code)
        return tree["nbformat"] == 4 and len(tree["cells"]) > 3 and whole
    except (ValueError, KeyError, TypeError):
        return False


def make_dict(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object; raises `ValueError` if it has a key twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError
    return made


def find_notebooks(folder: Path, count: int) -> list[Path]:
    """Return so many different notebooks, the same ones each time."""
    found: dict[bytes, Path] = {}
    for path in sorted(folder.rglob("*.ipynb")):
        if is_notebook(path):
            found.setdefault(path.read_bytes(), path)
    paths = list(found.values())
    if len(paths) < count:
        sys.exit(f"{folder} holds {len(paths)} notebooks; {count} are needed")
    return random.Random(1).sample(paths, count)


def make_repository(
    folder: Path, notebooks: Sequence[Path], attribute: str = ""
) -> Path:
    """Make a repository with copies of notebooks in its work tree, not added yet."""
    (folder / "nbs").mkdir(parents=True)
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    for number, path in enumerate(notebooks):
        shutil.copy(path, folder / f"nbs/{number:03} {path.name}")
    if attribute:
        (folder / ".git/info/attributes").write_text(f"*.ipynb {attribute}\n")
    return folder


def configure(folder: Path, **settings: object) -> None:
    """Set git's configuration; `_` stands for a dot."""
    for name, value in settings.items():
        run(folder, "git", "config", name.replace("_", "."), value)


def use_litml(folder: Path) -> Path:
    """Let git use the filter of litml, as `litml install-hooks` does."""
    run(folder, LITML, "install-hooks", "--local")
    return folder


def forget(folder: Path) -> None:
    """Remove all that git has of the work tree."""
    (folder / ".git/index").unlink(missing_ok=True)
    (folder / ".git/litml/outputs.sqlite").unlink(missing_ok=True)
    for part in (folder / ".git/objects").glob("??"):
        shutil.rmtree(part)


# The tables --------------------------------------------------------------------------


def compare_add(
    notebooks: list[Path], scratch: Path, options: argparse.Namespace
) -> None:
    """Measure `git add` through filters."""
    peers, few = options.peers, notebooks[: options.few]
    alone, beside = (
        f"{shlex.quote(str(install(name, peers) / 'python'))} -m nbstripout"
        for name in ("nbstripout", "jupyter-server")
    )
    nb_clean = f"{shlex.quote(str(install('nb-clean', peers) / 'nb-clean'))} clean"
    add = ["git", "add", "nbs"]
    trials = []
    for name, files, clean in (
        ("no filter", notebooks, ""),
        ("cat", notebooks, "cat"),
        ("nb-clean", notebooks, nb_clean),
        ("nbstripout", notebooks, alone),
        ("nbstripout, beside jupyter-server", few, beside),
        ("litml", notebooks, ""),
    ):
        folder = make_repository(scratch / name, files, "filter=peer" if clean else "")
        if clean:
            configure(folder, filter_peer_clean=clean, filter_peer_required="true")
        elif name == "litml":
            use_litml(folder)
        prepare, once = partial(forget, folder), name.startswith("nbstripout")
        trials.append(Trial(name, add, folder, len(files), prepare, once))
    take_turns(trials, options.rounds)
    size = sum(path.stat().st_size for path in notebooks) / 1e6
    show(f"git add of {len(notebooks)} notebooks, {size:.0f} MB", trials, "litml")


def touch(folder: Path) -> None:
    """Change the time of every notebook, so that git has to look into it."""
    for path in (folder / "nbs").iterdir():
        os.utime(path)


def remove(folder: Path) -> None:
    """Remove the notebooks from the work tree."""
    shutil.rmtree(folder / "nbs")


def compare_work(
    notebooks: list[Path], scratch: Path, options: argparse.Namespace
) -> None:
    """Measure checkout and status: raw notebooks, clean ones, and the filter."""
    raw = make_repository(scratch / "raw", notebooks)
    used = use_litml(make_repository(scratch / "used", notebooks))
    for folder in (raw, used):
        run(folder, "git", "add", "nbs")
        run(folder, "git", "commit", "--quiet", "--message=all")
    clean, filtered = scratch / "clean", scratch / "filtered"
    for folder in (clean, filtered):
        run(scratch, "git", "clone", "--quiet", used, folder)
    use_litml(filtered)
    folders = {
        "no filter": raw,
        "no filter, clean notebooks": clean,
        "litml": filtered,
        "litml, outputs at hand": used,
    }
    for title, command, prepare in (
        ("checkout", ["git", "checkout", "--", "nbs"], remove),
        ("status, every file touched", ["git", "status", "--short"], touch),
        ("status, nothing touched", ["git", "status", "--short"], lambda folder: None),
    ):
        trials = []
        for name, folder in folders.items():
            run(folder, "git", "checkout", "--", "nbs")
            again = partial(prepare, folder)
            trials.append(Trial(name, command, folder, len(notebooks), again))
        take_turns(trials, options.rounds)
        show(f"{title}, {len(notebooks)} notebooks", trials, "no filter")


def edit(path: Path, chance: random.Random) -> None:
    """Edit a notebook a little: lines put in, a cell removed, added or moved."""
    tree = json.loads(path.read_bytes())
    cells = tree["cells"]
    for _ in range(3):
        cell = chance.choice(cells)
        lines = "".join(cell["source"]).splitlines(True)
        lines.insert(chance.randint(0, len(lines)), "a_new_line = 1\n")
        cell["source"] = lines
    cells.pop(chance.randrange(len(cells)))
    cells.insert(chance.randrange(len(cells)), cells.pop(chance.randrange(len(cells))))
    new = {"cell_type": "markdown", "metadata": {}, "source": ["A new cell.\n"]}
    names = {"id": "a-new-cell"} if tree["nbformat_minor"] >= 5 else {}
    cells.insert(chance.randrange(len(cells)), {**new, **names})
    path.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", "utf-8")


def make_edited(folder: Path, notebooks: list[Path], attribute: str = "") -> Path:
    """Make a repository whose notebooks were edited since the last commit."""
    make_repository(folder, notebooks, attribute)
    run(folder, "git", "add", "nbs")
    run(folder, "git", "commit", "--quiet", "--message=all")
    for number, path in enumerate(sorted((folder / "nbs").iterdir())):
        edit(path, random.Random(number))
    return folder


def compare_diff(
    notebooks: list[Path], scratch: Path, options: argparse.Namespace
) -> None:
    """Measure the difference of edited notebooks, which hold their outputs."""
    nbdime, few = install("nbdime", options.peers), notebooks[: options.few]
    all_of_them = make_edited(scratch / "all", notebooks)
    driven = make_edited(scratch / "driven", few, "diff=jupyternotebook")
    driver = f"{nbdime / 'python'} -m nbdime.vcs.git.diffdriver diff"
    configure(driven, diff_jupyternotebook_command=driver)
    texts = make_edited(scratch / "texts", notebooks, "diff=litml")
    textconv = f"{sys.executable} -I -S -c {shlex.quote(TEXTCONV)}"
    configure(texts, diff_litml_textconv=textconv)
    git, many = ["git", "diff"], len(notebooks)
    trials = [
        Trial("git diff", git, all_of_them, many),
        Trial("litml diff", [LITML, "diff"], all_of_them, many),
        Trial("litml diff --html", [LITML, "diff", "--html=-"], all_of_them, many),
        Trial("git diff, text by litml", git, texts, many),
        Trial("nbdiff", [nbdime / "nbdiff", "HEAD"], all_of_them, many, once=True),
        Trial("git diff, driver of nbdime", git, driven, len(few), once=True),
    ]
    take_turns(trials, options.rounds)
    show(f"difference of {many} edited notebooks", trials, "litml diff")


TEXTCONV = (
    f"import sys; sys.path.append({str(HERE.parents[2])!r}); "
    "from litml.textconv import main; sys.exit(main(sys.argv))"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--few", type=int, default=6, help="files for slow peers")
    parser.add_argument("--peers", type=Path, default=CACHE, metavar="FOLDER")
    parser.add_argument("--only", choices=["add", "work", "diff"])
    options = parser.parse_args()
    notebooks = find_notebooks(options.folder, 200)
    parts = {"add": compare_add, "work": compare_work, "diff": compare_diff}
    for name, part in parts.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="litml-bench-") as scratch:
                chosen = notebooks[:50] if name == "diff" else notebooks
                part(chosen, Path(scratch), options)


if __name__ == "__main__":
    main()

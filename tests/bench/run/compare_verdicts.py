"""Which notebooks of a project pass under nbdev-test, and which under litml test.

    python tests/bench/run/compare_verdicts.py PROJECT --commands ENVIRONMENT/bin

PROJECT is the folder of a project that uses nbdev, and ENVIRONMENT one in which it,
nbdev and litml are installed. Each runs on a copy of its own, so that nothing that a
notebook writes is seen by the other; the modules come from where they are installed.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree


def run(project: Path, scratch: Path, commands: Path, *words: str) -> str:
    """Run a command on a copy of the project; return what it has said."""
    place = scratch / words[0] / project.name
    shutil.copytree(project, place, symlinks=True)
    env = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [commands / words[0], *words[1:]],
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def read_report(path: Path) -> dict[str, str]:
    """Return what became of each notebook, from a report in JUnit's form."""
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        told = {one.get("name"): one.get("value") for one in case.iter("property")}
        kinds = {one.tag for one in case} & {"failure", "error", "skipped"}
        if name := told.get("notebook"):
            found.setdefault(name, set()).update(kinds or {"passed"})
    verdicts = {}
    for name, kinds in found.items():
        bad = kinds & {"failure", "error"}
        verdicts[name] = "fails" if bad else "passes" if "passed" in kinds else ""
    return verdicts


def main() -> None:
    """Run both, and print what differs, and how many do not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--commands", type=Path, required=True)
    asked = parser.parse_args()
    project, commands = asked.project.resolve(), asked.commands.absolute()
    with tempfile.TemporaryDirectory(prefix="litml-compare-") as folder:
        scratch = Path(folder)
        said = run(project, scratch, commands, "nbdev-test")
        report = scratch / "report.xml"
        run(
            project, scratch, commands, "litml", "test", "--all", f"--junitxml={report}"
        )
        ours = read_report(report)
    failed = set(re.findall(r"^\t(\S+\.ipynb)$", said, re.MULTILINE))
    if not failed and "Success" not in said:
        raise SystemExit(f"nbdev-test did not run:\n{said[-2000:]}")
    counts: Counter[str] = Counter()
    for name, verdict in sorted(ours.items()):
        theirs = "fails" if Path(name).name in failed else "passes"
        if verdict:  # else all of its cells are skipped
            same = verdict == theirs
            counts[
                f"{verdict} under both" if same else f"{verdict} with litml alone"
            ] += 1
            if not same:
                print(f"{name}: nbdev-test {theirs}, litml {verdict}")
    print(dict(counts))


if __name__ == "__main__":
    main()

"""Jobs and sweeps through the command line: nothing that was done is lost."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ENVIRONMENT, Sandbox, code

KNOBS = code("knobs", "#| params\nlr = 0.1\nepochs: int = 2\nname = 'a'")
FIT = """from litml.metrics import report_metrics
loss = 1.0
for epoch in range(epochs):
    loss -= lr
report_metrics(loss=loss, epochs=epochs)"""
# A job with lr=0.2 stops here until the test lets it go on.
WAIT = """import time
from pathlib import Path
print("before")
while lr == 0.2 and not Path("go").exists():
    Path("waiting").touch()
    time.sleep(0.02)"""

posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@pytest.fixture
def project(project: Sandbox) -> Sandbox:
    project.write("01_fit.ipynb", KNOBS, code("wait", WAIT), code("fit", FIT))
    return project


def result(project: Sandbox, job: str) -> dict[str, Any]:
    path = project.root / "runs/01_fit" / job / "result.json"
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def outputs(copy: Path) -> str:
    """Return the outputs in a copy of a notebook, which may not be there yet."""
    if not copy.exists():
        return ""
    cells = nbformat.read(copy, as_version=4).cells
    return "".join(str(cell.get("outputs")) for cell in cells)


def run(project: Sandbox, *words: object, code: int = 0) -> str:
    done = project.litml("run", "nbs/01_fit.ipynb", "-o", "runs", *words)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def start(project: Sandbox, *words: str) -> "subprocess.Popen[str]":
    """Start a sweep, and return once its second job is in the middle."""
    command = [sys.executable, "-m", "litml", "run", "nbs/01_fit.ipynb", "-o", "runs"]
    process = subprocess.Popen(
        [*command, *words],
        cwd=project.root,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (project.root / "nbs/waiting").exists() or process.poll())
    assert process.poll() is None, process.communicate()
    return process


def wait_for(condition: Callable[[], object], within: float = 60) -> None:
    limit = time.monotonic() + within
    while not condition():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.05)


SWEEP = ("-p", "lr=0.1", "-p", "lr=0.2", "-p", "lr=0.3")


def test_a_job_keeps_copy_metrics_and_environment(project: Sandbox) -> None:
    run(project, "-p", "lr=3e-4", "-p", "epochs=20")
    [folder] = (project.root / "runs/01_fit").iterdir()
    copy = nbformat.read(folder / "01_fit.ipynb", as_version=4)
    nbformat.validate(copy)
    assert "lr = 0.0003" in copy.cells[1].source
    assert copy.cells[2].outputs[0].text == "before\n"
    kept = json.loads((folder / "result.json").read_text())
    assert kept["status"] == "passed"
    assert kept["metrics"] == {"loss": pytest.approx(0.994), "epochs": 20}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["ipykernel"]
    source = json.loads((project.root / "nbs/01_fit.ipynb").read_text())
    assert all(not cell["outputs"] for cell in source["cells"]), "it is left alone"


def test_a_sweep_runs_every_combination_and_ends_in_a_table(project: Sandbox) -> None:
    (project.root / "nbs/go").touch()
    shown = run(project, *SWEEP, "-p", "epochs=1", "-p", "epochs=3", "--jobs", "2")
    rows = list(csv.DictReader((project.root / "runs/results.csv").open()))
    found = {(row["lr"], row["epochs"]) for row in rows}
    assert len(found) == len(rows) == 6
    assert all(row["status"] == "passed" and row["loss"] for row in rows)
    assert "lr   epochs  status" in shown


def test_two_values_never_share_a_folder(project: Sandbox) -> None:
    run(project, "-p", "name=a b", "-p", "name=a/b", "-p", "name=a_b")
    kept = (project.root / "runs/01_fit").glob("*/result.json")
    names = {json.loads(path.read_text())["values"]["name"] for path in kept}
    assert names == {"a b", "a/b", "a_b"}
    assert not list(project.root.rglob("b/result.json")), "no folder by a slash"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "epoch=1"], "did you mean `epochs`?"),
        (["-p", "epochs=many"], "`epochs` is of type int, and 'many' is not"),
        (["-p", "lr"], "write `-p lr=0.1`"),
        (["--needs", "tpu"], "neither a need nor a test flag: `tpu`"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(
    project: Sandbox, words: list[str], message: str
) -> None:
    done = project.litml("run", "nbs/01_fit.ipynb", "-o", "runs", *words)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (project.root / "runs").exists()


def test_parameters_are_not_written_into_the_source(project: Sandbox) -> None:
    before = project.files("nbs")
    done = project.litml("run", "nbs/01_fit.ipynb", "--inplace", "-p", "lr=1")
    assert done.returncode == 2
    assert "`-p` does not go with `--inplace`" in done.stderr
    assert project.files("nbs") == before


def test_a_failing_job_is_reported_and_the_others_go_on(project: Sandbox) -> None:
    check = code("check", "assert loss > 0.7, loss")
    (project.root / "nbs/go").touch()
    project.write("01_fit.ipynb", KNOBS, code("wait", WAIT), code("fit", FIT), check)
    shown = run(project, *SWEEP, code=1)
    assert "nbs/01_fit.ipynb, cell check, line 1" in shown
    kinds = [result(project, f"lr={lr}")["status"] for lr in ("0.1", "0.2", "0.3")]
    assert kinds == ["passed", "failed", "failed"]
    assert "AssertionError" in result(project, "lr=0.2")["reason"]
    copy = (project.root / "runs/01_fit/lr=0.2/01_fit.ipynb").read_text()
    assert "AssertionError" in copy


def test_results_are_not_replaced_unless_asked(project: Sandbox) -> None:
    run(project, "-p", "lr=0.1")
    before = project.files("runs")
    assert "there is a result already" in run(project, "-p", "lr=0.1", code=1)
    project.write("01_fit.ipynb", KNOBS, code("fit", FIT.replace("-=", "+=")))
    assert "of other code" in run(project, "-p", "lr=0.1", "--resume", code=1)
    assert project.files("runs") == before
    run(project, "-p", "lr=0.1", "--force")
    assert result(project, "lr=0.1")["metrics"]["loss"] == pytest.approx(1.2)


@posix
def test_ctrl_c_keeps_what_was_done_and_resume_does_the_rest(project: Sandbox) -> None:
    process = start(project, *SWEEP)
    copy = project.root / "runs/01_fit/lr=0.2/01_fit.ipynb"
    wait_for(lambda: "before" in outputs(copy))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "0.1  passed" in out
    assert "0.2  interrupted" in out
    assert "0.3  not run" in out
    first = project.files("runs/01_fit/lr=0.1")
    assert "before" in outputs(copy), "of the cell that was running"
    (project.root / "nbs/go").touch()
    shown = run(project, *SWEEP, "--resume")
    assert shown.count("passed") == 3
    assert project.files("runs/01_fit/lr=0.1") == first, "it was not run again"


def test_a_job_has_the_time_it_needs(project: Sandbox) -> None:
    """What a project says of tests is too little for training."""
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("timeout = 0.5\n")
    project.write("01_fit.ipynb", code("wait", "import time\ntime.sleep(1.5)"))
    assert "passed" in run(project)
    assert "still running after 0.5 s" in run(
        project, "--force", "--timeout=0.5", code=1
    )
    words = ["run", "nbs/01_fit.ipynb"]
    assert "still running after 0.5 s" in project.litml(*words).stderr
    assert project.litml(*words, "--timeout=60").returncode == 0


@posix
def test_sigkill_leaves_a_job_that_resume_runs_again(project: Sandbox) -> None:
    process = start(project, *SWEEP[:4])
    copy = project.root / "runs/01_fit/lr=0.2/01_fit.ipynb"
    wait_for(lambda: "before" in outputs(copy))
    process.kill()
    process.communicate(timeout=90)
    assert result(project, "lr=0.2")["status"] == "running"
    (project.root / "nbs/go").touch()
    assert run(project, *SWEEP[:4], "--resume").count("passed") == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written(project: Sandbox) -> None:
    (project.root / "runs").mkdir(mode=0o500)
    assert "cannot write" in run(project, code=1)


def test_a_file_where_the_folder_should_be(project: Sandbox) -> None:
    Path(project.root / "runs").write_text("mine")
    assert "cannot write" in run(project, code=1)
    assert Path(project.root / "runs").read_text() == "mine"

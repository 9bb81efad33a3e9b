"""Notebooks that need a GPU take turns: made-up devices, real kernels."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from conftest import code, notebook_bytes

from litml.devices import Device
from litml.notebook import Notebook, parse_notebook
from litml.run import NotebookRun, Policy, run_async

GB = 10**9
SEEN = """import json, os, time
begun = time.time()
time.sleep(0.3)
print(json.dumps([os.environ.get("CUDA_VISIBLE_DEVICES"), begun, time.time()]))"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """A policy under which GPUs are asked for, on a machine with one of 8 GB."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("litml.spares.list_devices", lambda: (Device("5", 8 * GB),))
    (tmp_path / "nbs").mkdir()
    return Policy(tmp_path, asked=frozenset({"gpu"}))


def make(name: str, *directives: str) -> Notebook:
    source = "\n".join([*(f"#| {one}" for one in directives), SEEN])
    return parse_notebook(notebook_bytes(code("train", source)), f"nbs/{name}.ipynb")


def run_all(policy: Policy, *notebooks: Notebook) -> list[tuple[str, float, float]]:
    """Run notebooks at the same time; return device, begin and end of each."""

    async def gather() -> list[NotebookRun]:
        return list(
            await asyncio.gather(*(run_async(one, policy) for one in notebooks))
        )

    told = []
    for run in asyncio.run(gather()):
        assert run.passed, run.failed
        told.append(tuple(json.loads("".join(run.cells[0].outputs[0]["text"]))))
    return sorted(told, key=lambda one: one[1])


def test_one_has_the_whole_device(policy: Policy) -> None:
    first, second = run_all(policy, make("a", "needs: gpu"), make("b", "needs: gpu"))
    assert first[0] == second[0] == "5"
    assert first[2] <= second[1], "the second waits until the first has ended"


def test_two_share_it_if_they_say_how_much_they_take(policy: Policy) -> None:
    said = ("needs: gpu", "gpu-memory: 3 GB")
    first, second = run_all(policy, make("a", *said), make("b", *said))
    assert first[0] == second[0] == "5"
    assert second[1] < first[2], "they run at the same time"


def test_who_needs_none_waits_for_none(policy: Policy) -> None:
    first, second = run_all(policy, make("a"), make("b", "needs: gpu"))
    assert {first[0], second[0]} == {None, "5"}


def test_a_device_is_given_back_when_a_cell_fails(policy: Policy) -> None:
    failing = notebook_bytes(code("train", "#| needs: gpu\n1 / 0"))
    notebook = parse_notebook(failing, "nbs/a.ipynb")
    assert not asyncio.run(run_async(notebook, policy)).passed
    assert run_all(policy, make("b", "needs: gpu"))[0][0] == "5"

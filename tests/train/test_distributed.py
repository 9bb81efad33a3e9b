"""Two processes that train one model, by torchrun and without."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

REASON = "litml.train needs the extra `train`"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("safetensors", reason=REASON)
pytest.importorskip("torchdata", reason=REASON)
if not torch.distributed.is_available() or sys.platform == "win32":
    pytest.skip("torch has no gloo here", allow_module_level=True)

import distributed_script as script  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from litml.train import Checkpoint, Run, TrainError, World, make_loader  # noqa: E402
from litml.train.distributed import choose_backend, open_world, share_loader  # noqa: E402
from litml.train.state import load_weights  # noqa: E402

LIMIT = 360  # seconds; on a busy machine torch alone takes many to import


# Started by torchrun -----------------------------------------------------------------


@pytest.fixture(scope="module")
def root(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """What two processes wrote that torchrun had started."""
    return once("world", start_script)


def start_script(root: Path) -> None:
    """Have torchrun start the script in two processes, which write to a folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", script.__file__, str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert not done.returncode, done.stderr


@pytest.fixture(scope="module")
def found(root: Path) -> list[dict[str, Any]]:
    texts = [(root / f"found.{rank}.json").read_text() for rank in range(2)]
    return [json.loads(text) for text in texts]


@pytest.mark.parametrize("case", [case.__name__ for case in script.CASES])
def test_both_processes_end_alike(found: list[dict[str, Any]], case: str) -> None:
    assert found[0][case] == found[1][case]


@pytest.mark.parametrize(
    ("case", "alone"),
    [
        ("same_as_alone", "same_as_alone"),
        ("sharded", "same_as_alone"),
        ("accumulated", "accumulated"),
        ("sharded_accumulated", "accumulated"),
    ],
)
def test_two_processes_are_as_one(
    found: list[dict[str, Any]], case: str, alone: str, tmp_path: Path
) -> None:
    expected = getattr(script, alone)(World(), tmp_path)
    assert found[0][case]["weights"] == pytest.approx(expected["weights"], abs=1e-6)
    for ours, theirs in zip(
        found[0][case]["history"], expected["history"], strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("case", ["resumed", "resumed_sharded", "resumed_workers"])
def test_resumed_bit_for_bit(found: list[dict[str, Any]], case: str) -> None:
    assert found[0][case]["whole"] == found[0][case]["again"]


def test_sharded_weights_open_in_one_process(
    root: Path, found: list[dict[str, Any]]
) -> None:
    trainer = script.make_trainer(World())
    load_weights(trainer.model, root / "resumed_sharded" / "state")
    expected = found[0]["resumed_sharded"]["again"]
    assert script.read_weights(trainer) == expected


@pytest.mark.parametrize("case", ["stopped_early", "stopped_early_sharded"])
def test_one_decision_to_stop(found: list[dict[str, Any]], case: str) -> None:
    reason = "strange gets no better than 0.0 in epoch 0"
    assert found[1][case] == {"epochs": 3, "reason": reason}


def test_ctrl_c_in_one_process_ends_both(root: Path, found: Any) -> None:
    assert found[0]["interrupted"] == {"epochs": 1, "step": 6, "best": 0.5}
    facts = json.loads((root / "interrupted/interrupted/last/facts.json").read_text())
    assert facts["step"] == 6 and facts["size"] == 2


# When one is lost --------------------------------------------------------------------


class Lose:
    """Something happens to the process of rank 1 in its third step."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_step_start(self, run: Run) -> None:
        if run.world.rank == 1 and run.step == 2:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("broken data")


def lose_one(rank: int, port: int, folder: Path, how: str) -> None:
    """What each of two processes does."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "localhost"
    world = open_world("cpu", timeout=LIMIT)
    saving = Checkpoint(folder, every_steps=1)
    sharded = how == "raised, sharded"
    trainer = script.make_trainer(world, Lose(how), saving, sharded=sharded)
    (folder / f"started.{rank}").touch()
    script.fit(trainer, epochs=1000)


def start_two(folder: Path, how: str) -> list[BaseProcess]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    make = get_context("fork").Process
    both = [make(target=lose_one, args=(rank, port, folder, how)) for rank in range(2)]
    for process in both:
        process.start()
    return both


@pytest.mark.parametrize("how", ["killed", "raised", "raised, sharded"])
def test_one_is_lost_and_the_other_stops(tmp_path: Path, how: str) -> None:
    both = start_two(tmp_path, how)
    try:
        both[1].join(LIMIT / 2)
        assert both[1].exitcode == (-signal.SIGKILL if how == "killed" else 1)
        begun = time.monotonic()
        both[0].join(LIMIT / 2)  # far less than its own time limit
        assert both[0].exitcode == 1, time.monotonic() - begun
    finally:
        for process in both:
            process.kill()
    facts = json.loads((tmp_path / "last" / "facts.json").read_text())
    assert facts["step"] == 2  # the last good one is whole


# Without others ----------------------------------------------------------------------


def test_alone_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = open_world()
    assert type(world) is World
    assert not torch.distributed.is_initialized()


class Place(World):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize("count", range(3, 20))
@pytest.mark.parametrize("drop_last", [False, True])
def test_shares_are_the_whole(count: int, drop_last: bool) -> None:
    """Equally many batches, no sample twice, none left out."""
    whole = make_loader(range(count), 4, drop_last=drop_last)  # type: ignore[arg-type]
    if count < 4 and drop_last:
        return
    shares = [list(share_loader(whole, Place(rank, 3))) for rank in range(3)]
    assert {len(one) for one in shares} == {len(share_loader(whole, Place(0, 3)))}
    assert all(len(batch) for one in shares for batch in one)
    seen = sorted(int(i) for one in shares for batch in one for i in batch)
    assert seen == list(range(count - count % 4 if drop_last else count))


def test_what_cannot_be_shared() -> None:
    data = list(range(8))
    with pytest.raises(TrainError, match="in its own way"):
        share_loader(DataLoader(data, 4, shuffle=True), Place(0, 2))  # type: ignore[arg-type]
    with pytest.raises(TrainError, match="2 samples a batch for 3"):
        share_loader(make_loader(data, 2), Place(0, 3))  # type: ignore[arg-type]
    with pytest.raises(TrainError, match="batch sampler"):
        share_loader(DataLoader(data, batch_size=None), Place(0, 2))  # type: ignore[arg-type]


def test_more_processes_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(TrainError, match="process 2 of this machine has no device"):
        choose_backend(torch.device("cuda"))
    assert choose_backend(torch.device("cpu")) == "gloo"

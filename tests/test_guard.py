"""No ordinary kernel, and nothing that it has started, outlives its runner."""

import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code

if sys.platform != "linux":
    pytest.skip("finds processes in /proc", allow_module_level=True)

# A kernel that cares for nobody. Its children: one in its group, one in a session of
# its own, and one that is no longer its child.
KERNEL = """
import json, os, signal, subprocess, sys, time
import zmq
from jupyter_client.session import Session

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
subprocess.Popen(["sleep", "600"], start_new_session=True)
subprocess.run(["sh", "-c", "setsid sleep 600 &"], stdout=subprocess.DEVNULL)
open(f"{os.environ['TOLD']}/started-{os.getpid()}", "w").close()
time.sleep(600 * (os.environ["DEAF"] == "yes"))
info = json.load(open(sys.argv[1]))
session = Session(key=info["key"].encode())
mark = "-" if info["transport"] == "ipc" else ":"
sockets = {}
for name, kind in [("shell", zmq.ROUTER), ("iopub", zmq.PUB), ("control", zmq.ROUTER)]:
    sockets[name] = zmq.Context.instance().socket(kind)
    place = f"{info['ip']}{mark}{info[name + '_port']}"
    sockets[name].bind(f"{info['transport']}://{place}")
while not sockets["control"].poll(0):  # what comes there is the wish that we leave
    if not sockets["shell"].poll(50):
        continue
    names, message = session.recv(sockets["shell"], mode=0)
    kind, pub = message["msg_type"], sockets["iopub"]
    session.send(pub, "status", {"execution_state": "busy"}, parent=message)
    if kind == "execute_request":
        open(os.environ["TOLD"] + "/running", "w").close()
        time.sleep(600 * (message["content"]["code"] == "wait"))
    said = {"status": "ok", "execution_count": 1, "user_expressions": {}}
    if kind == "kernel_info_request":
        said = {"status": "ok", "protocol_version": "5.3", "language_info": {}}
        said |= {"implementation": "tiny", "implementation_version": "1", "banner": ""}
    answer = kind.replace("_request", "_reply")
    session.send(sockets["shell"], answer, said, parent=message, ident=names)
    session.send(pub, "status", {"execution_state": "idle"}, parent=message)
"""
NAMED = {"kernelspec": {"name": "tiny", "display_name": "Tiny", "language": "tiny"}}


def find_marked(mark: str) -> list[str]:
    """Return the command lines of the processes with this mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


class Place:
    """A project whose notebooks are for that kernel, and who runs in it."""

    def __init__(self, project: Sandbox) -> None:
        self.project = project
        self.mark = uuid.uuid4().hex
        spec = project.root / "share" / "kernels" / "tiny"
        spec.mkdir(parents=True)
        (project.root / "kernel.py").write_text(KERNEL)
        words = [sys.executable, str(project.root / "kernel.py"), "{connection_file}"]
        about = {"argv": words, "display_name": "Tiny", "language": "tiny"}
        (spec / "kernel.json").write_text(json.dumps(about))
        self.env = {
            **ENVIRONMENT,
            "MARK": self.mark,
            "JUPYTER_PATH": str(project.root / "share"),
            "TMPDIR": str(project.root / "tmp"),
            "TOLD": str(project.root),
            "DEAF": "no",
        }
        (project.root / "tmp").mkdir()

    def start(self, *words: str, **env: str) -> "subprocess.Popen[bytes]":
        """Start a program of Python's."""
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.project.root,
            env=self.env | env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_for(
        self, name: str, runner: "subprocess.Popen[bytes]", kernels: int = 1
    ) -> None:
        """Wait until so many kernels have got so far."""
        limit = time.monotonic() + 60
        while len(list(self.project.root.glob(f"{name}*"))) < kernels:
            assert time.monotonic() < limit and runner.poll() is None
            time.sleep(0.01)

    def await_end(self, but: int = 0) -> list[str]:
        """Return what still runs after a while, if it is more than so many."""
        limit = time.monotonic() + 60
        while len(left := find_marked(self.mark)) > but and time.monotonic() < limit:
            time.sleep(0.02)
        return left


@pytest.fixture
def place(project: Sandbox) -> Place:
    return Place(project)


@pytest.mark.parametrize(
    ("moment", "signum"),
    [
        ("started", signal.SIGKILL),
        ("started", signal.SIGINT),
        ("running", signal.SIGKILL),
        ("running", signal.SIGTERM),
    ],
)
def test_a_kernel_that_cares_for_nobody_ends_with_its_runner(
    moment: str, signum: int, place: Place
) -> None:
    """While it starts, and while it runs and the next one waits for its notebook."""
    for name in "ab":
        place.project.write(f"{name}.ipynb", code("a", "wait"), metadata=NAMED)
    deaf = "yes" if moment == "started" else "no"
    runner = place.start("-m", "pytest", "-q", "nbs", DEAF=deaf)
    place.wait_for("started", runner, kernels=1 if moment == "started" else 2)
    place.wait_for(moment, runner)
    assert len(find_marked(place.mark)) > 3
    runner.send_signal(signum)
    assert runner.wait(timeout=60) != 0
    assert place.await_end() == []
    assert list((place.project.root / "tmp").glob("litml-*/connection.json")) == []


def test_a_kernel_ends_with_its_notebook_and_takes_its_children_along(
    place: Place,
) -> None:
    for name in "ab":
        place.project.write(f"{name}.ipynb", code("a", "go on"), metadata=NAMED)
    runner = place.start("-m", "pytest", "-q", "nbs")
    assert runner.wait(timeout=120) == 0
    assert find_marked(place.mark) == []


CLIENT = """
import asyncio, os, sys, time
from jupyter_client.kernelspec import KernelSpec
from litml.guarded import GuardedProvisioner

words = [sys.executable, *sys.argv[1:]]
spec = KernelSpec(argv=words, display_name="Tiny", language="tiny")
provisioner = GuardedProvisioner(kernel_id="1", kernel_spec=spec)
provisioner.connection_info = {}
asyncio.run(provisioner.launch_kernel(words))
if not os.fork():  # a copy of the client, which does nothing
    os.setsid()
    limit = time.monotonic() + 120
    while not os.path.exists("stop") and time.monotonic() < limit:
        time.sleep(0.05)
    os._exit(0)
print("launched", flush=True)
time.sleep(600)
"""
PROGRAM = ["kernel.py", "connection.json"]


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1])
def test_a_client_may_be_killed_at_once(seconds: float, place: Place) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, *PROGRAM],
        cwd=place.project.root,
        env=place.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout and client.stdout.readline() == b"launched\n"
    time.sleep(seconds)
    client.kill()
    client.wait()
    left = place.await_end(but=1)
    assert all("GuardedProvisioner" in command for command in left), left
    (place.project.root / "stop").touch()
    assert place.await_end() == []


def test_a_kernel_that_starts_kernels_takes_them_along(place: Place) -> None:
    """The guards of the inner ones are killed, too, and may come to nothing."""
    (place.project.root / "stop").touch()  # here there is no need of copies
    client = place.start("-c", CLIENT, "-c", CLIENT, *PROGRAM)
    place.wait_for("started", client)
    client.kill()
    client.wait()
    assert place.await_end() == []


JUPYTER = """
import asyncio, sys
from jupyter_client.manager import AsyncKernelManager

async def start():
    manager = AsyncKernelManager(kernel_name="tiny")
    await manager.start_kernel()
    await asyncio.sleep(600)

asyncio.run(start())
"""


def test_our_provisioner_guards_the_kernels_of_other_programs(place: Place) -> None:
    name = "JUPYTER_DEFAULT_PROVISIONER_NAME"
    client = place.start("-c", JUPYTER, **{name: "litml"})
    place.wait_for("started", client)
    client.kill()
    client.wait()
    assert place.await_end() == []


def test_a_program_that_cannot_be_started_is_named(place: Place) -> None:
    place.project.write("a.ipynb", code("a", "wait"), metadata=NAMED)
    spec = place.project.root / "share" / "kernels" / "tiny" / "kernel.json"
    for program, words in [("no-such-program", "No such file"), ("./odd", "exit code")]:
        about = {"argv": [program], "display_name": "Tiny", "language": "tiny"}
        spec.write_text(json.dumps(about))
        odd = place.project.root / "nbs" / "odd"
        odd.write_bytes(b"\x7fELF")
        odd.chmod(0o700)
        command = [sys.executable, "-m", "pytest", "-q", "nbs"]
        done = place.project.run(*command, env=place.env)
        assert done.returncode == 1 and words in done.stdout, done.stdout
    assert "Exec format error" in done.stdout, done.stdout
    assert place.await_end() == []

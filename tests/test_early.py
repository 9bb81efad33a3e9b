"""A fork server that starts beside pytest: who takes it, and that nothing is left."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked")

# Says at the end whether there was such a server, and whether it has been taken.
TELL = """
import os, signal
from pathlib import Path

def pytest_sessionfinish(session):
    early = session.config.pluginmanager.getplugin("litml-early")
    said = "none" if early is None else "waiting" if early.life else "taken"
    Path("told").write_text(said)
"""
KILL = """
def pytest_collection_modifyitems(config):
    home = str(config.pluginmanager.getplugin("litml-early").home).encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if home in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:  # it has ended by itself
            continue
"""
PRELOAD = '\n[tool.litml.kernel]\npreload = ["colorsys"]\n'
FORKED = code("a", "import os, sys\nassert 'colorsys' in sys.modules")
PLAIN = code("b", "import colorsys")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Return a folder for temporary files; its name is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="early-"))
    yield folder
    shutil.rmtree(folder)


def run(project: Sandbox, scratch: Path, *words: str, conftest: str = "") -> str:
    """Run `litml test`, which passes; return what became of the server."""
    (project.root / "conftest.py").write_text(TELL + conftest)
    env = {**ENVIRONMENT, "TMPDIR": str(scratch)}
    done = project.litml("test", "-q", *words, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    limit = time.monotonic() + 30
    while (left := [*scratch.glob("litml-*")]) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not left, left
    return (project.root / "told").read_text()


def test_a_server_is_taken_and_told_what_to_import(
    project: Sandbox, scratch: Path
) -> None:
    with (project.root / "pyproject.toml").open("a") as config:
        config.write(PRELOAD)
    project.write("one.ipynb", FORKED, PLAIN)
    assert run(project, scratch) == "taken"


def test_nothing_new_needs_none(project: Sandbox, scratch: Path) -> None:
    project.write("one.ipynb", PLAIN)
    assert run(project, scratch) == "taken"
    assert run(project, scratch) == "none", "it has passed and not changed"
    assert run(project, scratch, "--all") == "taken"
    (project.root / "test_one.py").write_text("def test_one(): ...\n")
    assert run(project, scratch, "--all", "test_one.py") == "none"


def test_another_environment_wants_another_server(
    project: Sandbox, scratch: Path
) -> None:
    project.write("one.ipynb", code("a", "import os\nassert os.environ['TZ'] == 'UTC'"))
    conftest = "os.environ['TZ'] = 'UTC'\n"
    assert run(project, scratch, conftest=conftest) == "waiting"


def test_a_project_without_warm_kernels_has_none(
    project: Sandbox, scratch: Path
) -> None:
    with (project.root / "pyproject.toml").open("a") as config:
        config.write("\n[tool.litml.kernel]\nwarm = false\n")
    project.write("one.ipynb", PLAIN)
    assert run(project, scratch) == "none"


def test_a_server_that_was_killed_is_replaced(project: Sandbox, scratch: Path) -> None:
    project.write("one.ipynb", PLAIN)
    assert run(project, scratch, conftest=KILL) == "taken", "but it was none any more"

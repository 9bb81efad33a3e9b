# Exported from nbs/10a_shell.ipynb. Edit either side, then run `litml sync`.
"""Make a kernel's application and its shell before there is a kernel, so that a
forked one finds them ready.
"""

import atexit
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "rehearse",
    "forget",
    "HISTORY",
    "FILES",
    "make_shell",
    "list_files",
    "start_app",
    "finish_app",
    "replaced",
    "SystemOfNoModules",
    "adopt_shell",
]


# ## A rehearsal
# %% rehearse
def rehearse() -> None:
    """Do once what is slow only the first time."""
    from ipykernel.zmqshell import ZMQInteractiveShell
    from traitlets.config import Config

    kept = {name: getattr(sys, name) for name in ("displayhook", "excepthook")}
    main = sys.modules["__main__"]
    config = Config({"HistoryManager": {"enabled": False}})
    shell: Any = ZMQInteractiveShell.instance(config=config)
    with contextlib.redirect_stdout(io.StringIO()):
        shell.run_cell("1 + 1;", silent=True)
        shell.display_formatter.format(1)
    forget(shell)
    sys.modules["__main__"] = main
    for name, value in kept.items():
        setattr(sys, name, value)


def forget(shell: Any) -> None:
    """Have the next one who asks for a shell make a new one."""
    atexit.unregister(shell.atexit_operations)
    type(shell).clear_instance()


# ## Made beforehand
# %% make_shell
HISTORY = "--HistoryManager.hist_file=:memory:"  # what a test types is nobody's history
FILES: list[str] = []  # of the modules that there are before the first kernel


def make_shell() -> None:
    """Make the application and its shell, as far as they are the same for all."""
    from ipykernel.compiler import XCachingCompiler
    from ipykernel.kernelapp import IPKernelApp
    from ipykernel.zmqshell import ZMQInteractiveShell
    from IPython.core.application import BaseIPythonApplication

    # With a parent's number, a thread would look every second whether it lives.
    app: Any = IPKernelApp.instance(parent_handle=1)
    initialize: Any = BaseIPythonApplication.initialize
    initialize(app, ["-f", os.devnull, HISTORY])
    if "IPythonKernel" not in app.config:
        shell: Any = ZMQInteractiveShell.instance(
            config=app.config,
            profile_dir=app.profile_dir,
            compiler_class=XCachingCompiler,
        )
        shell.display_formatter.format(None)  # makes the formatters
    FILES[:] = list_files()


def list_files() -> list[str]:
    """Return the files of all modules."""
    found = [getattr(one, "__file__", None) for one in sys.modules.copy().values()]
    return [file for file in found if isinstance(file, str)]


# ## In the kernel
# %% start_app
def start_app(words: Sequence[str], same: bool = True) -> Any:
    """Return ipykernel's application for these arguments, which is ready to start.

    What was made before is used if it is for the `same` person.
    """
    from ipykernel.kernelapp import IPKernelApp
    from ipykernel.zmqshell import ZMQInteractiveShell

    usual = same and len(words) == 3 and words[0] == "-f" and words[2] == HISTORY
    made = IPKernelApp.initialized() and ZMQInteractiveShell.initialized()
    if usual and made:
        return finish_app(IPKernelApp.instance(), words)
    if ZMQInteractiveShell.initialized():
        forget(ZMQInteractiveShell.instance())
    IPKernelApp.clear_instance()
    app: Any = IPKernelApp.instance(parent_handle=1)
    app.initialize([*words])
    return app


def finish_app(app: Any, words: Sequence[str]) -> Any:
    """Initialise an application whose first half is done; return it."""
    from ipykernel import ipkernel
    from IPython.core.application import BaseIPythonApplication

    app.argv, app.connection_file = [*words], words[1]
    for config in (app.config, app.cli_config):
        config.IPKernelApp.connection_file = words[1]
    app.observe(lambda change: adopt_shell(change.new), "kernel")
    with (
        replaced(BaseIPythonApplication, "initialize", lambda *_: None),
        replaced(ipkernel, "sys", SystemOfNoModules()),
    ):
        app.initialize([*words])
    return app


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Have an attribute be another for a while."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


class SystemOfNoModules:
    """The module `sys`, for one who would list all modules."""

    modules: Mapping[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def adopt_shell(kernel: Any) -> None:
    """Have a shell that was made before belong to a kernel, and to this process."""
    shell = kernel.shell
    shell.kernel = shell.parent = kernel
    kernel._kernel_modules = FILES
    if debugger := getattr(kernel, "debugger", None):
        debugger.kernel_modules = FILES
    shell.init_environment()
    shell.init_virtualenv()
    shell.save_sys_module_state()
    shell.starting_dir = os.getcwd()
    shell.history_manager.dir_hist[:] = [Path.cwd()]

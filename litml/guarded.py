# Exported from nbs/10_guarded.ipynb. Edit either side, then run `litml sync`.
"""Ordinary kernels that do not outlive the program that has started them."""

import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

import litml.guard
from litml.channels import stir

__all__ = ["can_guard", "BOOT", "PATIENCE", "GuardedProvisioner", "guard"]


# ## Which kernels
# %% can_guard
def can_guard(words: list[str], options: Mapping[str, Any]) -> bool:
    """Can a command that is started with these options of `Popen` have a guard?"""
    if os.name != "posix" or options.get("independent") or options.get("stdin"):
        return False
    program, env = words[0], options.get("env") or os.environ
    if os.path.dirname(program):
        program = str(Path(options.get("cwd") or "", program))
    return shutil.which(program, path=env.get("PATH")) is not None


# ## The class
# %% GuardedProvisioner
# Isolated, because beside that file there are modules with the names of Python's own.
BOOT = """
import sys
from importlib.machinery import SourceFileLoader
names = {"__name__": "litml.guard"}
exec(SourceFileLoader("litml.guard", sys.argv[1]).get_code("litml.guard"), names)
names["main"]()
"""
PATIENCE = 5.0  # seconds for a guard to end


class GuardedProvisioner(LocalProvisioner):
    """Launches a process that ends when this one does, with all it has started."""

    line: int | None = None
    home = ""  # a folder that is removed if we cannot

    async def launch_kernel(
        self, cmd: list[str], **kwargs: Any
    ) -> KernelConnectionInfo:
        """Launch a kernel with a command."""
        if not can_guard(cmd, kwargs):
            return await super().launch_kernel(cmd, **kwargs)
        request = [secrets.token_hex(8), self.home, *cmd]
        words = [sys.executable, "-I", "-S", "-c", BOOT, str(litml.guard.__file__)]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(json.dumps(request).encode() + b"\n")
            options = {**kwargs, "stdin": theirs}
            info = await super().launch_kernel(words, **options)
            self.line = ours.detach()
        return info

    async def cleanup(self, restart: bool = False) -> None:
        """Do without the process, which has ended, and wait for its guard."""
        await super().cleanup(restart)
        line, self.line = self.line, None
        if line is None:
            return
        with socket.socket(fileno=line) as ours:
            ours.shutdown(socket.SHUT_WR)
            await stir([line], PATIENCE)


# ## For whom
# %% guard
def guard(manager: KernelManager, spec: KernelSpec, home: Path) -> None:
    """Have a manager's kernel end with us, unless others are to launch it.

    Its folder `home` is removed if we cannot.
    """
    usual = KernelProvisionerFactory.instance().default_provisioner_name
    named = spec.metadata.get("kernel_provisioner", {})
    if named.get("provisioner_name", usual) == "local-provisioner":
        manager.kernel_id = str(uuid4())
        provisioner = GuardedProvisioner(
            kernel_id=manager.kernel_id, kernel_spec=spec, parent=manager
        )
        provisioner.home = str(home)
        manager.provisioner = provisioner

# Exported from nbs/18c_signing.ipynb. Edit either side, then run `litml sync`.
"""Sign the tag of a release as git is told to, and find out before the release
whether that works.
"""

import os
import subprocess
from pathlib import Path

from litml.git import GitError, run_git
from litml.journal import ReleaseError

__all__ = ["is_signed", "try_signature", "sign_tag"]


# ## Is it asked for
# %% is_signed
def is_signed(root: Path, key: str) -> bool:
    """Does git's configuration ask for signatures, by `tag.gpgSign` or the like?"""
    try:
        said = run_git(root, "config", "--type=bool", "--get", key)
    except GitError:  # it says nothing, or what is neither true nor false
        return False
    return said.strip() == b"true"


# ## Does it work
# %% try_signature
def try_signature(root: Path) -> None:
    """Sign something. Raises `ReleaseError` (E_SIGN) if git cannot."""
    try:
        empty = os.fsdecode(run_git(root, "mktree")).strip()
        run_git(root, "commit-tree", "-S", "-m", "Can git sign?", empty)
    except GitError as error:
        hint = (
            "`git config user.signingKey` names the key, and gpg-agent or ssh-agent"
            " (`ssh-add`) holds it; or switch off tag.gpgSign, commit.gpgSign, `sign`"
        )
        message = f"git cannot sign: {error.message}"
        raise ReleaseError("E_SIGN", message, hint=hint) from error


# ## The tag
# %% sign_tag
def sign_tag(root: Path, name: str, commit: str, message: str, when: int) -> str:
    """Make a signed tag object and return its id; `when` is its time in seconds.

    Raises `ReleaseError` (E_SIGN) if git cannot, or if there is a tag of that name.
    """
    words = ["git", "tag", "--sign", "--cleanup=verbatim", "--file=-", name, commit]
    environ = {**os.environ, "GIT_COMMITTER_DATE": f"{when} +0000"}
    done = subprocess.run(
        words, cwd=root, input=message.encode(), capture_output=True, env=environ
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        hint = "mend it; then the same command"
        raise ReleaseError("E_SIGN", f"git signs no tag: {said}", hint=hint)
    made = os.fsdecode(run_git(root, "rev-parse", f"refs/tags/{name}")).strip()
    run_git(root, "update-ref", "-d", f"refs/tags/{name}", made)
    return made

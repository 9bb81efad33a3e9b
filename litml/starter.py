# Exported from nbs/09c_starter.ipynb. Edit either side, then run `litml sync`.
"""The small script that git starts, which finds Python and knows what to do when it
is gone.
"""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litml.git import Repository

__all__ = [
    "SCRIPT",
    "render_starter",
    "STARTER",
    "starter_path",
    "starter_line",
]


# ## Starting Python
# %% BOOTSTRAP
BOOTSTRAP = """\
import sys
home, name, *words = sys.argv[1:]
sys.path.append(home)
try:
    module = __import__("litml." + name, fromlist=["main"])
except ImportError:
    import site
    site.main()
    module = __import__("litml." + name, fromlist=["main"])
sys.exit(100 + module.main(words))
"""


# ## Without Python
# %% PASS
PASS = """\
pass_through() {
    box=$(mktemp -d) || exit 1
    trap 'rm -rf "$box"' EXIT
    read_packets "$box/hello" || exit 1
    printf '0016git-filter-server\\n000eversion=2\\n0000'
    read_packets "$box/hello" || exit 1
    printf '0015capability=clean\\n0016capability=smudge\\n0000'
    while read_packets "$box/asked" && read_packets "$box/content"; do
        printf '0013status=success\\n0000'
        cat "$box/content"
        printf '00000000'
    done
}
read_packets() {
    : >"$1"
    while size=$(dd bs=1 count=4 2>/dev/null) && [ -n "$size" ]; do
        [ "$size" = 0000 ] && return 0
        printf %s "$size" >>"$1"
        left=$((0x$size - 4))
        while [ "$left" -gt 0 ]; do
            dd bs="$left" count=1 2>/dev/null >"$box/part"
            got=$(($(wc -c <"$box/part")))
            [ "$got" -gt 0 ] || return 1
            cat "$box/part" >>"$1"
            left=$((left - got))
        done
    done
    return 1
}
"""


# %% MODULE
MODULE = """\
merge_text() {
    git merge-file -L ours -L base -L theirs --marker-size="$4" "$2" "$1" "$3"
}
merge_module() {
    IFS= read -r first <"$2"
    case $first in
    *'Exported from '*) ;;
    *) merge_text "$@"; return ;;
    esac
    cp "$2" "$2.ours" || return
    merge_text "$@" 2>/dev/null || cp "$2.ours" "$2" || return
    rm "$2.ours"
    printf '%s\\0' "$5" >>"$(git rev-parse --git-path litml-merged)"
}
"""


# %% HOOK
HOOK = """\
is_idle() {
    [ -s "$(git rev-parse --git-path litml-merged)" ] && return 1
    [ "$1" != pre-commit ] ||
        git diff --cached --quiet --diff-filter=d -- '*.ipynb' 2>/dev/null
}
refuse() {
    case $1 in pre-*) ;; *) exit 0 ;; esac
    tell 'Nobody has looked at the notebooks, so nothing is committed' \\
        '(`--no-verify` skips this).'
    exit 1
}
"""


# ## The whole script
# %% render_starter
SCRIPT = """\
#!/bin/sh
# Written by `litml install-hooks`, run by git. `litml install-hooks --remove` takes
# it away; to leave without litml: git config --remove-section filter.litml
python={python}
home={home}
here=${{0%/*}}
job=$1
shift
tell() {{
    echo "litml: $*" >&2
}}
start() {{
    options=$1
    shift
    code=127
    if [ -x "$python" ]; then
        "$python" $options -c {bootstrap} "$home" "$@"
        code=$?
    fi
    case $code in 10[0-9]) exit $((code - 100)) ;; esac
    tell "$python does not start litml (exit code $code)."
    tell 'Mend it: pip install litml; litml install-hooks.' \\
        'Or leave: git config --remove-section filter.litml'
}}
{functions}
case $job in
filter)
    start '-I -S' filter "$here"
    [ "$code" -gt 128 ] && exit 1
    tell 'Until then notebooks pass as they are, with their outputs.'
    pass_through
    ;;
merge)
    start '-I -S' driver "$@"
    merge_text "$@"
    ;;
module)
    merge_module "$@"
    ;;
textconv)
    start '-I -S' textconv "$@"
    cat "$1"
    ;;
resolve)
    start -I cli resolve "$@"
    exit 1
    ;;
hook)
    is_idle "$@" && exit 0
    start -I modules "$@"
    refuse "$@"
    ;;
esac
"""


def render_starter(python: str, home: Path) -> str:
    """Return the script for an interpreter, and the folder that `litml` lies in."""
    return SCRIPT.format(
        python=shlex.quote(python.replace(os.sep, "/")),
        home=shlex.quote(home.as_posix()),
        bootstrap=shlex.quote(BOOTSTRAP),
        functions=PASS + MODULE + HOOK.rstrip(),
    )


# %% starter_line
STARTER = "litml-git.sh"


def starter_path(repository: "Repository") -> Path:
    """Return where the script of a repository lies."""
    return repository.common_dir / STARTER


def starter_line(words: str) -> str:
    """Return the shell command that runs the script."""
    return f'sh "$(git rev-parse --git-common-dir)/{STARTER}" {words}'

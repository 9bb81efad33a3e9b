# Exported from nbs/index.ipynb. Edit either side, then run `litml sync`.
"""Write machine-learning libraries in notebooks: typed package, pytest tests and
wheels from one source.
"""

__all__ = []


# %% version
__version__ = "0.1.0"


# %% load-ipython-extension
TYPE_CHECKING = False  # as in `typing`, which is slow to import
if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Start a live session; IPython calls this for `%load_ext litml`."""
    from litml.live import start_live

    start_live(shell)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """Leave a live session as it was; IPython calls this for `%unload_ext litml`."""
    from litml.live import stop_live

    stop_live(shell)

"""A small nbdev project.

Modules:

- `metalib.meta`: Metadata can export prose."""

__version__ = "0.0.1"

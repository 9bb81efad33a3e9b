"""A small nbdev project.

The package in a sentence.

Modules:

- `docs_lib.core`: The first line of the summary and its second, "quoted".
- `docs_lib.late`: Found wherever it stands
- `docs_lib.title_exported`: Summary"""

__version__ = "0.0.1"

# Exported from nbs/train/16_columns.ipynb. Edit either side, then run `litml sync`.
"""What is done to the columns of a table before a network sees them: holes filled,
numbers scaled, categories and words numbered.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, Literal, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, bfloat16

from litml.train.device import TrainError

__all__ = [
    "Array",
    "Table",
    "PrepareError",
    "read_column",
    "read_objects",
    "is_missing",
    "ALONE",
    "read_table",
    "find_names",
    "State",
    "Step",
    "ColumnStep",
    "find_columns",
    "check_numbers",
    "Scale",
    "Standardise",
    "Filling",
    "Impute",
    "find_missing",
    "Categories",
    "CategoryStep",
    "check_whole",
    "Ordinal",
    "OneHot",
    "PADDING",
    "UNKNOWN",
    "Words",
    "Vocabulary",
    "split_words",
    "check_text",
    "Join",
]


# ## Columns
# %% read_column
Array = npt.NDArray[Any]
Table = Mapping[str, Array]


class PrepareError(TrainError):
    """Data that the steps cannot be fitted on, or that differ from the fitted ones."""


def read_column(name: str, values: Any) -> Array:
    """Return the values as numbers, or as text in an array of objects."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == bfloat16 else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise PrepareError(f"column `{name}` is ragged: {error}") from error
    if array.ndim == 0:
        raise PrepareError(f"column `{name}` is one value, not one a sample")
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind in "OUST":  # asked for anew: [1, "two"] is text to NumPy
        return read_objects(name, np.asarray(values, dtype=object))
    hint = "make numbers of it first: a year, days since, a weekday"
    raise PrepareError(f"column `{name}` holds {array.dtype}", hint=hint)


# %% read_objects
def read_objects(name: str, array: Array) -> Array:
    """Return text with None for what is missing, or numbers with NaN for it."""
    flat = [None if is_missing(value) else value for value in array.ravel().tolist()]
    kinds = {type(value) for value in flat if value is not None}
    if kinds <= {str}:
        made = np.empty(len(flat), dtype=object)
        made[:] = flat
        return made.reshape(array.shape)
    if kinds <= {int, float, bool}:
        return np.array(flat, dtype=np.float64).reshape(array.shape)
    words = ", ".join(sorted(kind.__name__ for kind in kinds))
    hint = "a column holds numbers or text, one entry a sample"
    raise PrepareError(f"column `{name}` holds objects of type {words}", hint=hint)


def is_missing(value: object) -> bool:
    """Is it None, a NaN, or the mark that pandas has for missing values?"""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


# %% read_table
ALONE = "array"  # the name of the column that an array without a name is


def read_table(data: Any) -> dict[str, Array]:
    """Return the columns of a mapping or a data frame, or an array as the only one.

    Raises `PrepareError` for columns of different lengths, or none.
    """
    names = find_names(data)
    given = {ALONE: data} if names is None else {name: data[name] for name in names}
    table = {str(name): read_column(name, values) for name, values in given.items()}
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise PrepareError(f"columns of different lengths: {words}")
    if not table:
        raise PrepareError("a table without columns")
    return table


def find_names(data: Any) -> list[Any] | None:
    """Return the names of the columns; None if they have none."""
    if isinstance(data, Mapping):
        return list(data)
    return list(data.columns) if hasattr(data, "columns") else None


# ## A step
# %% ColumnStep
State = TypeVar("State")


@dataclass(frozen=True)
class Step(ABC, Generic[State]):
    """What is done to a table: options, what is learned, and how that is applied.

    Subclasses are frozen dataclasses whose options JSON can hold.
    """

    version: ClassVar[int] = 1  # another one when the meaning of a state changes

    @abstractmethod
    def learn(self, table: Table) -> State:
        """Return what the training data teach, as plain data."""

    @abstractmethod
    def apply(self, table: Table, state: State) -> Table:
        """Return the table after this step; the one given stays as it is."""


@dataclass(frozen=True)
class ColumnStep(Step[dict[str, State]]):
    """A step that treats each of its columns by itself."""

    columns: str | Sequence[str] = ()

    def learn(self, table: Table) -> dict[str, State]:
        """Return what each column teaches."""
        names = find_columns(self.columns, table) or list(table)
        return {name: self.learn_column(name, table[name]) for name in names}

    def apply(self, table: Table, state: dict[str, State]) -> Table:
        """Return the table with the step's columns changed."""
        changed = {
            name: self.apply_column(name, table[name], state[name]) for name in state
        }
        return {**table, **changed}

    @abstractmethod
    def learn_column(self, name: str, values: Array) -> State:
        """Return what one column of the training data teaches, as plain data."""

    @abstractmethod
    def apply_column(self, name: str, values: Array, state: State) -> Array:
        """Return the changed column."""


# %% find_columns
def find_columns(columns: str | Sequence[str], table: Table) -> list[str]:
    """Return the names; raises `PrepareError` for one that the table has not."""
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        if name not in table:
            close = get_close_matches(name, table, 1)
            hint = (
                f"did you mean `{close[0]}`?" if close else f"has: {', '.join(table)}"
            )
            raise PrepareError(f"no column `{name}` here", hint=hint)
    return names


# ## Numbers
# %% check_numbers
def check_numbers(name: str, values: Array) -> npt.NDArray[np.float64]:
    """Return the values in float64; raises `PrepareError` for text and for holes."""
    if values.dtype == object:
        hint = "OneHot, Ordinal and Vocabulary make numbers of text"
        raise PrepareError(f"column `{name}` holds text, not numbers", hint=hint)
    numbers = values.astype(np.float64)
    if bad := int((~np.isfinite(numbers)).sum()):
        message = f"column `{name}` has {bad} values that are NaN or infinite"
        raise PrepareError(message, hint="put Impute before this step")
    return numbers


# %% Standardise
class Scale(TypedDict):
    """What `Standardise` learns of a column: a number a feature."""

    mean: list[float]
    scale: list[float]


@dataclass(frozen=True)
class Standardise(ColumnStep[Scale]):
    """Give every feature the mean 0 and the deviation 1 that it has in training."""

    def learn_column(self, name: str, values: Array) -> Scale:
        """Return mean and standard deviation of each feature."""
        numbers = check_numbers(name, values)
        constant = (numbers == numbers[:1]).all(axis=0)
        mean = np.where(constant, numbers[0], numbers.mean(axis=0))
        scale = np.where(constant, 1.0, numbers.std(axis=0))
        return {"mean": np.ravel(mean).tolist(), "scale": np.ravel(scale).tolist()}

    def apply_column(self, name: str, values: Array, state: Scale) -> Array:
        """Return (values - mean) / scale."""
        numbers = check_numbers(name, values)
        shape = values.shape[1:]
        mean, scale = (np.reshape(state[key], shape) for key in ("mean", "scale"))
        made: Array = (numbers - mean) / scale
        return made.astype(values.dtype if values.dtype.kind == "f" else np.float32)


# %% Impute
class Filling(TypedDict):
    """What `Impute` learns of a column: the value to fill in, for each feature."""

    values: list[Any]


@dataclass(frozen=True)
class Impute(ColumnStep[Filling]):
    """Fill missing values: by "mean", "median", the "most frequent", or by `value`."""

    strategy: Literal["mean", "median", "most frequent", "value"] = "mean"
    value: float | str | None = None
    marks: bool = False

    def learn_column(self, name: str, values: Array) -> Filling:
        """Return what is usual, feature by feature."""
        features = values.reshape(len(values), -1).T
        return {"values": [self.find_usual(name, one) for one in features]}

    def find_usual(self, name: str, feature: Array) -> Any:
        """Return what fills the holes of one feature."""
        if self.strategy == "value":
            if isinstance(self.value, str) != (feature.dtype == object):
                raise PrepareError(f"column `{name}` cannot hold {self.value!r}")
            return self.value
        known = feature[~find_missing(feature)]
        if not len(known):
            raise PrepareError(f"column `{name}` has no value to learn from")
        if self.strategy == "most frequent":
            found, counts = np.unique(known, return_counts=True)
            return found.tolist()[counts.argmax()]
        numbers = check_numbers(name, known)
        return float(
            np.mean(numbers) if self.strategy == "mean" else np.median(numbers)
        )

    def apply_column(self, name: str, values: Array, state: Filling) -> Array:
        """Return the values without holes."""
        usual = np.array(state["values"], dtype=object).reshape(values.shape[1:])
        made = np.where(find_missing(values), usual, values)
        return made.astype(values.dtype)

    def apply(self, table: Table, state: dict[str, Filling]) -> Table:
        """Return the table without holes, and where they were, if that is asked for."""
        names = list(state) if self.marks else []
        marks = {
            f"{name}_missing": find_missing(table[name]).astype(np.float32)
            for name in names
        }
        return {**super().apply(table, state), **marks}


def find_missing(values: Array) -> npt.NDArray[np.bool_]:
    """Return where a value is missing."""
    if values.dtype == object:
        return np.array([one is None for one in values.flat], bool).reshape(
            values.shape
        )
    return np.not_equal(values, values)  # only a NaN differs from itself


# ## Categories
# %% find_categories
class Categories(TypedDict):
    """What is learned of a column of categories, in their order."""

    categories: list[Any]


@dataclass(frozen=True)
class CategoryStep(ColumnStep[Categories]):
    """A step that learns what categories there are, seen `least` times or more."""

    unknown: Literal["ignore", "error"] = "ignore"
    least: int = 1

    def learn_column(self, name: str, values: Array) -> Categories:
        """Return the categories of the training data, sorted."""
        check_whole(name, values)
        found, counts = np.unique(values, return_counts=True)
        return {"categories": found[counts >= self.least].tolist()}

    def find_places(self, name: str, values: Array, state: Categories) -> Array:
        """Return the place of each value among the categories from 1; 0: unknown."""
        check_whole(name, values)
        places = {category: i for i, category in enumerate(state["categories"], 1)}
        flat = values.ravel().tolist()
        if self.unknown == "error":
            new = sorted({repr(value) for value in flat if value not in places})
            if new:
                message = (
                    f"column `{name}` has unknown categories: {', '.join(new[:5])}"
                )
                hint = 'unknown="ignore" gives them a place of their own'
                raise PrepareError(message, hint=hint)
        found = [places.get(value, 0) for value in flat]
        return np.array(found, dtype=np.int64).reshape(values.shape)


def check_whole(name: str, values: Array) -> None:
    """Raise `PrepareError` if a value is missing."""
    if bad := int(find_missing(values).sum()):
        hint = 'put Impute before this step, such as Impute(…, "value", "none")'
        raise PrepareError(f"column `{name}` has {bad} missing values", hint=hint)


# %% Ordinal
@dataclass(frozen=True)
class Ordinal(CategoryStep):
    """Number the categories from 1; 0 is an unknown one."""

    def apply_column(self, name: str, values: Array, state: Categories) -> Array:
        """Return whole numbers of the same shape."""
        return self.find_places(name, values, state)


@dataclass(frozen=True)
class OneHot(CategoryStep):
    """Make a column of zeros and ones of each category."""

    def apply_column(self, name: str, values: Array, state: Categories) -> Array:
        """Return an array of shape (samples, categories)."""
        if values.size != len(values):
            raise PrepareError(f"column `{name}` has several categories a sample")
        places = self.find_places(name, values.reshape(-1), state)
        table = np.eye(len(state["categories"]) + 1, dtype=np.float32)
        return table[places][:, 1:]


# ## Text
# %% Vocabulary
PADDING, UNKNOWN = 0, 1


class Words(TypedDict):
    """What `Vocabulary` learns: the words, most frequent first, and the length."""

    words: list[str]
    length: int


@dataclass(frozen=True)
class Vocabulary(ColumnStep[Words]):
    """Number the words of texts; a `size` or `length` of 0 is what training shows."""

    size: int = 0
    length: int = 0
    least: int = 1

    def learn_column(self, name: str, values: Array) -> Words:
        """Return the most frequent words; equally frequent ones by the alphabet."""
        texts = [split_words(text) for text in check_text(name, values)]
        counts = Counter(word for text in texts for word in text)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        words = [word for word in ranked if counts[word] >= self.least]
        return {
            "words": words[: self.size or None],
            "length": self.length or max(len(text) for text in texts),
        }

    def apply_column(self, name: str, values: Array, state: Words) -> Array:
        """Return whole numbers of shape (samples, length)."""
        places = {word: i for i, word in enumerate(state["words"], UNKNOWN + 1)}
        made = np.full((len(values), state["length"]), PADDING, dtype=np.int64)
        for row, text in zip(made, check_text(name, values), strict=True):
            words = split_words(text)[: state["length"]]
            row[: len(words)] = [places.get(word, UNKNOWN) for word in words]
        return made


def split_words(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def check_text(name: str, values: Array) -> list[str]:
    """Return the texts; raises `PrepareError` for numbers and for holes."""
    if values.dtype != object or values.size != len(values):
        raise PrepareError(f"column `{name}` does not hold one text a sample")
    check_whole(name, values)
    return [str(text) for text in values.ravel()]


# ## One input
# %% Join
@dataclass(frozen=True)
class Join(Step[list[str]]):
    """Put columns (all, if none are named) into one, of shape (samples, features)."""

    columns: str | Sequence[str] = ()
    name: str = "x"

    def learn(self, table: Table) -> list[str]:
        """Return the names of the columns, in order."""
        return find_columns(self.columns, table) or list(table)

    def apply(self, table: Table, state: list[str]) -> Table:
        """Return the table with the joined column in place of its parts."""
        parts = [check_numbers(name, table[name]) for name in state]
        flat = [part.reshape(len(part), -1).astype(np.float32) for part in parts]
        rest = {name: table[name] for name in table if name not in state}
        return {**rest, self.name: np.concatenate(flat, axis=1)}

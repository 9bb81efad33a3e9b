"""Preprocessing steps against scikit-learn's, and what a pipeline refuses."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="litml.train needs the extra litml[train]")

import numpy as np  # noqa: E402

from litml.train.columns import (  # noqa: E402
    ColumnStep,
    Impute,
    Join,
    OneHot,
    Ordinal,
    PrepareError,
    Standardise,
    Step,
    Vocabulary,
)
from litml.train.prepare import Pipeline, load_pipeline, save_pipeline  # noqa: E402

WITH_PEER = "compares with scikit-learn, which is not installed"


def apply(step: Step[Any], train: Any, test: Any) -> Any:
    return Pipeline([step]).fit(train).transform(test)


# The same numbers as scikit-learn's --------------------------------------------------


def test_standardise_is_the_scaler_of_sklearn() -> None:
    peer = pytest.importorskip("sklearn.preprocessing", reason=WITH_PEER)
    data = np.random.default_rng(0).normal(50, 9, (200, 4))
    data[:, 2] = 0.1  # constant, and its mean is not exactly 0.1 in floats
    train, test = data[:150], data[150:]
    ours = apply(Standardise(), train, test)
    theirs = peer.StandardScaler().fit(train).transform(test)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not ours[:, 2].any()


@pytest.mark.parametrize("strategy", ["mean", "median", "most frequent"])
def test_impute_is_the_imputer_of_sklearn(strategy: Any) -> None:
    peer = pytest.importorskip("sklearn.impute", reason=WITH_PEER)
    data = np.random.default_rng(1).integers(0, 6, (90, 3)).astype(float)
    data[data == 5] = np.nan
    ours = Pipeline([Impute((), strategy)]).fit(data[:60])
    theirs = peer.SimpleImputer(strategy=strategy.replace(" ", "_")).fit(data[:60])
    np.testing.assert_array_equal(
        ours.transform(data[60:]), theirs.transform(data[60:])
    )


CITIES = ["Oslo", "Bergen", "Oslo", "Narvik", "Bodø", "Oslo", "Bergen"]
LATER = ["Bodø", "Paris", "Oslo"]


@pytest.mark.parametrize("least", [1, 2])
def test_one_hot_is_the_encoder_of_sklearn(least: int) -> None:
    peer = pytest.importorskip("sklearn.preprocessing", reason=WITH_PEER)
    ours = apply(OneHot("c", least=least), {"c": CITIES}, {"c": LATER})["c"]
    encoder = peer.OneHotEncoder(
        handle_unknown="ignore", sparse_output=False, dtype=np.float32
    )
    kept = [[c] for c in CITIES if CITIES.count(c) >= least]
    theirs = encoder.fit(kept).transform([[city] for city in LATER])
    np.testing.assert_array_equal(ours, theirs)


def test_ordinal_is_the_encoder_of_sklearn_from_one() -> None:
    peer = pytest.importorskip("sklearn.preprocessing", reason=WITH_PEER)
    ours = apply(Ordinal("c"), {"c": CITIES}, {"c": LATER})["c"]
    encoder = peer.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoder.fit([[city] for city in CITIES])
    theirs = encoder.transform([[city] for city in LATER]).ravel()
    np.testing.assert_array_equal(ours, theirs + 1)  # 0 is ours for unknown


def test_vocabulary_has_the_words_of_sklearn() -> None:
    peer = pytest.importorskip("sklearn.feature_extraction.text", reason=WITH_PEER)
    texts = ["The cat sat.", "The dog sat on the cat!", "A cat, a dog; a bird"]
    pipeline = Pipeline([Vocabulary("t")]).fit({"t": texts})
    counter = peer.CountVectorizer(token_pattern=r"\w+|[^\w\s]").fit(texts)
    words = pipeline.states[0]["t"]["words"]
    assert set(words) == set(counter.vocabulary_)
    counts = np.asarray(counter.transform(texts).sum(axis=0)).ravel()
    frequencies = [int(counts[counter.vocabulary_[word]]) for word in words]
    assert frequencies == sorted(frequencies, reverse=True)
    numbers = pipeline.transform({"t": texts})["t"]
    again = [" ".join(words[i - 2] for i in row if i) for row in numbers]
    assert again == [" ".join(counter.build_analyzer()(text)) for text in texts]


def test_a_table_is_the_column_transformer_of_sklearn() -> None:
    compose = pytest.importorskip("sklearn.compose", reason=WITH_PEER)
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    pandas = pytest.importorskip("pandas", reason="gives a data frame to both")
    frame = pandas.DataFrame(
        {
            "age": [22, None, 38, 35, 54, 2],
            "fare": [7.2, 71.3, 7.9, 53.1, 8.1, None],
            "city": pandas.Categorical(["B", "O", "O", None, "B", "N"]),
        }
    )
    pipeline = Pipeline(
        [
            Impute(["age", "fare"], "median"),
            Standardise(["age", "fare"]),
            Impute("city", "most frequent"),
            OneHot("city"),
            Join(["age", "fare", "city"]),
        ]
    )
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    theirs = compose.make_column_transformer(
        (numbers, ["age", "fare"]), (words, ["city"])
    )
    train, test = frame[:4], frame[4:]
    theirs.fit(train)
    ours = pipeline.fit(train).transform(test)["x"]
    assert pipeline.transform(dict(test))["x"].tobytes() == ours.tobytes()
    np.testing.assert_allclose(ours, theirs.transform(test), rtol=1e-6)


# The very same at training and prediction --------------------------------------------

COLUMNS = st.fixed_dictionaries(
    {
        "size": st.lists(
            st.none() | st.floats(-1e6, 1e6, width=32), min_size=9, max_size=9
        ).filter(lambda values: any(value is not None for value in values)),
        "city": st.lists(st.none() | st.text(max_size=3), min_size=9, max_size=9),
    }
)


def make_pipeline_of_all() -> Pipeline:
    return Pipeline(
        [
            Impute("size", "median", marks=True),
            Standardise("size"),
            Impute("city", "value", ""),
            OneHot("city", least=2),
            Join(["size", "size_missing", "city"]),
        ]
    )


@given(COLUMNS)
def test_a_sample_alone_is_what_it_is_among_others(table: dict[str, Any]) -> None:
    pipeline = make_pipeline_of_all().fit(table)
    whole = pipeline.transform(table)["x"]
    for i in range(9):
        row = {name: values[i : i + 1] for name, values in table.items()}
        assert pipeline.transform(row)["x"].tobytes() == whole[i : i + 1].tobytes()


@given(COLUMNS)
def test_a_loaded_pipeline_gives_the_same_bits(table: dict[str, Any]) -> None:
    import tempfile

    pipeline = make_pipeline_of_all().fit(table)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prepare.json"
        save_pipeline(pipeline, path)
        loaded = load_pipeline(path)
        first = path.read_bytes()
        save_pipeline(loaded, path)
        assert path.read_bytes() == first
        assert [entry.name for entry in Path(folder).iterdir()] == ["prepare.json"]
    ours, again = pipeline.transform(table)["x"], loaded.transform(table)["x"]
    assert ours.tobytes() == again.tobytes() and ours.dtype == again.dtype


def test_test_data_teach_nothing() -> None:
    pipeline = Pipeline([Standardise()]).fit(np.array([[0.0], [2.0]]))
    before = json.dumps(pipeline.states)
    data = np.array([[1e9], [-5.0]])
    pipeline.transform(data)
    assert json.dumps(pipeline.states) == before
    assert data.tolist() == [[1e9], [-5.0]], "what was given is as it was"


def test_no_pickle_is_read_or_written(tmp_path: Path) -> None:
    save_pipeline(Pipeline([Standardise()]).fit(np.eye(3)), tmp_path / "p.json")
    tree = json.loads((tmp_path / "p.json").read_text())
    assert tree["format"] == "litml.train.prepare"
    source = Path(sys.modules["litml.train.prepare"].__file__ or "").read_text()
    assert "pickle" not in source


# Arrays and tensors ------------------------------------------------------------------


def test_floats_keep_their_type_and_tensors_their_kind() -> None:
    for dtype in (np.float32, np.float64):
        made = apply(Standardise(), np.eye(3, dtype=dtype), np.eye(3, dtype=dtype))
        assert made.dtype == dtype
    made = apply(Standardise(), np.arange(4), np.arange(4))
    assert made.dtype == np.float32
    tensor = torch.arange(6.0).reshape(3, 2)
    made = apply(Standardise(), tensor, tensor)
    assert isinstance(made, torch.Tensor) and made.dtype == torch.float32
    expected = (tensor - tensor.mean(0)) / tensor.std(0, unbiased=False)
    torch.testing.assert_close(made, expected)
    table = apply(Join(["a"]), {"a": tensor}, {"a": tensor})
    assert isinstance(table["x"], torch.Tensor)


def test_data_frames_with_types_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="reads data frames")
    frame = pandas.DataFrame(
        {
            "whole": pandas.array([1, None, 3], dtype="Int64"),
            "text": pandas.array(["x", None, "y"], dtype="string"),
            "kind": pandas.Categorical(["u", "v", None]),
            "flag": [True, False, True],
        }
    )
    steps = [
        Impute("whole", "median"),
        Impute("text", "value", "?"),
        Impute("kind", "most frequent"),
        Ordinal("flag"),
    ]
    made = Pipeline(steps).fit(frame).transform(frame)
    assert {name: values.tolist() for name, values in made.items()} == {
        "whole": [1.0, 2.0, 3.0],
        "text": ["x", "?", "y"],
        "kind": ["u", "v", "u"],
        "flag": [2, 1, 2],
    }


def test_half_precision_is_read_too() -> None:
    tensor = torch.tensor([[1.0], [3.0]], dtype=torch.bfloat16)
    assert apply(Standardise(), tensor, tensor).tolist() == [[-1.0], [1.0]]


def test_a_prediction_may_miss_what_training_had() -> None:
    pipeline = Pipeline([Impute("a", "median")]).fit({"a": [1, 3, None]})
    assert pipeline.transform({"a": [None]})["a"].tolist() == [2.0]
    assert pipeline.transform({"a": []})["a"].tolist() == []


# Refused -----------------------------------------------------------------------------

FITTED = {"age": [1.0, 2.0], "city": ["a", "b"]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"age": [1.0]}, "missing: city"),
        ({**FITTED, "target": [0, 1]}, "not in training: target"),
        ({"age": ["1", "2"], "city": ["a", "b"]}, "`age` held numbers"),
        ({"age": [[1.0, 2.0]], "city": ["a"]}, "shape (2,) a sample"),
        ({"age": [1.0], "city": ["a", "b"]}, "different lengths"),
        ({"age": [float("nan")], "city": ["a"]}, "NaN or infinite"),
        ({"age": [float("inf")], "city": ["a"]}, "NaN or infinite"),
        ({"age": [1.0], "city": [None]}, "1 missing values"),
    ],
)
def test_other_data_are_refused(data: Mapping[str, Any], words: str) -> None:
    pipeline = Pipeline([Standardise("age"), OneHot("city")]).fit(FITTED)
    with pytest.raises(PrepareError) as caught:
        pipeline.transform(data)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("step", "data", "words"),
    [
        (Standardise(), np.ones((0, 3)), "no samples"),
        (Standardise(), {}, "without columns"),
        (Standardise(), 3.0, "one value"),
        (Standardise(), [[1, 2], [3]], "ragged"),
        (Standardise("c"), {"c": ["x"]}, "text, not numbers"),
        (Standardise("b"), {"bb": [1]}, "did you mean `bb`?"),
        (Impute(), {"a": [float("nan")]}, "no value to learn from"),
        (Impute((), "value", "x"), {"a": [1.0]}, "cannot hold 'x'"),
        (Impute((), "value"), {"a": ["x", None]}, "cannot hold None"),
        (OneHot("c"), {"c": ["x", None]}, "missing values"),
        (OneHot("c"), {"c": [["x", "y"]]}, "several categories"),
        (Vocabulary("c"), {"c": [1, 2]}, "one text a sample"),
        (Join(), {"c": ["x"]}, "text, not numbers"),
        (Join(), {"c": [1, "x"]}, "objects of type int, str"),
        (Join(), {"c": np.array(["2024-01-01"], "datetime64[D]")}, "datetime64"),
    ],
)
def test_what_cannot_be_learned_from(step: Step[Any], data: Any, words: str) -> None:
    pipeline = Pipeline([step])
    with pytest.raises(PrepareError) as caught:
        pipeline.fit(data)
    assert words in str(caught.value)
    with pytest.raises(PrepareError, match="not fitted"):
        pipeline.transform(data)
    with pytest.raises(PrepareError, match="not fitted"):
        save_pipeline(pipeline, Path("never.json"))


def test_a_fit_that_fails_leaves_the_pipeline_as_it_was() -> None:
    pipeline = Pipeline([Standardise()]).fit(np.eye(3))
    before = pipeline.transform(np.eye(3)).tobytes()
    with pytest.raises(PrepareError):
        pipeline.fit(np.full((3, 3), np.nan))
    assert pipeline.transform(np.eye(3)).tobytes() == before


@dataclass(frozen=True)
class Range(ColumnStep[list[float]]):
    """A step of one's own."""

    def learn_column(self, name: str, values: Any) -> list[float]:
        return [float(values.min()), float(values.max())]

    def apply_column(self, name: str, values: Any, state: list[float]) -> Any:
        return (values - state[0]) / (state[1] - state[0])


class NewRange(Range):
    version = 2


NewRange.__name__ = "Range"


@dataclass(frozen=True)
class Bad(ColumnStep[Any]):
    def learn_column(self, name: str, values: Any) -> Any:
        return values.max()  # a NumPy scalar is no plain data

    def apply_column(self, name: str, values: Any, state: Any) -> Any:
        return values


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    save_pipeline(Pipeline([Range("a")]).fit({"a": [1.0, 3.0]}), path)
    loaded = load_pipeline(path, own=[Range])
    assert loaded.transform({"a": [2.0]})["a"].tolist() == [0.5]
    with pytest.raises(PrepareError, match="unknown step, Range"):
        load_pipeline(path)
    with pytest.raises(PrepareError, match="version 1, this is version 2"):
        load_pipeline(path, own=[NewRange])
    whole = path.read_text()
    options = whole.replace('"columns": "a"', '"columns": "a", "more": 1')
    path.write_text(options)
    with pytest.raises(PrepareError, match="other options now"):
        load_pipeline(path, own=[Range])
    path.write_text(whole.replace('"version": 1', '"version": 7', 1))
    with pytest.raises(PrepareError, match="version 7, this is version 1"):
        load_pipeline(path, own=[Range])
    for text in (whole[:-9], "", "[]", '{"format": "other"}', "null", "\x80"):
        path.write_text(text)
        with pytest.raises(PrepareError, match="not a saved pipeline"):
            load_pipeline(path, own=[Range])


def test_a_step_that_is_not_whole() -> None:
    class Half(ColumnStep[Any]):
        def learn_column(self, name: str, values: Any) -> Any:
            return None

    with pytest.raises(TypeError, match=r"abstract method '?apply_column"):
        Half()  # type: ignore[abstract]


def test_a_state_is_plain_data() -> None:
    with pytest.raises(PrepareError, match="not plain data"):
        Pipeline([Bad()]).fit(np.arange(3))


@pytest.mark.skipif(sys.platform == "win32", reason="forks a process to kill it")
def test_a_kill_while_saving_leaves_the_old_file(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "p.json"
    save_pipeline(Pipeline([Standardise()]).fit(np.eye(3)), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: os._exit(9))
    other = Pipeline([Standardise()]).fit(np.ones((3, 3)))
    child = get_context("fork").Process(target=save_pipeline, args=(other, path))
    child.start()
    child.join()
    assert child.exitcode == 9 and path.read_bytes() == before

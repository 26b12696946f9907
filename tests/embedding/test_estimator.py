"""BertEmbedder is a transformer as scikit-learn understands the word: its own checks say so, where they can be put to texts."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import validate_data

import bertlab
from bertlab import BertEmbedder
from bertlab.embedding import estimator as estimators
from bertlab.embedding.engine import What, open_embedder
from bertlab.errors import ConfigError, DataError

TEXTS = ["the old river runs to the sea", "birds sing in spring", "a stone hill", "", "the river", "birds sing"]


class OfNumbers(BertEmbedder):
    """BertEmbedder for tables of numbers, which are all that scikit-learn's checks have: a row is the text of its numbers in words."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return super().fit(_in_words(validate_data(self, X, dtype="numeric")))

    def transform(self, X: Any) -> Any:
        return super().transform(_in_words(validate_data(self, X, dtype="numeric", reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        return tags


def _in_words(X: np.ndarray) -> list[str]:
    words = "the old river runs from a stone hill to sea and birds sing over"
    return [" ".join(words.split()["0123456789.-e+".index(each)] for value in row for each in f"{value:.2g}") for row in X.tolist()]


def test_scikit_learns_checks_pass_all_of_them(folder: str) -> None:
    names, failed = [], []
    for estimator, check in estimator_checks_generator(OfNumbers(folder, device="cpu"), legacy=True):
        names.append(check.func.__name__)
        try:
            check(estimator)
        except Exception as error:
            if type(error).__name__ not in ("SkipTest", "Skipped"):
                failed.append(f"{names[-1]}: {type(error).__name__}: {error}"[:300])
    assert failed == []
    assert len(names) > 40 and {"check_estimators_pickle", "check_transformer_general", "check_methods_subset_invariance"} <= set(names)


def test_its_tags_say_that_it_takes_texts_and_needs_no_fit() -> None:
    tags = get_tags(BertEmbedder("anywhere"))
    assert tags.input_tags.string and tags.input_tags.one_d_array and not tags.input_tags.two_d_array and not tags.requires_fit


def test_vectors_are_those_of_the_loaded_model_from_lists_arrays_and_columns(folder: str) -> None:
    expected = bertlab.load(folder, "cpu").embed(TEXTS)
    for texts in (TEXTS, tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object), pd.Series(TEXTS)):
        found = BertEmbedder(folder, device="cpu").transform(texts)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    other = BertEmbedder(folder, device="cpu", pooling="max", layers=[0, 1], normalize=True, dims=8).fit_transform(TEXTS)
    assert other.shape == (6, 8) and np.abs(other - expected[:, :8]).max() > 0.1
    embedder = open_embedder(folder, "cpu")
    wanted = embedder.vectors(embedder.encode(TEXTS), What(pooling="max", layers=(0, 1)))[:, :8]
    np.testing.assert_allclose(other, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)


def test_it_goes_through_pipeline_grid_search_and_clone_with_one_opened_model(folder: str) -> None:
    estimators._opened.cache_clear()
    texts, labels = TEXTS[:3] * 6 + TEXTS[4:] * 3, [0, 1, 2] * 6 + [0, 1] * 3
    pipeline = make_pipeline(BertEmbedder(folder, device="cpu"), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"bertembedder__pooling": ["mean", "max"], "logisticregression__C": [1.0, 100.0]}, cv=2)
    search.fit(texts, labels)
    assert search.best_score_ > 0.9 and search.predict(["birds sing"]).tolist() == [1]
    assert estimators._opened.cache_info().misses == 1
    assert clone(pipeline).get_params()["bertembedder__model"] == folder


def test_names_of_columns_and_tables_come_as_scikit_learn_has_them(folder: str) -> None:
    embedder = BertEmbedder(folder, device="cpu", dims=3).set_output(transform="pandas")
    table = embedder.fit_transform(pd.Series(TEXTS, index=list("abcdef")))
    assert list(table.columns) == ["bertembedder0", "bertembedder1", "bertembedder2"] == list(embedder.get_feature_names_out())
    assert list(table.index) == list("abcdef")
    both = make_column_transformer((BertEmbedder(folder, device="cpu"), "said"), ("passthrough", ["length"]))
    assert both.fit_transform(pd.DataFrame({"said": TEXTS, "length": range(6)})).shape == (6, 17)


def test_a_pickle_has_the_settings_and_no_weights_and_works_in_another_process(folder: str, tmp_path: Path) -> None:
    embedder = BertEmbedder(folder, device="cpu", pooling="max")
    expected = embedder.fit_transform(TEXTS)
    assert len(pickle.dumps(embedder)) < 1000
    buffer = io.BytesIO()
    joblib.dump(embedder, buffer)
    assert len(buffer.getvalue()) < 1000
    (tmp_path / "embedder.pickle").write_bytes(pickle.dumps(embedder))
    program = (
        "import pickle, sys, numpy; embedder = pickle.load(open(sys.argv[1], 'rb')); assert 'torch' not in sys.modules\n"
        "numpy.save(sys.argv[2], embedder.transform(sys.argv[3:]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "embedder.pickle"), str(tmp_path / "vectors.npy"), *TEXTS]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)


def test_settings_that_are_changed_and_a_folder_that_is_made_again_are_seen(folder: str, tmp_path: Path) -> None:
    import shutil

    place = tmp_path / "model"
    shutil.copytree(folder, place)
    (place / "manifest.json").unlink()  # a published folder has none, and so may be changed
    (place / "bertlab.json").unlink()
    embedder = BertEmbedder(str(place), device="cpu")
    before = embedder.transform(TEXTS)
    assert np.abs(embedder.set_params(pooling="max").transform(TEXTS) - before).max() > 0.1
    from safetensors.numpy import load_file, save_file

    weights = load_file(place / "model.safetensors")
    save_file({name: value * 0.5 for name, value in weights.items()}, place / "model.safetensors")
    os.utime(place / "model.safetensors", ns=(1, 1))
    assert np.abs(embedder.set_params(pooling=None).transform(TEXTS) - before).max() > 0.1
    (place / "1_Pooling").mkdir(exist_ok=True)
    cls = embedder.set_params(pooling="cls").transform(TEXTS)
    (place / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert np.array_equal(embedder.set_params(pooling=None).transform(TEXTS), cls)


def test_texts_that_come_once_and_a_path_are_taken(folder: str) -> None:
    expected = BertEmbedder(folder, device="cpu").fit_transform(TEXTS)
    np.testing.assert_array_equal(BertEmbedder(Path(folder), device="cpu").fit_transform(text for text in TEXTS), expected)
    strange: Any
    for strange in (None, b"model", 3):
        with pytest.raises(ConfigError, match="names no model folder: give its path, or hf:NAME"):
            BertEmbedder(strange, device="cpu").transform(TEXTS)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"precision": "fp99"}, "precision wants one of 'auto', 'fp32', 'bf16', not 'fp99'"),
        ({"device": "gpu"}, "device=gpu: give cpu or cuda"),
    ]
    for setting, words in wrong:
        with pytest.raises(ConfigError, match=words):
            BertEmbedder(folder, **setting).transform(TEXTS)


def test_what_is_no_list_of_texts_is_refused_by_its_place(folder: str) -> None:
    embedder = BertEmbedder(folder, device="cpu")
    wrong: list[tuple[Any, str]] = [
        ("one text", r"one text was given where a list of texts is wanted: write \[text\]"),
        (np.array([["a"], ["b"]]), "a column of a table"),
        (pd.DataFrame({"said": TEXTS}), "a column of a table"),
        (["a", None], "text 1 of the texts is NoneType"),
        ([b"a"], "text 0 of the texts is bytes"),
    ]
    for texts, words in wrong:
        with pytest.raises(DataError, match=words):
            embedder.fit(texts)
        with pytest.raises(DataError, match=words):
            embedder.transform(texts)
    odd: list[tuple[dict[str, Any], str]] = [
        ({"pooling": "sum"}, "pooling wants one of 'cls', 'mean', .* not 'sum'"),
        ({"dims": 99}, "dims=99"),
        ({"dims": "many"}, "dims wants a whole number, or to be left out, not 'many'"),
        ({"dims": 4.0}, "dims wants a whole number, or to be left out, not 4.0"),
        ({"dims": True}, "dims wants a whole number, or to be left out, not True"),
        ({"layers": ["top"]}, "layers wants a list of whole numbers, not \\['top'\\]"),
        ({"layers": (9,)}, "layer 9: this model has 0"),
        ({"normalize": "perhaps"}, "normalize wants true or false, or to be left out, not 'perhaps'"),
        ({"precision": "half"}, "precision wants one of"),
    ]
    for settings, words in odd:  # already when it is fitted
        with pytest.raises(ConfigError, match=words):
            BertEmbedder(folder, **settings).fit(TEXTS)
    strings: Any = np.array(["mean", "cls"])
    numpys = BertEmbedder(folder, pooling=strings[0], normalize=strings[0] == "mean", device="cpu")
    assert numpys.fit_transform(TEXTS).shape[0] == len(TEXTS)

    class Named(BertEmbedder):
        """With an option of its own."""

        def __init__(self, model: str, *, name: str = "", device: str | None = None) -> None:
            super().__init__(model, device=device)
            self.name = name

    assert Named(folder, name="a", device="cpu").fit_transform(TEXTS).shape[0] == len(TEXTS)
    alike: list[Any] = [1, np.array([1])]
    one, several = (BertEmbedder(folder, layers=layers, device="cpu").transform(TEXTS) for layers in alike)
    np.testing.assert_array_equal(one, several)
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        BertEmbedder("nowhere").fit(TEXTS)


def test_importing_bertlab_imports_neither_scikit_learn_nor_torch() -> None:
    program = (
        "import sys, bertlab; assert not {'sklearn', 'torch'} & set(sys.modules); bertlab.BertEmbedder; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    with pytest.raises(AttributeError, match="no attribute 'BertEmbeder'"):
        _ = bertlab.BertEmbeder

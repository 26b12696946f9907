"""What a run never does (S1, S7): ask the network, read or write pickle, run what a file says. The whole walk, in a watched process."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bertlab

PACKAGE = sorted(Path(bertlab.__file__).parent.rglob("*.py"))


def test_the_watch_sees_every_breach(self_test: str) -> None:
    assert self_test == "4\n"


def test_the_whole_walk_asks_no_network_and_reads_and_writes_no_pickle(walk: Any) -> None:
    assert walk.code == 0 and "kept" in walk.said, walk.said[-3000:]
    assert "from step 1" in walk.said, "the second pretraining did not go on from a checkpoint"
    assert (walk.root / "vectors.parquet").is_file() and (walk.root / "step.json").is_file()


def test_the_walk_needs_no_network_to_be_there(walk: Any) -> None:
    if not walk.without_network:
        pytest.skip("unshare -n is not permitted here: the walk was watched, but not cut off from the network")
    assert walk.code == 0, walk.said[-3000:]


def test_no_file_of_the_walk_is_a_pickle_or_an_archive_that_holds_one(walk: Any) -> None:
    files = [path for path in walk.root.rglob("*") if path.is_file()]
    assert len(files) > 60
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib"), path
        start = path.read_bytes()[:2]
        assert not (start[:1] == b"\x80" and start[1:] in b"\x01\x02\x03\x04\x05") and start != b"PK", path


# --- what stands in the source ------------------------------------------------------------------------------------------------------------

CALLED = {
    *("eval", "exec", "__import__", "os.system", "os.popen", "tempfile.mktemp"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
    *("torch.load", "torch.save", "pandas.read_pickle", "pd.read_pickle", "shutil.unpack_archive", "tarfile.open"),
}
METHODS = {"extractall", "extract", "read_pickle", "to_pickle", "to_csv"}  # an archive is never unpacked by its own names; see S12 of CSV
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle", "tarfile"}


def forbidden(source: str) -> Iterator[str]:
    """Every use of what would run, unpack or fetch by a stranger's word. `extract` is fine as a name of anything but a method."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLED or (isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
                yield name
            for given in node.keywords:
                if given.arg in ("trust_remote_code", "allow_pickle", "shell") and ast.unparse(given.value) != "False":
                    yield f"{name}({given.arg})"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(Path(bertlab.__file__).parent)))
def test_no_file_of_the_package_uses_what_runs_a_strangers_words(path: Path) -> None:
    assert list(forbidden(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        *(f"{name}(x)" for name in sorted(CALLED)),
        *(f"a.{name}(x)" for name in sorted(METHODS)),
        *(f"import {name}" for name in sorted(MODULES)),
        "from pickle import loads",
        "import joblib.memory",
        "np.load(x, allow_pickle=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=trust)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_each_such_use_is_seen(source: str) -> None:
    assert len(list(forbidden(source))) == 1

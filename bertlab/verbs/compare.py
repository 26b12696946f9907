"""bertlab compare: predictions files of two or more systems -> differences, intervals and p-values, in plain words.

    bertlab compare A B [C ...] [--metrics accuracy macro_f1] [--json FILE]

Needs no model and no GPU. A system is a predictions.parquet, a folder that holds one, or several of them, one a seed: a folder of
`*.parquet` files, or NAME:FILE,FILE,... Two systems of one file each are compared as trained models (McNemar's test, approximate
randomisation), systems of several as methods (two-level bootstrap). All must be of the same examples: by id, text and gold label.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError
from bertlab.schema import POSITIONAL

if TYPE_CHECKING:
    from bertlab.evaluation.alignment import Aligned

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class Config(Dialect):
    runs: tuple[str, ...] = field(metadata=POSITIONAL)
    """Two or more systems: a predictions.parquet, a folder with one, a folder with one *.parquet a seed, or NAME:FILE,FILE,..."""
    metrics: tuple[str, ...] | None = None
    """accuracy, macro_f1, micro_f1, weighted_f1, mcc, macro_ or weighted_ precision or recall, f1:CLASS, or per_class for all of these; for
    sets of labels exact_match, macro_mcc, hamming_loss and the same averages; for numbers spearman, pearson, mae, rmse, r2; for queries
    recall@1 @5 @10, mrr@10, ndcg@10; for groups of texts v_measure, homogeneity, completeness. Default: the usual two or three."""
    against_first: bool = False
    """Compare the first system with each of the others, instead of all with all: fewer comparisons to correct for."""
    correction: Literal["holm", "benjamini-hochberg", "none"] = "holm"
    """For many comparisons: holm limits the chance of any false claim, benjamini-hochberg the share of false ones."""
    resamples: int = 10_000
    """R, of every bootstrap and randomisation."""
    seed: int = 0
    """Of the resampling."""
    level: float = 0.95
    """Of the intervals; a difference counts as found where p, corrected, is at most 1 - level."""
    cluster: str | None = None
    """A further column of the predictions files, or of `data`, that says which document or user a row is from: these are then resampled
    whole."""
    data: str | None = None
    """The labelled file that was evaluated, where it has the column of --cluster and the predictions files do not: found by id."""
    id: str = "id"
    """Column of the id in `data`; without one it is FILE:LINE."""
    json: str | None = None
    """Also write all facts as JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.runs) < 2:
            raise ConfigError(f"runs={', '.join(self.runs)}: name two systems or more")
        if self.metrics == ():
            raise ConfigError("metrics is empty: name one or more, such as accuracy macro_f1")
        if not 100 <= self.resamples <= 10_000_000:
            raise ConfigError(f"resamples={self.resamples}: give a number from 100 to 10,000,000")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: give a number from 0 to 2,147,483,647")
        if self.data is not None and self.cluster is None:
            raise ConfigError("data is for the column that says which rows belong together: name it (--cluster COLUMN), or leave data out")
        if not 0.5 <= self.level < 1:
            raise ConfigError(f"level={self.level}: give a share from 0.5 to below 1, such as 0.95")


@dataclass(frozen=True)
class System:
    """A name, its predictions files (one a seed), and their rows in `Aligned.predicted`."""

    name: str
    files: list[Path]
    rows: list[int]


def run(config: Config) -> dict[str, Any]:
    """Compare, print, write JSON where asked for, and return the facts.

    Raises ConfigError (files, names, metrics), DataError (others' examples or classes), CorruptError.
    """
    from bertlab.disk import refuse_others, write_json
    from bertlab.evaluation.alignment import align, clusters_by_id, in_clusters, read_predictions
    from bertlab.pages.comparison import screen

    if config.json:
        refuse_others(Path(config.json), ".json", '"comparisons"', '"systems"')
    systems = systems_of(config.runs)
    files = [read_predictions(file, None if config.data else config.cluster) for system in systems for file in system.files]
    if config.data is not None and config.cluster is not None:
        files[0] = in_clusters(
            files[0],
            clusters_by_id(_evaluated(config.data, systems[0].files[0]), config.cluster, config.id, config.dialect),
            Path(config.data),
        )
    facts = compare(config, systems, align(files))
    print(screen(facts))
    if config.json:
        write_json(Path(config.json), facts)
    return facts


# --- which systems ----------------------------------------------------------------------------------------------------------------------


def systems_of(runs: tuple[str, ...]) -> list[System]:
    """The systems that `runs` names. Raises ConfigError for what is not there and for two systems of one name."""
    found: list[System] = []
    for text in runs:
        name, files = _named(text)
        first = found[-1].rows[-1] + 1 if found else 0
        if name in {system.name for system in found}:
            raise ConfigError(f"two systems are called {name!r}: name one of them, as in other:{text.rpartition(':')[2]}")
        found.append(System(name, files, list(range(first, first + len(files)))))
    return found


def _named(text: str) -> tuple[str, list[Path]]:
    if Path(text).exists():  # whatever its name holds
        return _name_of(Path(text)), _files_in(Path(text))
    name, colon, rest = text.partition(":")
    parts = [Path(part) for part in (rest if colon else text).split(",") if part]
    files = [file for part in parts for file in _files_in(part)]
    if not files or (colon and not name):
        raise ConfigError(f"runs: {text!r} names no file: give a predictions file, a folder with one, or NAME:FILE,FILE,...")
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice:
        raise ConfigError(f"runs: {text!r} names {twice} twice: each seed has a file of its own")
    return (name if colon else _name_of(parts[0])), files


def _name_of(path: Path) -> str:
    """RUN for RUN, RUN/predictions.parquet and RUN/predictions, else the file's own name without its ending."""
    path = path.resolve()
    if path.name in (PREDICTIONS, "predictions"):
        return path.parent.name
    return path.name if path.is_dir() else path.stem


def _files_in(path: Path) -> list[Path]:
    """The file itself, a folder's predictions.parquet, or all of a folder's Parquet files in the order of their names."""
    if not path.is_dir():
        if not path.exists():
            raise ConfigError(f"{path} does not exist: give a predictions file, a folder with one, or NAME:FILE,FILE,...")
        return [path]
    if (path / PREDICTIONS).is_file():
        return [path / PREDICTIONS]
    files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith("."))
    if not files:
        raise ConfigError(
            f"{path} holds no {PREDICTIONS}: give the --out of an evaluation or the run folder of a fine-tuning with a test file"
        )
    return files


def _evaluated(data: str, predictions: Path) -> Path:
    """The labelled file. Raises DataError where what made the predictions says that it read another."""
    from bertlab.disk import sha256_file
    from bertlab.errors import DataError
    from bertlab.training.runlog import data_behind

    known = data_behind(predictions)
    if known and Path(data).is_file() and sha256_file(Path(data)) not in known:
        raise DataError(f"{data} is not the file that {predictions} was made from (its sha256 differs): give that one")
    return Path(data)


# --- the comparison ---------------------------------------------------------------------------------------------------------------------


def metrics_of(asked: tuple[str, ...] | None, aligned: "Aligned") -> dict[str, Any]:
    """The metrics asked for, by name. Raises ConfigError for one that is not known."""
    from bertlab.evaluation.comparable import USUAL, known_metrics
    from bertlab.schema import suggestion

    known = known_metrics(aligned)
    of_class = {name: metric for name, metric in known.items() if name.startswith("f1:")}
    found: dict[str, Any] = {}
    for given in asked or USUAL[aligned.task]:
        name = given if given in known else given.lower()
        if name == "per_class" and of_class:
            found |= of_class
        elif name in known:
            found[name] = known[name]
        else:
            classes = ["per_class", "f1:CLASS"] if of_class else []
            all_known = ", ".join([*(name for name in known if name not in of_class), *classes])
            near = suggestion(name, [*known, "per_class"]) or f": known are {all_known}"
            raise ConfigError(f"metrics: unknown metric {given!r}{near}")
    return found


def compare(config: Config, systems: list[System], aligned: "Aligned") -> dict[str, Any]:
    """All facts of the comparison: what the screen shows and the JSON holds."""
    import bertlab
    from bertlab.disk import sha256_file
    from bertlab.evaluation.comparable import classes_never_seen
    from bertlab.evaluation.significance import benjamini_hochberg, holm

    metrics = metrics_of(config.metrics, aligned)
    if aligned.task == "clustering" and any(len(system.files) > 1 for system in systems):
        raise ConfigError("runs: groupings are compared one with one, not over several files: name one file a system")
    pairs = [(a, b) for place, a in enumerate(systems) for b in systems[place + 1 :] if not config.against_first or place == 0]
    compared = [_pair(config, a, b, aligned, metrics) for a, b in pairs]
    results = [result for pair in compared for result in pair["metrics"]]
    p_values = [result["p"] for result in results]
    corrected_by = {"holm": holm(p_values), "benjamini-hochberg": benjamini_hochberg(p_values), "none": p_values}
    for result, corrected in zip(results, corrected_by[config.correction], strict=True):
        result["p_corrected"] = corrected
    return {
        "bertlab": bertlab.__version__,
        "n": len(aligned.gold),
        "task": aligned.task,
        "clusters": None if aligned.clusters is None else {"column": config.cluster, "number": int(aligned.clusters.max()) + 1},
        "classes": aligned.names,
        "R": config.resamples,
        "seed": config.seed,
        "level": config.level,
        "correction": config.correction,
        "comparisons": len(results),
        "systems": [
            {
                "name": system.name,
                "files": [{"name": "/".join(file.parts[-2:]), "sha256": sha256_file(file)} for file in system.files],
                "scores": _scores(config, system, aligned, metrics),
                "classes_never_seen": classes_never_seen(aligned, system.rows),
            }
            for system in systems
        ],
        "pairs": compared,
    }


def _scores(config: Config, system: System, aligned: "Aligned", metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each metric's value with its interval, or over several seeds mean and standard deviation."""
    from bertlab.evaluation.comparable import PROPORTIONS, is_right, sample_of
    from bertlab.evaluation.intervals import of_units, wilson
    from bertlab.evaluation.metrics import mean_and_deviation

    if aligned.task == "clustering":
        return _scores_of_groups(config, aligned, system.rows[0], metrics)
    units, wanted = sample_of(aligned, system.rows), list(metrics.values())
    of_seeds = [units.observed_scores(seed, wanted) for seed in range(len(system.rows))]
    spread = [mean_and_deviation([float(values[number]) for values in of_seeds]) for number in range(len(metrics))]
    if len(system.rows) > 1:
        return {name: {"value": both["mean"], "sd": both["sd"], "interval": None} for name, both in zip(metrics, spread, strict=True)}
    found = of_units(units, wanted, seed=config.seed, resamples=config.resamples, level=config.level)
    if aligned.clusters is None and (proportions := [name for name in metrics if name in PROPORTIONS.get(aligned.task, ())]):
        right = is_right(aligned, system.rows[0])
        exact = wilson(int(right.sum()), len(right), config.level)
        found = [exact if name in proportions else interval for name, interval in zip(metrics, found, strict=True)]
    rows = zip(metrics, spread, found, strict=True)
    return {name: {"value": both["mean"], "sd": None, "interval": interval} for name, both, interval in rows}


def _scores_of_groups(config: Config, aligned: "Aligned", row: int, metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from bertlab.evaluation.clusters import cluster_intervals, cluster_scores

    groups = aligned.predicted[row]
    values = cluster_scores(aligned.gold, groups)
    intervals = cluster_intervals(aligned.gold, groups, level=config.level, clusters=aligned.clusters)
    return {name: {"value": values[name], "sd": None, "interval": intervals[name]} for name in metrics}


def _pair(config: Config, a: System, b: System, aligned: "Aligned", metrics: dict[str, Any]) -> dict[str, Any]:
    """Two systems: `metrics` has for each its difference, interval, p and test, and what the test set could have shown; `settings` what
    differs between the settings of their runs, None where these are not known."""
    from bertlab.evaluation.comparable import compared_models

    rows = a.rows + b.rows
    facts: dict[str, Any] = {"a": a.name, "b": b.name, "seeds": [len(a.rows), len(b.rows)], "settings": _settings(a, b)}
    if len(rows) > 2:
        results = _of_methods(config, aligned, rows, len(a.rows), metrics)
    else:
        differs = aligned.predicted[rows[0]] != aligned.predicted[rows[1]]
        facts["different_answers"] = int(differs.reshape(len(differs), -1).any(1).sum())
        if aligned.task == "clustering":
            results = _of_groups(config, aligned, rows, metrics)
        else:
            results = compared_models(aligned, rows, metrics, resamples=config.resamples, seed=config.seed, level=config.level)
    return facts | {"claim_about": "methods" if len(rows) > 2 else "models", "metrics": results}


def _settings(a: System, b: System) -> dict[str, list[Any]] | None:
    from bertlab.training.runlog import differing, settings_behind

    of_a, of_b = ([settings_behind(file) for file in system.files] for system in (a, b))
    first, second = of_a[0], of_b[0]
    if first is None or second is None or of_a != [first] * len(of_a) or of_b != [second] * len(of_b):
        return None
    return differing(first, second)


def _of_groups(config: Config, aligned: "Aligned", rows: list[int], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    from bertlab.evaluation import power
    from bertlab.evaluation.clusters import cluster_differences

    groups, alpha, n, results = aligned.predicted[rows], 1 - config.level, len(aligned.gold), []
    every = cluster_differences(aligned.gold, groups[0], groups[1], level=config.level, clusters=aligned.clusters)
    for name in metrics:
        error, difference = every[name]["standard_error"], every[name]["difference"]
        least, needed = power.smallest_difference_by_error(error, alpha), power.examples_needed_by_error(n, error, difference, alpha)
        could_show = {"power": power.POWER, "smallest_difference": least, "examples_needed": needed}
        results.append({"metric": name, "lower_is_better": False} | every[name] | {"test": "jackknife", "power": could_show})
    return results


def _of_methods(config: Config, aligned: "Aligned", rows: list[int], seeds_of_a: int, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    from bertlab.evaluation import power
    from bertlab.evaluation.comparable import lower_is_better, sample_of
    from bertlab.evaluation.significance import two_level_bootstrap

    results = []
    units = sample_of(aligned, rows)
    every = two_level_bootstrap(units, seeds_of_a, list(metrics.values()), config.resamples, config.seed, config.level)
    for name, found in zip(metrics, every, strict=True):
        values = {"a": float(np.mean(found["seed_scores_a"])), "b": float(np.mean(found["seed_scores_b"]))}
        freedom = found["degrees_of_freedom"]
        least = power.smallest_difference_by_error(found["standard_error"], 1 - config.level, degrees_of_freedom=freedom)
        could_show = {"power": power.POWER, "smallest_difference": least, "examples_needed": None}  # more seeds might do as well
        which = {"metric": name, "lower_is_better": lower_is_better(name)}
        results.append(which | values | found | {"p": found["p_two_level"], "test": "two-level bootstrap", "power": could_show})
    return results

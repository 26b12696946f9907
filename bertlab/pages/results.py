"""What a fine-tuning says and leaves of one task: its opening lines, metrics.json, the predictions of every seed, mistakes and pictures of
the best one, and its model folder with its facts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bertlab
from bertlab.corpus.labels import alike_names, joined_names
from bertlab.disk import sha256_file, write_json
from bertlab.evaluation.metrics import mean_and_deviation
from bertlab.model.folder import save_model
from bertlab.pages.card import classifier_card
from bertlab.pages.evaluation import MISTAKES, SHOWN, baseline_lines, conflict_lines, probability_lines, seen_lines, write_mistakes
from bertlab.pages.figures import figures_in, write_figures
from bertlab.pages.screen import absent_lines, counted, inert, metric_words, no_label_lines
from bertlab.tasks import measures
from bertlab.tasks.choosing import TASKS
from bertlab.tasks.contract import Task, calibrated_of
from bertlab.tasks.data import Data, labels_of, what_was_cut
from bertlab.tasks.reading import OF_MODEL, unread_columns
from bertlab.tasks.recipe import Recipe, rate_of
from bertlab.tasks.seeds import Trained
from bertlab.tasks.shots import Shots
from bertlab.tasks.start import Start
from bertlab.training.runlog import run_files

COPIES = 0.05  # a share of train's texts that are others' copies which is told: a few are in every collection
FEW, NAMED = 5, 5  # classes with fewer training examples than this are told, and so many of them by name


def opening(data: Data, reason: str, leaks: Mapping[str, Any], *, few: bool = False) -> list[str]:
    """What is said before training: the task and why, the splits, what is cut, where little can be learnt, and what flatters the scores.
    `few`: few examples of each class are what was asked for."""
    lines = [f"task  {data.task.name} ({reason})"]
    for split, encoded in data.encoded.items():
        cut = "".join(f", {count:,} {name}" for name, count in what_was_cut(encoded).items())
        lines.append(f"{split:5} {len(data.splits[split]):,} examples of {data.of}, {encoded.lengths.mean():.0f} tokens on average{cut}")
    if "test" not in data.splits:
        lines.append("test  none: what dev says will flatter, for epoch and seed are chosen by it")
    lines += [*unread_lines(data), *alike_lines(data.labels.names), *joined_lines(data), *wordless_lines(data), *copies_lines(data)]
    lines += [] if few else rare_lines(data)
    lines += [line for split, found in leaks.items() for line in seen_lines(found, split)]
    return [*lines, *conflict_lines(measures.conflicts_of(data), list(data.splits))]


def unread_lines(data: Data) -> list[str]:
    """In a line which columns of train nothing is read from, if there are any: one may be a pair's second text."""
    unread = unread_columns(data.files["train"], data.columns) if data.are_pairs is not None else []
    if not unread:
        return []
    named = ", ".join(map(inert, unread[:NAMED])) + f" and {len(unread) - NAMED} others" * (len(unread) > NAMED)
    return [f"note: not read of {Path(data.files['train']).name}: {'column' if len(unread) == 1 else 'columns'} {named}"]


def alike_lines(names: Sequence[str]) -> list[str]:
    """In a line which labels are written in several ways, if any are."""
    alike = alike_names(names)
    if not alike:
        return []
    named = ", ".join(" / ".join(map(inert, ways)) for ways in alike[:NAMED]) + " and others" * (len(alike) > NAMED)
    is_written = "label is" if len(alike) == 1 else "labels are"
    ways = f"{len(alike):,} {is_written} written in ways that differ only in case, spaces or Unicode form ({named})"
    return [f"warning: {ways}, and each way is learnt as a label of its own: write them alike"]


def joined_lines(data: Data) -> list[str]:
    """In a line which mark seems to stand between several labels of a text, where one a text is learnt or another mark parts them."""
    found = joined_names(data.labels.names) if data.task.name in ("single-label", "multi-label") else None
    if found is None:
        return []
    mark, joined = found
    several = f"{len(joined):,} labels, as {inert(repr(joined[0]))}, are names of other labels with {mark!r} between"
    return [f"note: {several}: if a text may have several, give --label-separator '{mark}', and each is learnt as one"]


def wordless_lines(data: Data) -> list[str]:
    """In a line a split how many texts are empty, if any are."""
    lines = []
    for split, rows in data.splits.items():
        if ids := measures.without_words(rows):
            named = ", ".join(map(inert, ids[:SHOWN])) + " and others" * (len(ids) > SHOWN)
            has = "has" if len(ids) == 1 else "have"
            lines.append(f"warning: {len(ids):,} of {len(rows):,} {split} texts {has} no word ({named}): take them out, or put text in")
    return lines


def copies_lines(data: Data) -> list[str]:
    """In a line how many of train's texts stand there before, if they are many."""
    train = data.splits["train"]
    copies = len(train) - len(set(train.text_hashes()))
    if copies < COPIES * len(train):
        return []
    return [
        f"note: {copies:,} of {len(train):,} train texts ({copies / len(train):.0%}) are copies of others: what is said twice counts twice"
    ]


def rare_lines(data: Data) -> list[str]:
    """In a line which classes train has few examples of, the rarest first, if there are such."""
    rare = measures.rare_classes(data, FEW)
    if not rare:
        return []
    kind = {True: ("class has", "classes have"), False: ("label has", "labels have")}[bool(data.task.exclusive)][len(rare) > 1]
    named = ", ".join(f"{inert(name)} {count}" for name, count in list(rare.items())[:NAMED])
    others = f" and {len(rare) - NAMED} others" if len(rare) > NAMED else ""
    return [f"warning: {len(rare):,} {kind} fewer than {FEW} training examples: {named}{others}"]


def start_line(start: Start) -> str:
    """What is started from."""
    head = (start.published.get("architectures") or [""])[0]
    if start.from_random:
        return f"start {start.name}, its size alone: weights are random"
    if head not in {task.head.__name__ for task in TASKS.values()}:
        return f"start {start.name}"
    return f"start {start.name}, fine-tuned before ({head}): its encoder is kept, the head is a fresh one"


def training_line(recipe: Recipe, epochs: int, because: str, hidden_size: int) -> str:
    """How long and at what rate is trained, and why."""
    rate, why = rate_of(recipe, hidden_size)
    stops = "" if recipe.early_stopping is None else f", stopped after {recipe.early_stopping} without a better score on dev"
    return f"epochs {epochs} ({because}){stops}, learning rate {rate:g} ({why})"


def shots_lines(few: Shots) -> list[str]:
    """How little is learnt from, and of sets of labels how many texts that became."""
    shots, of = few.of_each_class, "class" if few.drawn.task.exclusive else "label"
    lines = [
        f"shots  {shots} of each {of} to learn from, drawn by each seed, and {shots} others of each to choose by, the same for all seeds: "
        "the rows are named in metrics.json, and nothing else of train is used"
    ]
    if few.drawn.task.exclusive:
        return lines
    trains = few.as_json()["of_labels"]["train"].values()
    sizes = [len(data.splits["train"]) for data in few.of_seed.values()]
    most = {name: max(train[name] for train in trains) for name in few.drawn.labels.names}
    more = sorted((name for name in most if most[name] > shots), key=lambda name: -most[name])
    which = ", ".join(f"{inert(name)} up to {most[name]:,}" for name in more[:3]) + " and others" * (len(more) > 3)
    size = f"{min(sizes):,} to {max(sizes):,}" if min(sizes) < max(sizes) else f"{sizes[0]:,}"
    return [*lines, f"       that makes {size} texts a seed; texts have several labels, so some come more often: {which or 'none here'}"]


def write_results(folder: Path, trained: Trained, *, baselines: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    """Write metrics.json with what is `known` already and what dev taught of probabilities, the predictions of every seed and of the
    strongest baseline, and the best seed's pictures; returns the metrics."""
    data, states, best, test_outputs = trained.data, trained.states, trained.best, trained.test_outputs
    task = data.task
    learnt = measures.learnt_on_dev(task, data.gold["dev"], trained.dev_outputs, data.labels)
    labels = measures.with_temperature(labels_of(data, best), learnt)
    metrics: dict[str, Any] = {"task": task.name, "labels": labels.names, **known, measures.LEARNT: learnt}
    floor = task.score(task.constant(data.gold["train"], data.gold["dev"], labels))
    for state in states:
        state["failed"] = task.score(state["dev"]) <= floor
    metrics |= {"best_seed": best["seed"], "dev": best["dev"], "dev_floor": floor, "seeds": states}
    metrics["examples"] = {split: len(rows) for split, rows in data.splits.items()}
    metrics["cut"] = {split: what_was_cut(encoded) for split, encoded in data.encoded.items()}
    metrics["truncated"] = {split: encoded.num_truncated for split, encoded in data.encoded.items()}
    if test_outputs:
        train, test, gold, outputs = data.splits["train"], data.splits["test"], data.gold["test"], test_outputs[best["seed"]]
        metrics["test"] = best["test"]
        metrics["test_intervals"] = task.intervals(gold, outputs, labels)
        of_seeds = [task.headlines(state["test"]) for state in states]
        metrics["over_seeds"] = {name: mean_and_deviation([each[name] for each in of_seeds]) for name in task.scores}
        answered = task.baselines(train, data.gold["train"], test, labels) if baselines else {}
        metrics["baselines"] = {name: task.metrics(gold, its, labels) for name, its in answered.items()}
        metrics["test_probabilities"] = measures.of_probabilities(task, gold, outputs, labels, learnt)
        metrics |= measures.suspects_of(task, test, gold, outputs, labels)[1]
        write_mistakes(folder, measures.mistakes_of(task, test, gold, outputs, labels))
        if task.exclusive is not None:
            truth, calibrated = measures.is_gold(task, gold, labels), calibrated_of(outputs, labels, exclusive=task.exclusive)
            write_figures(folder, truth, outputs, labels.names, exclusive=task.exclusive, calibrated=calibrated)
        task.write(folder / "predictions.parquet", test, gold, outputs, labels)
        for state in states:  # what `bertlab compare` makes claims about methods from
            path = folder / "predictions" / f"seed-{state['seed']}.parquet"
            task.write(path, test, gold, test_outputs[state["seed"]], labels_of(data, state))
        metrics |= measures.against_baseline(folder, task, test, gold, answered, labels)[0]
    write_json(folder / "metrics.json", metrics)
    return metrics


def failed_lines(task: Task, metrics: Mapping[str, Any]) -> list[str]:
    """Which seeds learnt nothing, if any. They stay in all means over seeds: without them these would flatter (Mosbach et al. 2021)."""
    failed = [str(state["seed"]) for state in metrics["seeds"] if state["failed"]]
    if not failed:
        return []
    which = f"{len(failed)} of {counted(len(metrics['seeds']), 'seed')} ({', '.join(failed)})"
    score = f"{metric_words(next(iter(task.scores)))} {metrics['dev_floor']:.3f} on dev"
    return [f"failed     {which}: no better than one answer for all ({score})"]


def result_files(folder: Path, metrics: dict[str, Any]) -> list[str]:
    """The files of `write_results` by name: what a model folder binds."""
    by_seed = [f"predictions/seed-{state['seed']}.parquet" for state in metrics["seeds"]]
    of_baseline = [metrics[measures.AGAINST]["file"]] if measures.AGAINST in metrics else []
    of_test = ["predictions.parquet", *by_seed, *of_baseline, MISTAKES, *figures_in(folder)] if "test" in metrics else []
    return ["metrics.json", *of_test]


def facts_of(
    data: Data, metrics: dict[str, Any], *, started_from: str, text_read: Sequence[Mapping[str, str]], tokenizer_sha256: str
) -> dict[str, Any]:
    """bertlab.json of the best seed's model."""
    (best,) = (state for state in metrics["seeds"] if state["seed"] == metrics["best_seed"])
    leaks = (metrics.get("leakage") or {}).get("test")
    return {
        "bertlab": bertlab.__version__,
        "kind": "classifier",
        "task": data.task.name,
        "started_from": started_from,
        "text_read": list(text_read),
        "data": {split: {"name": Path(file).name, "sha256": sha256_file(Path(file))} for split, file in data.files.items()},
        OF_MODEL: data.columns.named(),
        "train_examples": metrics["examples"]["train"],
        "tokenizer_sha256": tokenizer_sha256,
        "max_length": data.max_length,
        "long": data.long,
        "tuned": best["tuned"],
        "pooler_trained": True,
        "pairs": data.are_pairs,
        "seeds": len(metrics["seeds"]),
        "best_seed": metrics["best_seed"],
        "dev": metrics["dev"],
        "test": metrics.get("test"),
        "baselines": {name: data.task.score(scores) for name, scores in metrics.get("baselines", {}).items()},
        "leakage": {name: leaks[name] for name in ("rows", "equal", "near") if leaks},
        measures.LEARNT: metrics[measures.LEARNT],
    }


def save_best(
    folder: Path,
    trained: Trained,
    start: Start,
    metrics: dict[str, Any],
    run: Path,
    *,
    further: Mapping[str, Any] = {},
    files: Sequence[str] = (),
) -> None:
    """`folder`/model: the best seed's model with `further` facts, bound to the settings of the `run` that `folder` is, or is of, to what
    `write_results` left in `folder`, and to `files` there."""
    data, model = trained.data, trained.model.cpu()
    data.task.settle(model, data.labels)
    origin: dict[str, Any] = {"started_from": start.origin, "text_read": start.text_read}
    facts = facts_of(data, metrics, **origin, tokenizer_sha256=start.tokenizer.sha256) | dict(further)
    results = [(folder / file).relative_to(run).as_posix() for file in (*result_files(folder, metrics), *files)]
    save_model(
        folder / "model",
        model,
        start.tokenizer,
        facts=facts,
        card=classifier_card(facts, data.labels.names),
        labels=data.labels.names,
        problem_type=data.task.problem_type,
        max_length=data.max_length,
        run=run_files(run, *results),
    )


def headline_words(task: Task, metrics: Mapping[str, Any]) -> str:
    """The headline numbers on a line: "macro-F1 0.812, accuracy 0.840"."""
    return ", ".join(f"{metric_words(name)} {value:.3f}" for name, value in task.headlines(dict(metrics)).items())


def lines_of_test(task: Task, metrics: Mapping[str, Any]) -> list[str]:
    """The scores on test of metrics.json, over seeds, of probabilities, and without a BERT; nothing where there is no test file."""
    if "test" not in metrics:
        return []
    first = next(iter(task.scores))
    spread = metrics["over_seeds"][first]
    which = "of one seed: how far others differ is not known" if spread["sd"] is None else "the seed chosen on dev"
    over_seeds = f"{metric_words(first)} over seeds {spread['mean']:.3f}"
    return [
        f"test       {headline_words(task, metrics['test'])} ({which})",
        *(f"           {line}" for line in no_label_lines(metrics["test"])),
        *(f"           {line}" for line in absent_lines(metrics["test"].get("per_class", {}))),
        *([] if spread["sd"] is None else [f"           {over_seeds} (sd {spread['sd']:.3f})"]),
        *(f"           {line}" for line in baseline_lines(task, metrics["baselines"])),
        *verdict_lines(metrics),
        *(f"           {line}" for line in probability_lines(metrics["test"] | metrics["test_probabilities"])),
    ]


def verdict_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Whether the model is better than the strongest baseline, and how sure that is (tasks/measures.py); nothing without one."""
    found = metrics.get(measures.AGAINST)
    if found is None:
        return []
    seeds, name, interval = len(metrics.get("seeds", ())), inert(found["baseline"]), found["interval"]
    kept = f" (seed {metrics['best_seed']}, the best of {seeds} on dev)" if seeds > 1 else ""
    between = "no interval" if interval["low"] is None else f"{100 * found['level']:g} % {interval['low']:+.3f} to {interval['high']:+.3f}"
    metric = metric_words(found["metric"])
    says = {"model": f"better than {name}", "baseline": f"worse than {name}", None: f"not shown to be better or worse than {name}"}
    return [
        f"verdict    {says[found['better']]} on these {found['n']:,} examples: {metric} {found['a']:.3f}{kept} against {found['b']:.3f}",
        f"           difference {found['difference']:+.3f} ({between}), p = {found['p']:.2g} ({found['R']:,} resamples)",
    ]

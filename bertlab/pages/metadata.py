"""The metadata at the top of a model card, as the Hugging Face hub reads it: what is known, and nothing else.

Written by huggingface_hub's own ModelCardData, so that nothing in a name, a label or a licence becomes another key. A licence is called
what the hub calls it, or `other` with its name beside it; a language stands there only where somebody chose one; a data set or a model that
was started from only where it came from the hub. Asks no network: the hub looks at a card when it is uploaded.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from bertlab.pages.screen import inert, metric_words

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# https://huggingface.co/docs/hub/repositories-licenses, as of 2026-11; any other is refused on upload
_LISTED = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0 artistic-2.0
    bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0
    cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense
    zlib pddl lgpl-lr
"""
LICENCES = frozenset(_LISTED.split())
# Our scores by the names of the hub's metrics (the `evaluate` library's), with what tells two of one name apart.
_METRICS: dict[str, tuple[str, dict[str, str] | None]] = {
    "macro_f1": ("f1", {"average": "macro"}),
    "micro_f1": ("f1", {"average": "micro"}),
    "spearman": ("spearmanr", None),
    "pearson": ("pearsonr", None),
    "mlm_loss": ("loss", None),
    "masked_accuracy": ("accuracy", None),
    "nsp_accuracy": ("accuracy", None),
}
_NAMES = {"mlm_loss": "MLM loss (nats a masked token)", "masked_accuracy": "masked-word accuracy", "nsp_accuracy": "next-sentence accuracy"}
_HUB_NAME = re.compile(r"hf:(\w[\w.-]*(?:/\w[\w.-]*)?)(?:[:#].*)?", re.ASCII | re.DOTALL)


def front_matter(
    pipeline: str,
    *,
    library: str | None = "transformers",
    tags: Sequence[str] = (),
    licences: Sequence[str] = (),
    languages: Sequence[str] = (),
    sources: Sequence[str] = (),
    started_from: str | None = None,
    results: Sequence["EvalResult"] = (),
) -> list[str]:
    """The lines of the metadata, with the --- before and after, and an empty line.

    pipeline, library, tags: the hub's words. licences: of the training text, all; one is written down, several are not one. languages: ISO
    639 codes that somebody chose. sources, started_from: where text and weights came from, of which those on the hub are named.
    """
    from huggingface_hub import ModelCardData

    known: dict[str, Any] = {
        "base_model": on_the_hub([started_from or ""])[:1],
        "datasets": on_the_hub(sources),
        "language": sorted({code for code in languages if re.fullmatch("[a-z]{2,3}", code)}),
        "metrics": list(dict.fromkeys(result.metric_type for result in results)),
        "eval_results": list(results),
        "model_name": f"bertlab-{pipeline}" if results else None,
        "library_name": library,
        "pipeline_tag": pipeline,
        "tags": ["bert", "bertlab", *tags],
    }
    known |= _licence(licences[0]) if len(licences) == 1 else {}
    data = ModelCardData(**{name: value for name, value in known.items() if value not in (None, [])})
    return ["---", *data.to_yaml().split("\n"), "---", ""]


def results_on(
    scores: Mapping[str, float | None], *, pipeline: str, split: str, data: str, sha256: str | None = None, examples: float | None = None
) -> list["EvalResult"]:
    """Scores on one set of examples, by our names, as the hub's `model-index` has them; data: the set's name, which may be a stranger's."""
    from huggingface_hub import EvalResult

    known = {"sha256": sha256, "examples": examples}
    results = []
    for score, value in scores.items():
        if value is None:
            continue
        metric, how = _METRICS.get(score, (score, None))
        results.append(
            EvalResult(
                task_type=pipeline,
                dataset_type=slug(PurePath(data).stem) or "unknown",
                dataset_name=text(data),
                dataset_split=split,
                dataset_args={name: value for name, value in known.items() if value is not None} or None,
                metric_type=metric,
                metric_name=_NAMES.get(score, metric_words(score)),
                metric_args=how,
                metric_value=float(value),
            )
        )
    return results


def on_the_hub(sources: Sequence[str]) -> list[str]:
    """The names on the hub of those that are there: hf:NAME, as a data set with :CONFIG or #SPLIT, each once."""
    found = [_HUB_NAME.fullmatch(source) for source in sources]
    return list(dict.fromkeys(match[1] for match in found if match))


def slug(name: str) -> str:
    """A name as the hub writes identifiers: small letters, digits, points and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower())[:60].strip("-.")


def text(name: str) -> str:
    """A stranger's text on one line that can be written as UTF-8."""
    return inert(name).encode("utf-8", "replace").decode("utf-8")


def _licence(licence: str) -> dict[str, str]:
    if not licence:
        return {}
    name = slug(licence)
    for known in (licence.lower(), name):
        if known in LICENCES:
            return {"license": known}
    return {"license": "other"} | ({"license_name": name} if name else {})

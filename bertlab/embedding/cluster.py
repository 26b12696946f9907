"""Parts of embeddings made by the tasks of a cluster: bertlab/corpus/cluster.py, which has the engine, with embedding for its work.

Every task opens the model, reads all texts (far faster than a model embeds them) and computes its share of the parts with one thread.
Machines of one kind give the same bytes as one machine; processors of different kinds round differently in the last bits.
"""

import os
from pathlib import Path

from bertlab.corpus.cluster import Step
from bertlab.embedding import job as jobs
from bertlab.embedding.engine import What, open_embedder
from bertlab.embedding.job import Kept, Planned, Texts
from bertlab.errors import BertlabError, ConfigError
from bertlab.model.facts import model_origin
from bertlab.training.processes import Precision


class Embedding(Step):
    """Texts embedded, by the runs of the plan."""

    verb, doing, done = "embed", "embedding", "embedded"

    def __init__(
        self,
        planned: list[Planned],
        folder: Path,
        source: Texts,
        job: str,
        what: What,
        kept: Kept,
        *,
        model: str,
        device: str | None,
        precision: Precision,
    ) -> None:
        super().__init__(planned, folder)
        self.source, self.job, self.what, self.kept = source, job, what, kept
        self.model, self.device, self.precision = model, device, precision

    def __repr__(self) -> str:
        return f"bertlab embeds {len(self.units)} runs of texts into {self.folder}"

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        own = self.only(self.units[rank::world_size])
        os.chdir(self.start)  # where paths of the texts and of the model may start
        try:
            embedder = open_embedder(self.model, self.device, self.precision, threads=1)
            if jobs.job_sha256(embedder, model_origin(self.model)["files"], self.what, self.kept) != self.job:
                raise ConfigError(f"{os.uname().nodename} has another bertlab, torch, device or model: have the same on all machines")
            jobs.compute(self.source, self.job, own.missing(), self.folder, embedder, self.what, self.kept, lambda rows, tokens: None)
        except BertlabError as error:
            self.note(own.missing()[0], error, rank)
        except Exception as error:
            self.note(own.missing()[0], error, rank)
            raise

    def missing(self) -> list[Planned]:
        return jobs.missing(self.units, self.folder)

    def shown(self, unit: Planned) -> str:
        return f"part {unit.key} of {unit.rows:,} texts"

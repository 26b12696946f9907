"""How long the report of a long pretraining run takes to draw, and how large it is.

    python recipes/benchmarks/report.py [--steps 100000] [--log-every 20 1] [--rounds 3]

The log is made up, as long and as rich as a real one: every step with its batch, one in --log-every in full, ten measurements. Seconds
are the processor's, of reading the run and writing the page; the least of the rounds. Prints a line for each.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from bertlab.config import save
from bertlab.pages.report import write_report
from bertlab.training.runlog import RunLog
from bertlab.verbs import pretrain


def write_run(folder: Path, steps: int, log_every: int) -> None:
    """A run folder with its settings and its log."""
    folder.mkdir()
    save(pretrain.Config(corpus=str(folder / "corpus"), out=str(folder), steps=steps, log_every=log_every), folder / "config.yaml")
    draw = np.random.default_rng(0)
    log = RunLog(folder / "metrics.jsonl", -1)
    for step in range(1, steps + 1):
        record = {"step": step, "batch": "ab" * 16}
        if step % log_every == 0:
            losses = {"mlm_loss": 8 - 5 * (step / steps) ** 0.3 + float(draw.normal()) / 10, "nsp_loss": 0.5}
            record |= {"losses": losses, "learning_rate": 1e-3, "grad_norm": 1 + float(draw.random()), "seconds": 0.5, "data_seconds": 0.01}
            record |= {
                "tokens_per_second": 8000 + float(draw.normal()),
                "mfu": 0.5,
                "tokens_seen": 4000 * step,
                "elapsed_seconds": 0.5 * step,
            }
        log.write(record)
        if step % (steps // 10) == 0:
            scores = {"mlm_loss": 8 - 5 * (step / steps) ** 0.3, "masked_accuracy": 0.3, "nsp_loss": 0.5, "nsp_accuracy": 0.8}
            log.write({"step": step, "heldout": {"step": step, "unigram_loss": 7.0, "nsp_majority": 0.55} | scores})
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--log-every", type=int, nargs="+", default=[20, 1])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    for log_every in asked.log_every:
        with tempfile.TemporaryDirectory() as temporary:
            run = Path(temporary) / "run"
            write_run(run, asked.steps, log_every)
            seconds = []
            for _ in range(asked.rounds):
                began = time.process_time()
                write_report(run / "report.html", [run])
                seconds.append(time.process_time() - began)
            log, page = ((run / name).stat().st_size for name in ("metrics.jsonl", "report.html"))
            what = f"{asked.steps:,} steps, one in {log_every} logged in full ({log / 1e6:.1f} MB)"
            print(f"{what}: {min(seconds):.2f} s, page {page / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()

"""Measure the throughput on the cue-conflict images, as keyed CSV rows: this tool against the toolbox model-vs-human.

Method: each provider is a separate process, as described in `benchmarks.shapebias_worker`. After an untimed round, they
take turns, each with all images in every round. A row holds the median and the 20th and 80th percentile of the images
per second, and of the speed-up over the toolbox's loop in the same round. It also holds the number of decisions that
differ from the toolbox's, and the images per second of decoding alone on one thread. A rerun replaces the rows of the
same key.

    python -m benchmarks.bench_shapebias --stimuli cue-conflict --out benchmarks/results/shapebias.csv
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import SHARES, VERSIONS, describe_versions, device_name, merge_rows, percentile
from benchmarks.turns import Worker, take_turns

KEY = ("model", "provider", "precision", "images", "device")
RATES = ("images_per_s", "low_per_s", "high_per_s", "ratio", "ratio_low", "ratio_high")
FIELDS = (*KEY, *RATES, "decisions_changed", "decoding_per_s", "peak_gb", "rounds", *VERSIONS)
TOOLBOX = "toolbox"


def measure(options: argparse.Namespace) -> list[dict[str, str]]:
    """Measure a row for the toolbox's loop and one for each precision of this tool."""
    common = ["--stimuli", str(options.stimuli), "--model", options.model, "--weights", options.weights]
    common += ["--images", str(options.images), "--device", options.device]
    program = ["-m", "benchmarks.shapebias_worker"]
    workers = {(TOOLBOX, "float32"): Worker([*program, TOOLBOX, *common])}
    for precision in options.precision:
        workers["ours", precision] = Worker([*program, "ours", *common, "--precision", precision])
    for worker in workers.values():
        worker.ask("decide", timed=False)
    answers = take_turns(workers, lambda name, worker: worker.ask("decide"), rounds=options.rounds)
    seconds = {key: list(worker.seconds) for key, worker in workers.items()}
    ours = workers["ours", options.precision[0]]
    decoded = ours.ask("decode") / ours.seconds[-1]
    for worker in workers.values():
        worker.close()
    baseline = TOOLBOX, "float32"
    rows = []
    for key, worker in workers.items():
        rates = [options.images / s for s in seconds[key]]
        ratios = [theirs / s for theirs, s in zip(seconds[baseline], seconds[key], strict=True)]
        numbers = [f"{percentile(values, share):.4g}" for values in (rates, ratios) for share in SHARES]
        changed = sum(a != b for a, b in zip(answers[key], answers[baseline], strict=True))
        rows.append(
            {
                "model": options.model,
                "provider": key[0],
                "precision": key[1],
                "images": str(options.images),
                "device": device_name(options.device),
                **dict(zip(RATES, numbers, strict=True)),
                "decisions_changed": str(changed),
                "decoding_per_s": f"{decoded:.0f}",
                "peak_gb": f"{worker.peak_bytes / 1e9:.3g}",
                "rounds": str(len(rates)),
                **describe_versions(options.device),
            }
        )
    return rows


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--stimuli", type=Path, required=True, help="the 16 category folders")
    parser.add_argument("--model", default="replknet31b")
    parser.add_argument("--weights", default="random", help="speed does not depend on them (default: random)")
    parser.add_argument("--images", type=int, default=64, help="evenly spaced over the benchmark (default: 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), nargs="+", default=["float32", "bfloat16"]
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, with a line on stderr for each."""
    options = build_parser().parse_args(argv)
    rows = measure(options)
    merge_rows(options.out, rows, key=KEY, fields=FIELDS)
    for row in rows:
        shown = {name: row[name] for name in (*RATES, "decisions_changed", "decoding_per_s")}
        sys.stderr.write(f"{row['model']} {row['provider']} {row['precision']}: {shown}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

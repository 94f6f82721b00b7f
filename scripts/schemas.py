"""Generate the JSON Schemas of both tools' result files from the Python types of the results."""

import json
from pathlib import Path

from erf.results.content import schema
from shapebias.results.benchmark_content import benchmark_schema
from shapebias.results.content import comparison_schema, result_schema
from shapebias.results.reliance_content import reliance_comparison_schema, reliance_schema

ROOT = Path(__file__).resolve().parent.parent

SCHEMAS = {
    "erf/results/result.schema.json": schema,
    "shapebias/results/benchmark.schema.json": benchmark_schema,
    "shapebias/results/comparison.schema.json": comparison_schema,
    "shapebias/results/reliance-comparison.schema.json": reliance_comparison_schema,
    "shapebias/results/reliance.schema.json": reliance_schema,
    "shapebias/results/result.schema.json": result_schema,
}

if __name__ == "__main__":
    for name, make in SCHEMAS.items():
        (ROOT / name).write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")

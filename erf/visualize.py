"""Command line of the receptive-field tool: `python -m erf.visualize --model replknet31b`.

Options, files and exit codes are a contract that people script against; see the README. Torch is loaded only when a
network has to run: help, wrong arguments and drawing from saved results answer at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from erf.config import Config, build_parser, parse_config
from erf.results import ErfResult, file_stem, load_result, write_report
from erf.tables import text_table, write_tables
from runkit import Failures, UserError, is_main_process, run_main

__all__ = ["Config", "build_parser", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 2 the user can mend it)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    config = parse_config(build_parser(), arguments)
    return run_main(lambda: _run(config, arguments), program="erf.visualize", arguments=arguments)


def _run(config: Config, arguments: Sequence[str]) -> int:
    """Do what `config` asks; under torchrun rank 0 speaks and writes for all."""
    from erf.networks import measure_networks

    folder = Path(config.output) / "erf"
    failures = Failures()
    if config.from_npz:
        results = [load_result(path) for path in config.from_npz] if is_main_process() else []
        _refuse_same_stem([result.name for result in results])
        for result in results:
            write_report(result, folder, scale=config.scale, formats=config.formats)
    else:
        _refuse_same_stem(config.model)
        _refuse_twice("weights", [Path(weights).stem for weights in config.weights])
        _refuse_twice("size", config.size)
        _refuse_twice("layer", config.layer)
        results, failures = measure_networks(config, folder, arguments)
    if not results or not is_main_process():
        failures.log()
        return failures.exit_code
    if len(results) > 1:
        _write_comparison(results, folder, config)
    sys.stdout.write(text_table(results) + "\n")
    failures.log()
    return failures.exit_code


def _refuse_same_stem(names: Sequence[str]) -> None:
    stems = [file_stem(name) for name in names]
    if twice := sorted({name for name, stem in zip(names, stems, strict=True) if stems.count(stem) > 1}):
        raise UserError(f"{', '.join(twice)}: named more than once; results of one name share their files")


def _refuse_twice(option: str, values: Sequence[object]) -> None:
    if len(set(values)) < len(values):
        raise UserError(f"--{option} {' '.join(map(str, values))}: named more than once; results share their files")


def _write_comparison(results: Sequence[ErfResult], folder: Path, config: Config) -> None:
    from erf.curves import plot_curves
    from erf.plots import plot_comparison, save_figure

    write_tables(results, folder / "comparison")
    description = " | ".join(dict.fromkeys(result.provenance["command"] for result in results))
    figures = {"comparison": plot_comparison(results, scale=config.scale), "comparison-curves": plot_curves(results)}
    for name, figure in figures.items():
        save_figure(figure, folder / name, config.formats, description=description)


if __name__ == "__main__":
    raise SystemExit(main())

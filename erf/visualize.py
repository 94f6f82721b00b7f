"""Command line of the receptive-field tool: `python -m erf.visualize --model replknet31b`.

Options, files and exit codes are a stable interface for scripts; see the README. Torch is imported only when a network
has to run, so that help, argument errors and drawing from saved results need not wait for it.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from erf.drawing import check_crop, check_labels
from erf.gradient.jobs import names_of_weights
from erf.options import Config, build_parser, parse_config
from erf.results.files import ErfResult, find_results, load_result, manifest_file, random_above, result_files
from erf.results.tables import comparison_files, read_columns, summary, text_table
from erf.sweep import FieldTool, measure_networks
from runkit import Failures, UserError, file_stem, is_main_process, run_main, write_json, write_out
from runkit.dry_run import DryRun, ForeseenJob, foresee_sweep
from runkit.options import REPORT
from runkit.sizes import Size

__all__ = ["Config", "build_parser", "main"]

_logger = logging.getLogger("erf.visualize")  # under `python -m` this module is called __main__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code (0: done, 2: an input or environment error)."""
    config = parse_config(sys.argv[1:] if argv is None else argv)
    level = config.console.level
    return run_main(lambda: _run(config), program="erf.visualize", arguments=config.arguments, level=level)


def _run(config: Config) -> int:
    """Carry out `config`. Under torchrun, rank 0 prints and writes for all ranks."""
    if config.console.list_models is not None or config.console.dry_run:
        return _tell(config) if is_main_process() else 0
    _refuse_repetitions(config)
    _check_colours(config.cmap)
    _check_crop(config, [] if config.from_npz else [_shape_of(size) for size in config.size])
    read_columns(config.tex_columns)
    if config.from_npz:
        results, failures = _load_results(config), Failures()
        _check_crop(config, [result.contribution.shape for result in results])
        _check_labels(config, results)
        _write_results(results, config)
    else:
        swept = measure_networks(config)
        results, failures = swept.results, swept.failures
    if not is_main_process():
        return failures.exit_code
    if len(results) > 1 and not config.from_npz:
        _redraw_alike(results, config)
    compared = _write_comparison(results, config) if len(results) > 1 else []
    if config.tex_columns and len(results) == 1:
        _logger.warning("--tex-columns has no effect on a single result: the LaTeX table is that of a comparison")
    if config.report and results:
        compared.append(_write_report(results, config))
    if config.console.json:
        networks = [summary(result) | {"files": _files_of(result, config)} for result in results]
        content = {"networks": networks, "comparison_files": list(map(str, compared)), "failed": failures.reasons}
        write_json({"program": "erf.visualize", **content})
    elif results:
        write_out(text_table(results))
    failures.log()
    return failures.exit_code


def _tell(config: Config) -> int:
    """List networks, or print what the run would do. No files are written."""
    if config.console.list_models is not None:
        from replknet.listing import show_networks

        show_networks(config.console.list_models, as_json=config.console.json)
        return 0
    _refuse_repetitions(config)
    _check_crop(config, [] if config.from_npz else [_shape_of(size) for size in config.size])
    if config.from_npz:
        foreseen, failures = _foresee_saved(config), Failures()
    else:
        foreseen, failures = foresee_sweep(FieldTool(config, config.folder))
    if config.report:
        foreseen = replace(foreseen, files=[*foreseen.files, config.folder / REPORT])
    foreseen.show(as_json=config.console.json)
    failures.log()
    return failures.exit_code


def _foresee_saved(config: Config) -> DryRun:
    """Foresee a run on saved results."""
    results = _load_results(config)
    _check_labels(config, results)
    jobs = [
        ForeseenJob(
            result.name,
            result.weights_label,
            "measure and draw again",
            tuple(path for path in _paths_of(result, config) if path.suffix != ".npz"),  # maps stay where they are
        )
        for result in results
    ]
    files = comparison_files(config.folder, config.formats) if len(results) > 1 else []
    return DryRun("erf.visualize", "saved results", jobs, files)


def _load_results(config: Config) -> list[ErfResult]:
    """Load the results that `--from-npz` names, on rank 0 only: there is no work to share with other ranks."""
    paths = find_results(config.from_npz) if is_main_process() else []
    results = [load_result(path, maps=bool(config.sheets)) for path in paths]
    _refuse_same_stem([result.name for result in results])
    before_after = config.before_after or all(result.of_before_after for result in results)
    return random_above(results) if before_after else results


def _files_of(result: ErfResult, config: Config) -> list[str]:
    """The existing files of a result in the output folder, which lacks its map if that was read by `--from-npz`."""
    files = [*_paths_of(result, config), manifest_file(config.folder, result.name)]
    return [str(path) for path in files if path.exists()]


def _paths_of(result: ErfResult, config: Config) -> list[Path]:
    return result_files(config.folder, result.name, config.formats, config.sheets)


def _refuse_repetitions(config: Config) -> None:
    """Check that no two results of the run would share their files.

    Raises: UserError if two of them would.
    """
    _refuse_same_stem(config.model)
    _refuse_twice("weights", [file_stem(name) for name in names_of_weights(config.weights).values()], config.weights)
    _refuse_twice("size", config.size)
    _refuse_twice("layer", config.layer)


def _check_colours(name: str) -> None:
    """Check that a colour map exists.

    Raises: UserError if neither seaborn nor matplotlib has a colour map of that name.
    """
    if name == Config.cmap:
        return
    from erf.figures.maps import colour_map

    try:
        colour_map(name)
    except ValueError as error:
        raise UserError(f"--cmap {name}: neither seaborn nor matplotlib has such a colour map") from error


def _check_labels(config: Config, results: Sequence[ErfResult]) -> None:
    """Check on rank 0 that every label belongs to a result.

    Raises: UserError if one does not.
    """
    if is_main_process():
        try:
            check_labels(config.labels, [result.name for result in results])
        except ValueError as error:
            raise UserError(f"--{error}") from error


def _check_crop(config: Config, shapes: Sequence[tuple[int, ...]]) -> None:
    """Check that no map is smaller than the requested window.

    Raises: UserError if one is.
    """
    try:
        check_crop(config.crop, shapes)
    except ValueError as error:
        raise UserError(f"--{error}") from error


def _shape_of(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _refuse_same_stem(names: Sequence[str]) -> None:
    stems = [file_stem(name) for name in names]
    if twice := sorted({name for name, stem in zip(names, stems, strict=True) if stems.count(stem) > 1}):
        raise UserError(f"{', '.join(twice)}: named more than once; results of one name share their files")


def _refuse_twice(option: str, values: Sequence[object], given: Sequence[object] = ()) -> None:
    """Check that no value of an option is repeated.

    Args:
        option: Name of the option.
        values: The values to compare.
        given: The values as the user wrote them, if they differ from `values`.

    Raises: UserError if a value is repeated.
    """
    asked = given or values
    if len(set(values)) < len(asked):
        raise UserError(f"--{option} {' '.join(map(str, asked))}: named more than once; results share their files")


def _write_results(results: Sequence[ErfResult], config: Config) -> None:
    """Measure and draw saved results again, all with the same window."""
    from erf.figures.files import write_result
    from erf.figures.window import settle_crop

    if not results:  # on ranks other than 0
        return
    drawing = settle_crop([(result.contribution, result.centre) for result in results], config.drawing)
    for result in results:
        write_result(result, config.folder, drawing=drawing, formats=config.formats, sheets=config.sheets)


def _redraw_alike(results: Sequence[ErfResult], config: Config) -> None:
    """Draw results again that were drawn right after their measurement and with another window than the whole run's."""
    from erf.figures.files import redraw_alike

    redraw_alike(results, config.folder, drawing=config.drawing, formats=config.formats, sheets=config.sheets)


def _write_comparison(results: Sequence[ErfResult], config: Config) -> list[Path]:
    from erf.figures.files import write_comparison

    columns = read_columns(config.tex_columns)
    files = write_comparison(
        results, config.folder, drawing=config.drawing, formats=config.formats, tex_columns=columns
    )
    _logger.info("wrote %s", ", ".join(map(str, files)))
    return files


def _write_report(results: Sequence[ErfResult], config: Config) -> Path:
    """Write `report.html` with the results of this run, and return its path."""
    from erf.figures.page import describe_maps
    from runkit.html.page import write_page

    page = config.folder / REPORT
    sections = [describe_maps(results, config.folder, page)]
    write_page(page, sections[0].title, sections, program="erf.visualize", arguments=config.arguments)
    _logger.info("wrote %s", page)
    return page


if __name__ == "__main__":
    raise SystemExit(main())

"""What every run shares, whichever tool makes it: exit codes, provenance, and files that are complete or absent.

This is the lowest package of the project. `replknet`, `erf` and `shapebias` import it, and it imports none of them.
Importing it loads neither torch nor matplotlib.
"""

from runkit.console import (
    Failures,
    RunStopped,
    UserError,
    auto_or_int,
    command_line,
    is_main_process,
    is_quiet,
    run_main,
    write_json,
    write_out,
)
from runkit.files import (
    atomic_write,
    file_stem,
    load_json,
    read_arrays,
    save_json,
    sha256_of_file,
    sha256_of_files,
    sha256_of_lines,
)
from runkit.provenance import SCHEMA_VERSION, describe_environment, describe_run, list_differences
from runkit.tables import format_html, format_latex, format_table, save_csv, save_latex

__all__ = [
    "SCHEMA_VERSION",
    "Failures",
    "RunStopped",
    "UserError",
    "atomic_write",
    "auto_or_int",
    "command_line",
    "describe_environment",
    "describe_run",
    "file_stem",
    "format_html",
    "format_latex",
    "format_table",
    "is_main_process",
    "is_quiet",
    "list_differences",
    "load_json",
    "read_arrays",
    "run_main",
    "save_csv",
    "save_json",
    "save_latex",
    "sha256_of_file",
    "sha256_of_files",
    "sha256_of_lines",
    "write_json",
    "write_out",
]

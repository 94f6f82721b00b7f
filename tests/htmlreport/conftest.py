"""A folder with results of both tools."""

from datetime import datetime, timezone
from pathlib import Path

import pytest
from example_results import make_erf_result

from erf.results.files import save_measures, save_result
from runkit import describe_run
from shapebias.answers.observers import read_observers, write_raw_data
from shapebias.results.comparison import compare, write_comparison
from shapebias.results.files import ResultFolder
from shapebias.stimuli.images import Stimulus, parse_image_name


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory, names) -> Path:
    """Three receptive fields, one with random weights, and the answers of a network and a person."""
    folder = tmp_path_factory.mktemp("figures")
    for name, sigma in {"wide": 14, "narrow": 5, "untrained": 9}.items():
        result = make_erf_result(name, sigma, random=name == "untrained")
        save_result(result, folder / "erf" / f"{name}.npz")
        save_measures(result, folder / "erf" / f"{name}.json")
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in names]
    for observer, every in {"net": 4, "subject-01": 1}.items():
        said = [item.texture if index % every else item.shape for index, item in enumerate(stimuli)]
        write_raw_data(folder / "csv" / f"{observer}.csv", observer, stimuli, said)
    head = describe_run(program="shapebias.run", arguments=[], started=datetime.now(timezone.utc), seconds=0)
    comparison = compare(read_observers([folder / "csv"]))
    write_comparison(comparison, ResultFolder.of(folder), head)
    return folder

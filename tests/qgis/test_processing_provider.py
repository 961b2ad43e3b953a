"""The plugin in qgis/: its commands by a stand-in for the installed one, and in QGIS where that is installed."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "qgis" / "terrablend_processing"


def load_command():
    spec = importlib.util.spec_from_file_location("terrablend_processing_command", FOLDER / "command.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_in(tmp_path):
    """A command that writes down its words and its environment, and ends as its first word says."""
    path = tmp_path / "terrablend"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "print('words', *sys.argv[1:])\n"
        "print('python', os.environ.get('PYTHONHOME'), os.environ.get('PROJ_LIB'), flush=True)\n"
        "if 'bad' in sys.argv[2]: print('error: no such file', file=sys.stderr); sys.exit(2)\n"
        "if sys.argv[1] == 'predict':\n"
        "    out = sys.argv[sys.argv.index('-o') + 1]\n"
        "    os.makedirs(out, exist_ok=True)\n"
    )
    path.chmod(0o755)
    return str(path)


def test_each_algorithm_is_one_command():
    command = load_command()
    assert command.check_words("a.yaml") == ["check", "a.yaml"]
    assert command.run_words("a.yaml", "folds.count=4\n\n seed=2 ") == [
        "run",
        "a.yaml",
        "--set",
        "folds.count=4",
        "--set",
        "seed=2",
    ]
    assert command.predict_words("run", "s.tif", "maps", True) == [
        "predict",
        "run",
        "s.tif",
        "-o",
        "maps",
        "--uncertainty",
    ]


def test_a_command_is_told_line_by_line_without_the_environment_of_qgis(stand_in, monkeypatch):
    command, lines = load_command(), []
    monkeypatch.setenv("PYTHONHOME", "/of/qgis")
    monkeypatch.setenv("PROJ_LIB", "/of/qgis")
    command.run_command(stand_in, ["check", "a.yaml"], lines.append)
    assert lines == ["words check a.yaml", "python None None"]


def test_errors_and_cancelling_are_told(stand_in, tmp_path):
    command = load_command()
    with pytest.raises(command.CommandError, match="error: no such file"):
        command.run_command(stand_in, ["run", "bad.yaml"], lambda line: None)
    with pytest.raises(command.CommandError, match="Cancelled: what was finished is kept"):
        command.run_command(stand_in, ["run", "a.yaml"], lambda line: None, lambda: True)
    with pytest.raises(command.CommandError, match="expected the command of Terrablend"):
        command.run_command(str(tmp_path / "nothing"), ["run"], lambda line: None)
    with pytest.raises(command.CommandError, match="expected a layer that is a raster file"):
        command.file_of_source("https://somewhere/a.tif|option:x")
    assert command.file_of_source(f"{stand_in}|band=1") == stand_in


def test_the_words_are_those_of_the_command(terrablend_help):
    for name, options in (("check", ["--set"]), ("run", ["--set"]), ("predict", ["-o", "--uncertainty"])):
        assert all(option in terrablend_help(name) for option in options)


@pytest.fixture
def terrablend_help():
    from typer.main import get_command

    from terrablend.cli import app

    commands = get_command(app).commands

    def options(name):
        return [option for parameter in commands[name].params for option in parameter.opts]

    return options


def test_qgis_loads_the_provider_and_runs_it(stand_in, tmp_path, monkeypatch, write_raster):
    core = pytest.importorskip("qgis.core", reason="QGIS is not installed")
    import numpy as np

    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.syspath_prepend(FOLDER.parent)
    application = core.QgsApplication([], False)
    application.initQgis()
    try:
        from terrablend_processing import classFactory

        plugin = classFactory(None)
        plugin.initProcessing()
        names = sorted(algorithm.id() for algorithm in plugin.provider.algorithms())
        assert names == ["terrablend:check", "terrablend:predict", "terrablend:run"]
        scene = write_raster("scene.tif", np.ones((3, 8, 8), np.uint8))
        algorithm = core.QgsApplication.processingRegistry().createAlgorithmById("terrablend:predict")
        context, feedback = core.QgsProcessingContext(), core.QgsProcessingFeedback()
        parameters = {"SCENE": str(scene), "MODEL": str(tmp_path), "OUT": str(tmp_path / "maps"), "COMMAND": stand_in}
        _, done = algorithm.run(parameters, context, feedback)
        assert done
        assert f"words predict {tmp_path} {scene} -o {tmp_path / 'maps'}" in feedback.textLog()
        plugin.unload()
    finally:
        application.exitQgis()
    assert (tmp_path / "maps").is_dir()

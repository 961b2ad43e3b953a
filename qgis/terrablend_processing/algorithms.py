"""The algorithms: each is one command of Terrablend on files that are chosen in a dialogue."""

from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputFile,
    QgsProcessingOutputRasterLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .command import CommandError, check_words, file_of_source, predict_words, run_command, run_words

__all__ = ["CheckAlgorithm", "PredictAlgorithm", "RunAlgorithm"]


class CommandAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that runs a command; those below say which."""

    title, about = "", ""

    def createInstance(self):  # noqa: N802
        """Return a new one."""
        return type(self)()

    def name(self):
        """Return the name in scripts."""
        return self.title.lower()

    def displayName(self):  # noqa: N802
        """Return the name that is shown."""
        return self.title

    def shortHelpString(self):  # noqa: N802
        """Return what it does."""
        return self.about

    def add_command(self):
        """Add the parameter that names the installed command."""
        self.addParameter(QgsProcessingParameterString("COMMAND", "Command of Terrablend", "terrablend"))

    def run_words(self, words, parameters, context, feedback):
        """Run the command with some words, its lines in the log."""
        command = self.parameterAsString(parameters, "COMMAND", context)
        try:
            run_command(command, words, feedback.pushInfo, feedback.isCanceled)
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error


class ExperimentAlgorithm(CommandAlgorithm):
    """A command on an experiment file."""

    def initAlgorithm(self, config=None):  # noqa: N802
        """Declare the parameters and the page that is written."""
        self.addParameter(QgsProcessingParameterFile("EXPERIMENT", "Experiment file", extension="yaml"))
        self.addParameter(
            QgsProcessingParameterString("SETTINGS", "Other settings, one a line", "", multiLine=True, optional=True)
        )
        self.add_command()
        self.addOutput(QgsProcessingOutputFile("EXPERIMENT", "Experiment file"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Run the command; its log says where the results are."""
        experiment = self.parameterAsFile(parameters, "EXPERIMENT", context)
        settings = self.parameterAsString(parameters, "SETTINGS", context)
        self.run_words(self.words(experiment, settings), parameters, context, feedback)
        return {"EXPERIMENT": experiment}


class CheckAlgorithm(ExperimentAlgorithm):
    """`terrablend check`."""

    title = "Check"
    about = "Reads every scene of an experiment, lists every problem, makes groups and folds. The log names the page."
    words = staticmethod(check_words)


class RunAlgorithm(ExperimentAlgorithm):
    """`terrablend run`."""

    title = "Run"
    about = "Trains all members of an experiment, blends them, and maps its test scenes. Cancelled, it goes on later."
    words = staticmethod(run_words)


class PredictAlgorithm(CommandAlgorithm):
    """`terrablend predict` on a layer."""

    title = "Predict"
    about = "Maps a raster layer by a finished run or a bundle: classes, probabilities and, if asked for, uncertainty."

    def initAlgorithm(self, config=None):  # noqa: N802
        """Declare the parameters and the layers that are made."""
        self.addParameter(QgsProcessingParameterRasterLayer("SCENE", "Layer to map"))
        self.addParameter(
            QgsProcessingParameterFile("MODEL", "Folder of the run", QgsProcessingParameterFile.Folder, optional=True)
        )
        self.addParameter(QgsProcessingParameterFile("BUNDLE", "or a bundle", extension="zip", optional=True))
        self.addParameter(QgsProcessingParameterBoolean("UNCERTAINTY", "Uncertainty, too", False))
        self.addParameter(QgsProcessingParameterFolderDestination("OUT", "Folder of the maps"))
        self.add_command()
        for key, name in (("CLASSES", "Classes"), ("PROBA", "Probabilities")):
            self.addOutput(QgsProcessingOutputRasterLayer(key, name))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Map the layer and add the maps to the project, in the style that lies beside each."""
        out = self.parameterAsString(parameters, "OUT", context)
        model = next(
            (self.parameterAsFile(parameters, key, context) for key in ("MODEL", "BUNDLE") if parameters.get(key)), ""
        )
        if not model:
            raise QgsProcessingException("Expected the folder of a run or a bundle, got neither. Name one.")
        uncertainty = self.parameterAsBool(parameters, "UNCERTAINTY", context)
        try:
            scene = file_of_source(self.parameterAsRasterLayer(parameters, "SCENE", context).source())
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error
        self.run_words(predict_words(model, scene, out, uncertainty), parameters, context, feedback)
        stem = Path(scene).stem
        made = {}
        for key, end in (("CLASSES", "classes"), ("PROBA", "proba"), ("UNCERTAINTY", "uncertainty")):
            path = Path(out) / f"{stem}_{end}.tif"
            if path.is_file():
                made[key] = str(path)
                details = QgsProcessingContext.LayerDetails(
                    f"{stem} {end}", context.project(), key, QgsProcessing.TypeRaster
                )
                context.addLayerToLoadOnCompletion(str(path), details)
        return made

"""The plugin and its provider, as QGIS loads them."""

from qgis.core import QgsApplication, QgsProcessingProvider

from .algorithms import CheckAlgorithm, PredictAlgorithm, RunAlgorithm

__all__ = ["Plugin", "Provider"]


class Provider(QgsProcessingProvider):
    """Terrablend in the Processing toolbox."""

    def id(self):
        """Return what algorithms' names begin with."""
        return "terrablend"

    def name(self):
        """Return the name that is shown."""
        return "Terrablend"

    def loadAlgorithms(self):  # noqa: N802
        """Add the algorithms."""
        for algorithm in (CheckAlgorithm(), RunAlgorithm(), PredictAlgorithm()):
            self.addAlgorithm(algorithm)


class Plugin:
    """Registers the provider for as long as the plugin is loaded."""

    provider = None

    def initProcessing(self):  # noqa: N802
        """Register the provider; `qgis_process` calls this alone."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):  # noqa: N802
        """Register the provider."""
        self.initProcessing()

    def unload(self):
        """Take the provider away."""
        QgsApplication.processingRegistry().removeProvider(self.provider)

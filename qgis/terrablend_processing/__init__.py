"""A provider of Processing algorithms that call the installed command `terrablend`."""


def classFactory(iface):  # noqa: N802 (QGIS calls it so)
    """Return the plugin."""
    from .plugin import Plugin

    return Plugin()

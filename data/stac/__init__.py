"""STAC: the items of a catalogue, and their assets as files of a scene."""

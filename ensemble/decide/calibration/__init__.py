"""Learn calibrations."""

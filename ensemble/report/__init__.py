"""The report: one page, verdict first."""

"""The commands, by what their user does: start, carry out the stages of a run, put a finished run to use."""

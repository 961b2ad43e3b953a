"""A first look at data: find the files, read each once, list every problem, summarise."""

"""The same code from Python: decisions on arrays, features of arrays, and runs."""

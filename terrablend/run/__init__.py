"""A run: its stages, its folder, what each stage was made from."""

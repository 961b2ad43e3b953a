"""What is handed in: formats, each read again and checked."""

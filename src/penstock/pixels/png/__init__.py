"""PNG files, written row by row: `filters` prepares the rows, `deflate` compresses them, `stream` makes the file."""

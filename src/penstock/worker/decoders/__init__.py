"""Decoders of images in processes of their own, which can be ended and can do nothing else.

A worker gives an image to a child as a file in memory, and the child writes the pixels behind it. Nothing else passes
between them but one number in each direction: see `exchange`. The child is `python -m penstock.worker.decoders.child`.
"""

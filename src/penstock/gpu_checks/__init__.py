"""The first checks of a card: ten measurements of Penstock itself on one GPU, and what each should find.

`table` lists the checks, `expectations` what their figures are held to, `measures` how each is taken.
A check runs in a process of its own (`process`); the parent loads neither CUDA nor a model.
"""

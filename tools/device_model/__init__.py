"""A model of a GPU in the place of `infer`, in real worker processes: what would starve a card that is not at hand."""

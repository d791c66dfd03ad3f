"""What may read devices and files of root: one file or folder for each source, and one pass over all of them."""

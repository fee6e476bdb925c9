"""Other people's checkpoints -> ours. A file per source, each with read(file) -> Foreign; nothing in a file is run."""

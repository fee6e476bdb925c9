"""Heads: the backbone's features -> (logits, features); built from (in_channels, num_classes) and YAML."""

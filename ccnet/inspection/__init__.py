"""What tools/inspect_data.py shows of a data set: findings, figures, and samples as the network sees them."""

"""Finds labels that are wrong and would train all the same: what is stored, against what the data set reads in it."""

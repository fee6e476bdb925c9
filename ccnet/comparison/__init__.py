"""Which of two models is better, and whether the images and the seeds seen can tell: what tools/compare.py does."""

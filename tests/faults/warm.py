"""Imported by the server that forks victims, once: what is slow in a process that begins is done before it is forked.

The first training run of a process takes seconds and each one after it a third of a second, of which half is start-up.
"""

import atexit
import contextlib
import gc
import io
import os
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import torch

from ccnet import session
from tests.conftest import write_folder
from tests.faults.zygote import run_config

torch.set_num_threads(1)
cv2.setNumThreads(0)  # a thread of the server would be missing in its children
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    data = write_folder(Path(folder, "data"), count=2)
    with contextlib.redirect_stderr(io.StringIO()):
        session.train(run_config(data, Path(folder), "trainer.max_steps=3", "trainer.evaluate_every=2"))
gc.collect()
gc.freeze()  # a collection in a child would copy every page
atexit.register(gc.unfreeze)

"""summary.json: what became of every image, made how; what --resume goes by."""

import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ccnet import checkpoint, sealed_folder
from ccnet.config import to_json
from ccnet.prediction.inputs import Input
from ccnet.prediction.predictor import Predictor
from ccnet.prediction.reading import FileState, file_state
from ccnet.prediction.results import Results

NAME = "summary.json"
SECONDS = 10.0  # between two writings, while images are predicted
SHARE = 50  # of which writing takes at most a fiftieth, however long the summary
DONE = ("ok", "skipped")


class Summary:
    """The statuses of all images: ok, skipped (done before), failed (with a reason), or waiting.

    Args:
        results: where it is written, and what the files depend on.
        predictor: that is asked.
        inputs: in the order in which they are listed.
        resume: keeps what an earlier summary says, and skips its images that are done: whose files are all there, made
            with the same weights, settings and version from a file of the same size and time of change.
    """

    def __init__(self, results: Results, predictor: Predictor, inputs: Sequence[Input], *, resume: bool) -> None:
        self.results, self.predictor = results, predictor
        self.path = results.output / NAME
        self.made = made_with(predictor, results)
        self.digest = hashlib.sha256(json.dumps(self.made, sort_keys=True).encode()).hexdigest()[:16]
        self.started = self.written = time.monotonic()
        self.cost = 0.0
        self.own = [item.name for item in inputs]
        before = _read(self.path) if resume else {}
        self.images: dict[str, dict[str, Any]] = {**before, **{name: {"status": "waiting"} for name in self.own}}
        for item in inputs:
            if self._is_done(item, before.get(item.name)):
                self.images[item.name] = {**before[item.name], "status": "skipped"}

    def waiting(self, inputs: Sequence[Input]) -> list[Input]:
        """Those that are left to do."""
        return [item for item in inputs if self.images[item.name]["status"] == "waiting"]

    def succeeded(self, item: Input, state: FileState | None, tile: int | None) -> None:
        """All files of an image are written; `state` is that of the input, `tile` the side of the tiles it took."""
        entry = {"status": "ok", "input": str(item.path), "state": state, "made_by": self.digest}
        self.images[item.name] = entry if tile is None else {**entry, "tile": tile}

    def failed(self, item: Input, reason: str) -> None:
        """An image has no results."""
        self.images[item.name] = {"status": "failed", "reason": reason, "input": str(item.path)}

    def counts(self) -> Counter[str]:
        """Of this call's images, by status."""
        return Counter(self.images[name]["status"] for name in self.own)

    def exit_status(self) -> int:
        """0 if all images worked, 3 if some failed, 1 if none worked."""
        done = self._done()
        return 0 if done == len(self.own) else 3 if done else 1

    def line(self) -> str:
        """What a person is told at the end."""
        skipped = self.counts()["skipped"]
        before = f", {skipped} of them before" if skipped else ""
        whence = f"into {self.results.output} with {self.predictor.loaded.path}"
        return f"{self._done()} of {len(self.own)} images predicted {whence}{before}"

    def write_sometimes(self) -> None:
        """Writes where it is time to: a killed process loses the statuses of the last seconds."""
        if time.monotonic() - self.written > max(SECONDS, SHARE * self.cost):
            self.write()

    def write(self) -> None:
        """Writes the summary; the file is there whole or as it was."""
        begin = time.monotonic()
        loaded = self.predictor.loaded
        whole = {
            "checkpoint": str(loaded.path),
            "step": loaded.step,
            "made_by": self.digest,
            "made_with": self.made,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "device": str(self.predictor.device),
            "seconds": round(begin - self.started, 2),
            "counts": dict(self.counts()),
            "out_of_memory": [
                {"size": size, "at_a_time": way.batch, "tile": way.tile}
                for size, way in self.predictor.ask.ways.items()
            ],
            "images": self.images,
        }
        self.results.output.mkdir(parents=True, exist_ok=True)
        sealed_folder.write_file(self.path, json.dumps(whole, indent=1).encode())
        self.written = time.monotonic()
        self.cost = self.written - begin

    def _done(self) -> int:
        return sum(self.counts()[status] for status in DONE)

    def _is_done(self, item: Input, before: Mapping[str, Any] | None) -> bool:
        if before is None or before.get("status") not in DONE or before.get("made_by") != self.digest:
            return False
        state = file_state(item)
        same = before.get("input") == str(item.path) and state is not None and before.get("state") == list(state)
        return same and self.results.complete(item.name)


PACKAGES = ("ccnet", "torch", "numpy", "pillow")


def made_with(predictor: Predictor, results: Results) -> dict[str, Any]:
    """What the files of an image depend on, beside the image."""
    config = to_json(predictor.loaded.config)
    config["evaluation"].pop("batch_size", None)  # decides on time and memory alone
    return {
        "weights": checkpoint.sha256_of(predictor.loaded.path),
        **{part: config[part] for part in ("model", "backbone", "attention", "head", "evaluation")},
        "results": results.settings(),
        "version": version("ccnet"),
    }


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The images of an earlier summary; none where it is missing or damaged, and everything is done again."""
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        images = json.loads(sealed_folder.read_plain_file(path))["images"]
        return {name: entry for name, entry in images.items() if isinstance(entry, dict)}
    return {}

"""Files in, files out: threads decode ahead and write behind while the model is asked."""

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from types import TracebackType

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ccnet.errors import DataError, UserError
from ccnet.prediction.asking import Prediction
from ccnet.prediction.inputs import Input
from ccnet.prediction.predictor import Predictor, batched
from ccnet.prediction.reading import Decoded, Unreadable, decoded
from ccnet.prediction.results import Results
from ccnet.prediction.summary import Summary

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # which names may hold, and terminals obey or cannot print
MOST_WITH_PROBABILITIES = 2  # results in memory: 19 classes of 1024x2048 are 80 MB
THREADS = min(4, os.cpu_count() or 1)  # that decode, and as many that write


def predict_files(
    predictor: Predictor, inputs: Sequence[Input], results: Results, *, resume: bool = False, threads: int = THREADS
) -> Summary:
    """Writes the results of every image, and summary.json, whatever ends it.

    An image that cannot be read, asked about or named is reported on stderr, and the others go on. Beside the images
    that are asked about, `threads` are decoded at a time, as many wait, and twice as many are written or wait for it,
    with probabilities two.

    Args:
        predictor: the model.
        inputs: the images.
        results: the output folder.
        resume: leaves out what is done; see `Summary`.
        threads: that decode, and as many that write.

    Raises:
        DataError: the output folder cannot be written to.
    """
    try:
        summary = Summary(results, predictor, inputs, resume=resume)
        summary.write()  # a folder that cannot be written to is found out before the model is asked
        with _written_at_last(summary), _Progress(summary, len(summary.waiting(inputs))) as progress:
            _predict(predictor, summary.waiting(inputs), results, progress, threads)
    except OSError as error:
        raise DataError(
            f"{results.output} cannot be written to ({error}); make room there or choose another --output"
        ) from error
    return summary


def _predict(
    predictor: Predictor, items: Sequence[Input], results: Results, progress: "_Progress", threads: int
) -> None:
    with (
        closing(decoded(items, threads, ahead=threads + predictor.batch_size)) as images,
        _Writers(results, threads, progress) as writers,
    ):
        for batch in batched(images, _size, predictor.batch_size):
            for each in batch:
                if isinstance(each, Unreadable):
                    progress.failed(each.item, each.reason)
            readable = [each for each in batch if isinstance(each, Decoded)]
            for each, answer in zip(readable, _answers(predictor, readable, results), strict=True):
                if isinstance(answer, str):
                    progress.failed(each.item, f"{each.item.path}: {answer}")
                else:
                    writers.submit(each, answer)
        writers.finish()


def _answers(predictor: Predictor, images: Sequence[Decoded], results: Results) -> Iterator[Prediction | str]:
    """A prediction of each image, or why there is none; where several fail together, they are asked about alone.

    Raises:
        torch.AcceleratorError: the device is of no more use to this process.
    """
    probabilities = np.float16 if results.probabilities else None
    pixels = [each.image for each in images]
    predictions = predictor.ask(pixels, confidence=results.confidence, probabilities=probabilities)
    for done in range(len(images)):
        try:
            answer: Prediction | str = next(predictions)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # whatever a model raises at one size, or for one image, the others may do without
            answer = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if isinstance(answer, str) and len(images) > 1:
            for each in images[done:]:
                yield from _answers(predictor, [each], results)
            return
        yield answer


def _size(each: Decoded | Unreadable) -> object:
    return each.image.shape if isinstance(each, Decoded) else None


class _Progress:
    """Says what became of each image: to the summary, to a bar where stderr is a terminal, failures to stderr."""

    def __init__(self, summary: Summary, count: int) -> None:
        self.summary = summary
        console = Console(stderr=True)
        columns = (TextColumn("Predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task: TaskID = self.bar.add_task("", total=count)

    def __enter__(self) -> "_Progress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def succeeded(self, each: Decoded, prediction: Prediction) -> None:
        self.summary.succeeded(each.item, each.state, prediction.tile)
        self._advance()

    def failed(self, item: Input, reason: str) -> None:
        line = " ".join(reason.split())
        self.summary.results.remove(item.name)
        self.summary.failed(item, line)
        printable = CONTROLS.sub(lambda found: ascii(found[0])[1:-1], line)
        self.bar.console.print(f"failed: {printable}", markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._advance()

    def _advance(self) -> None:
        self.bar.advance(self.task)
        self.summary.write_sometimes()


class _Writers:
    """Threads that write results; who hands over waits while too many are not written yet."""

    def __init__(self, results: Results, threads: int, progress: _Progress) -> None:
        self.results, self.progress = results, progress
        self.most = MOST_WITH_PROBABILITIES if results.probabilities else 2 * threads
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="writer")
        self.waiting: deque[tuple[Decoded, Prediction, Future[None]]] = deque()

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(cancel_futures=True)
        while self.waiting:  # after an error, what was written nevertheless counts
            with suppress(CancelledError, OSError):
                self._settle()

    def submit(self, each: Decoded, prediction: Prediction) -> None:
        """Raises:
        OSError: something handed over earlier cannot be written, nor can anything.
        """
        future = self.pool.submit(self.results.write, each.item.name, each.image, prediction)
        self.waiting.append((each, prediction, future))
        while len(self.waiting) > self.most:
            self._settle()

    def finish(self) -> None:
        """Waits until all is written; raises as `submit`."""
        while self.waiting:
            self._settle()

    def _settle(self) -> None:
        each, prediction, future = self.waiting.popleft()
        try:
            future.result()
        except (DataError, MemoryError) as error:
            self.progress.failed(each.item, str(error) or f"{each.item.path}: out of memory")
        else:
            self.progress.succeeded(each, prediction)


@contextmanager
def _written_at_last(summary: Summary) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the disk that is full, perhaps
            summary.write()
        raise
    summary.write()

"""What is read off an answer, block by block, against the same from whole maps."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ccnet.evaluation import answers
from ccnet.evaluation.answers import Answer, labels, labels_and_likelihood, probabilities, row_blocks
from ccnet.evaluation.maps import Held, Mean, Mirrored, Resized, Softmax, Windows
from ccnet.out_of_memory import OutOfMemoryError


def random_logits(height: int, width: int, batch: int = 1, classes: int = 5) -> Tensor:
    return 3 * torch.randn(batch, classes, height, width, generator=torch.Generator().manual_seed(height + width))


def upsampled(logits: Tensor, size: tuple[int, int]) -> Softmax:
    return Softmax(Resized(Held(logits), size, align_corners=False))


@settings(deadline=None, max_examples=30)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 23)),
    batch=st.integers(1, 3),
    block=st.sampled_from([1, 6000, 2**18]),
)
@example(size=(32, 1), batch=1, block=1)
@example(size=(33, 1), batch=1, block=1)
@example(size=(71, 17), batch=2, block=6000)
def test_blocks_cover_all_rows_once_and_stay_small(size: tuple[int, int], batch: int, block: int) -> None:
    """Oracle: whole maps; 32 rows, or as many as the limit allows."""
    answer = upsampled(random_logits(5, 3, batch), size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "CPU_BLOCK", block)
        found = list(row_blocks(answer))
        assert torch.equal(probabilities(answer), torch.cat([rows for _, rows in found], dim=2))
    assert [row for rows, _ in found for row in range(rows.start, rows.stop)] == list(range(size[0]))
    assert all(rows.numel() <= max(block, 32 * batch * 5 * size[1]) for _, rows in found)
    expected = F.interpolate(random_logits(5, 3, batch), size, mode="bilinear").softmax(1)
    torch.testing.assert_close(torch.cat([rows for _, rows in found], dim=2), expected)


def windows_and_views() -> Answer:
    """The mean over a whole view and mirrored windows, in probabilities."""
    own = [(0, 0, Softmax(Held(random_logits(30, 20, 2)))), (12, 0, Softmax(Held(random_logits(30, 20, 2) - 1)))]
    return Mean([upsampled(random_logits(6, 4, 2), (42, 20)), Mirrored(Windows(own, (42, 20)))])


@pytest.mark.parametrize("make", [lambda: upsampled(random_logits(6, 4, 2), (42, 20)), windows_and_views])
def test_labels_and_likelihood(make: Callable[[], Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: argmax and gather on whole maps; a mask of 255, or of no class, spoils no other pixel."""
    monkeypatch.setattr(answers, "CPU_BLOCK", 3000)
    answer, everything = make(), probabilities(make())
    assert everything.shape == answer.shape == (2, 5, 42, 20)
    mask = torch.randint(0, 5, (2, 42, 20)).byte()
    mask[0, 3:9], mask[1, :, 4] = 255, 5
    found, likelihood = labels_and_likelihood(answer, mask)
    assert found.dtype == torch.uint8
    assert torch.equal(found, everything.argmax(1).byte())
    assert torch.equal(found, labels(answer))
    expected = everything.gather(1, mask.long().clamp_max(4)[:, None]).squeeze(1)
    torch.testing.assert_close(likelihood[mask < 5], expected[mask < 5])
    assert likelihood.dtype == torch.float32


def test_the_lowest_of_equal_classes_wins() -> None:
    """Oracle: by hand."""
    maps = torch.tensor([1.0, 3.0, 2.0, 3.0]).view(1, 4, 1, 1).expand(1, 4, 49, 5)
    for answer in (Held(maps), Softmax(Held(maps))):
        assert torch.equal(labels(answer), torch.ones(1, 49, 5).byte())
        assert torch.equal(labels_and_likelihood(answer, torch.zeros(1, 49, 5).byte())[0], labels(answer))


def test_classes_are_told_apart_that_softmax_merges() -> None:
    """Oracle: the logits: both probabilities of the pixel are 1/2 in float32."""
    maps = torch.tensor([0.0, 1e-9]).view(1, 2, 1, 1)
    assert int(labels(Softmax(Held(maps)))) == 1
    assert int(labels_and_likelihood(Softmax(Held(maps)), torch.zeros(1, 1, 1).byte())[0]) == 1


class Largest(TorchFunctionMode):
    """The most numbers that the memory of a tensor holds which a function of PyTorch returned."""

    numel = 0

    def __torch_function__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))  # type: ignore[operator]
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().size() // tensor.element_size())
        return result


def test_no_whole_map_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the size of every tensor that is made: a sixteenth of a map at most, or a plane of labels."""
    monkeypatch.setattr(answers, "CPU_BLOCK", 1)
    views = [upsampled(random_logits(64, 8, 1, 9), (512, 64)), upsampled(random_logits(40, 10, 1, 9), (512, 64))]
    for answer in (views[0], Mean([*views, Mirrored(views[0])]), Windows([(0, 0, views[0])], (512, 64))):
        with Largest() as largest:
            labels(answer)
            labels_and_likelihood(answer, torch.zeros(1, 512, 64).byte())
        assert 512 * 64 <= largest.numel < 9 * 512 * 64 / 8


@pytest.mark.parametrize(
    "use",
    [
        labels,
        probabilities,
        lambda answer: list(row_blocks(answer)),
        lambda answer: labels_and_likelihood(answer, torch.zeros(1, 40, 9).byte()),
    ],
)
def test_memory_may_run_out_while_an_answer_is_looked_at(use: Callable[[Answer], object]) -> None:
    """Oracle: an allocator that fails in the second block."""

    class Greedy(Held):
        def rows(self, top: int, bottom: int) -> Tensor:
            if top:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a ...")
            return super().rows(top, bottom)

    with pytest.raises(OutOfMemoryError, match=r"inference ran out of memory: 2.00 GiB more .*--slide"):
        use(Greedy(torch.rand(1, 4, 40, 9)))

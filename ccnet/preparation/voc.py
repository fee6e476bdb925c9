"""VOC 2012 and the SBD annotations (Hariharan et al., ICCV 2011), fetched and brought into one layout."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ccnet.data.voc import list_path, read_list, read_names, voc_color
from ccnet.errors import DataError
from ccnet.preparation.published_folder import publish_text, published_folder
from ccnet.visualize import index_png

LAYOUT = ("VOCdevkit", "VOC2012")  # as VOC's archive unpacks
SBD = ("benchmark_RELEASE", "dataset")  # as SBD's archive unpacks
AUGMENTED = "SegmentationClassAug"
NUM_VAL, NUM_TRAINAUG = 1449, 10582  # images of the published lists


def prepare(root: str | Path, download: bool = False) -> None:
    """Makes what the split trainaug needs: 10 582 images, which are SBD's and VOC's train less VOC's val.

    Where it is asked to, it downloads VOC 2012 and SBD (2 and 1.4 GB) into the folder above VOCdevkit/.
    SegmentationClassAug/ gets VOC's own mask of an image where there is one, else SBD's. PNGs that lie there already
    are kept, and only the list trainaug.txt is made of them. Does nothing where that list exists, or without data and
    `download`.

    Args:
        root: the folder VOCdevkit/VOC2012.
        download: whether to fetch what is missing.

    Raises:
        DataError: a root of another name, a download or a file of SBD that fails, or masks that are not all there.
    """
    folder = Path(root)
    if list_path(folder, "trainaug").is_file():
        return
    as_unpacked = folder.absolute().parts[-2:] == LAYOUT
    base = folder.absolute().parents[1] if as_unpacked else folder.absolute().parent
    if download:
        if not as_unpacked:
            raise DataError(f"{folder}: a download unpacks into {'/'.join(LAYOUT)}; let dataset.root end in that")
        _download(folder, base)
    if not (folder / AUGMENTED).is_dir() and (base / SBD[0]).is_dir():
        _convert(folder, base.joinpath(*SBD))
    if (folder / AUGMENTED).is_dir():
        held_out = set(read_list(folder, "val"))
        names = sorted({path.stem for path in (folder / AUGMENTED).glob("[!.]*.png")} - held_out)
        if len(held_out) == NUM_VAL and len(names) != NUM_TRAINAUG:
            raise DataError(
                f"{folder / AUGMENTED} holds {len(names)} masks outside VOC's val, not {NUM_TRAINAUG}; "
                "it is incomplete: remove the folder and prepare it again"
            )
        publish_text(list_path(folder, "trainaug"), "".join(f"{name}\n" for name in names))


def _download(folder: Path, base: Path) -> None:
    from torchvision.datasets import SBDataset, VOCSegmentation
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        if not _is_whole(folder):
            VOCSegmentation(str(base), year="2012", download=True)
        if not (folder / AUGMENTED).is_dir() and not _is_whole_sbd(base.joinpath(*SBD)):
            download_and_extract_archive(SBDataset.url, str(base), filename=SBDataset.filename, md5=SBDataset.md5)
    except (OSError, RuntimeError) as error:
        raise DataError(f"the download of VOC into {base} failed ({error}); run it again, or unpack by hand") from error


def _is_whole(folder: Path) -> bool:
    """Whether VOC lies there, all of it: the unpacking may have been interrupted."""
    lists = [list_path(folder, split) for split in ("train", "val")]
    return all(path.is_file() for path in lists) and all(
        (folder / "JPEGImages" / f"{name}.jpg").is_file() and (folder / "SegmentationClass" / f"{name}.png").is_file()
        for path in lists
        for name in read_names(path)
    )


def _is_whole_sbd(sbd: Path) -> bool:
    lists = [sbd / "train.txt", sbd / "val.txt"]
    return all(path.is_file() for path in lists) and all(
        (sbd / "cls" / f"{name}.mat").is_file() for path in lists for name in read_names(path)
    )


def _convert(folder: Path, sbd: Path) -> None:
    """SBD's MATLAB files, and VOC's masks of the training images, as palette PNGs in one folder."""
    own = {name: folder / "SegmentationClass" / f"{name}.png" for name in read_list(folder, "train")}
    held_out = set(read_list(folder, "val"))
    listed = {name for part in ("train", "val") for name in read_names(sbd / f"{part}.txt")}
    names, palette = sorted((listed | own.keys()) - held_out), [voc_color(index) for index in range(256)]
    console = Console(stderr=True)
    with published_folder(folder / AUGMENTED) as aside:
        for name in track(names, "Converting SBD's masks", console=console, disable=not console.is_terminal):
            if name in own:
                (aside / f"{name}.png").write_bytes(own[name].read_bytes())
            else:
                index_png(read_sbd_mask(sbd / "cls" / f"{name}.mat"), palette).save(aside / f"{name}.png")


def read_sbd_mask(path: Path) -> NDArray[np.uint8]:
    """The classes (H, W) of a file cls/NAME.mat of SBD.

    Raises:
        DataError: the file is not what SBD holds.
    """
    from scipy.io import loadmat  # here, as it takes long to import

    try:
        mask: NDArray[np.uint8] = loadmat(str(path))["GTcls"][0]["Segmentation"][0]
    except Exception as error:  # scipy raises what it likes for a damaged file
        raise DataError(f"{path} cannot be read as a mask of SBD ({error})") from error
    return mask

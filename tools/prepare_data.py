"""Makes data ready to be trained on; each command has a --help of its own.

python tools/prepare_data.py folder data/garden        inspects images/ and masks/, writes configs/dataset/garden.yaml
python tools/prepare_data.py labelme FOLDER --output data/garden                     LabelMe's files -> such a folder
python tools/prepare_data.py coco instances.json --images FOLDER --output data/garden    COCO's file -> such a folder
python tools/prepare_data.py voc --download            VOC 2012 with the annotations of SBD
python tools/prepare_data.py cache dataset=cityscapes  a copy that is faster to read; takes the words of train.py
"""

import sys

from ccnet.errors import one_line_errors
from ccnet.preparation.commands import run


def main(words: list[str]) -> None:
    """Hands the command line to the command."""
    for line in run(words, __doc__):
        print(line)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

"""Trains: python tools/train.py [+experiment=NAME] [key=value ...]. The same command resumes an unfinished run."""

import logging
import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ccnet.config import composition_errors, to_config, with_sweep_name
from ccnet.config_errors import CONFIG_DIR
from ccnet.errors import one_line_errors

os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra lets exceptions through, to be printed as one line
# OpenMP's threads spin while they wait for each other, by default so long that one other busy program makes a small
# network twenty times slower on two cores; read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
def main(node: DictConfig) -> None:
    """Hydra's entry point."""
    with one_line_errors():
        overrides = list(HydraConfig.get().overrides.task)
        config = with_sweep_name(to_config(node, overrides))

        from ccnet.session import train  # here, so that --help and a mistyped key answer at once

        train(config, overrides)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors(), composition_errors(sys.argv[1:]):
        main()

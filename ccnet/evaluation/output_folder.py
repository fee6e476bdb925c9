"""The folders that evaluations write into, which a stranger may have prepared."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccnet.errors import UserError


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Makes the folder where it is missing; its files are written inside.

    Raises:
        UserError: it is a link, the files would go elsewhere; or the system refuses.
    """
    try:
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a link; what is written there would go elsewhere; remove the link or name another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); free some space, mend its permissions or name "
            "another folder, then run the same command again"
        ) from error

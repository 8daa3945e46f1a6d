"""Which part of a data set is read, where a folder or an archive holds several: train, val, test."""

from collections.abc import Sequence

from flowscope.data.loaders.source import SPLITS
from flowscope.errors import InputError, listed


def choose_split(folders: Sequence[str], where: object, split: str | None) -> str | None:
    """The folder that is read: of train, val and test the one that is asked for; None for the whole.

    Args:
        folders: the names of the folders there are.
        where: in which they are, for messages.
        split: what the user asked for.

    Raises:
        InputError: there are such folders and `split` does not say which, or it names none of them.
    """
    if split == "none":
        return None
    if split is not None:
        if split not in folders:
            has = ", ".join(folders[:12]) or "none"
            raise InputError(
                f"split is {split!r} and {where} has the subfolders {has}; expected one of them, or 'none'"
            )
        return split
    parts = [name for name in folders if name.lower() in SPLITS]
    if parts and len(parts) in (len(folders), *range(2, len(folders))):
        raise InputError(
            f"{where} has the subfolders {listed(parts)}, which look like parts of a data set, not like classes; say "
            f"which to read: split={parts[0]!r} (--split {parts[0]}), or split='none' (--split none) for classes"
        )
    return None

"""``python -m art_ext`` is the command ``art-ext``; ``torchrun -m art_ext`` starts it in several processes."""

import os
import sys

from torch.distributed import destroy_process_group, is_available, is_initialized
from torch.distributed.elastic.multiprocessing.errors import record

from art_ext.cli import main


class CommandFailedError(Exception):
    """What ``main`` wanted to say with its last line."""


@record  # torchrun shows the error of the process that failed first, but takes no notice of a SystemExit
def one_of_several() -> None:
    """The command as one of the processes that ``torchrun`` started."""
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            raise CommandFailedError(stop.code) from None
        raise
    finally:
        if is_available() and is_initialized():
            destroy_process_group()


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        main()
    else:
        try:
            one_of_several()
        except CommandFailedError as error:
            sys.exit(str(error))

"""What can go wrong by a user's hand: one class an exit code, each message one line that says what, where and what to do.

| class       | exit code | means                                                              |
| ----------- | --------- | ------------------------------------------------------------------ |
| ConfigError | 2         | an option, a configuration file or a combination of settings       |
| DataError   | 3         | a corpus, a labelled file or a text that cannot be used            |
| CorruptError| 4         | a file that is not the one that was written (size or sha256)       |
| LockedError | 5         | another process is writing to the same folder                      |
| LostError   | 6         | a process that trained with this one, or made its batches, died    |
| (OSError)   | 28        | the disk is full (ENOSPC); 3 for anything else of the system's     |
| (signals)   | 75, 130   | pre-empted, interrupted (bertlab/signals.py)                       |

A broken promise of our own is an `assert`, never one of these.
"""


class BertlabError(ValueError):
    """Something that the user can mend; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(BertlabError):
    exit_code = 2


class DataError(BertlabError):
    exit_code = 3


class ColumnError(DataError):
    """A table without the column `column`, which was to be its "text", "text_b", "negatives" or "label" (`role`; "": no choice of the
    user's). The command line knows which option chooses it."""

    column = role = ""


class CorruptError(BertlabError):
    exit_code = 4


class LockedError(BertlabError):
    exit_code = 5


class LostError(BertlabError):
    exit_code = 6


def install(extra: str) -> str:
    """How what is missing is installed, in the versions that were tested together: for the end of a message."""
    return f"pip install -c constraints.txt -e '.[{extra}]' in bertlab's checkout"


def first_line(error: BaseException) -> str:
    """Of what a library said, or the name of what it raised where it said nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)

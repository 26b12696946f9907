"""The real text that ships: leads of English Wikipedia articles, CC BY-SA 4.0 (README.md beside this file).

Names the files and reads none of them.

| file                  | rows  | columns          | what for                                                     |
| --------------------- | ----- | ---------------- | ------------------------------------------------------------ |
| articles.jsonl.xz     | 9,129 | id, title, text  | pretraining                                                  |
| topics_train.jsonl.xz | 8,129 | id, text, label  | classification, 11 topics                                    |
| topics_test.jsonl.xz  |   904 | id, text, label  | its test set; none of these texts is in the other two files  |
"""

from importlib.resources import files
from pathlib import Path

from bertlab.errors import ConfigError

NAMES = ("articles.jsonl.xz", "topics_train.jsonl.xz", "topics_test.jsonl.xz")


def path(name: str) -> Path:
    """Where the sample's file `name` lies on this disk. Raises ConfigError for a name that is none of NAMES."""
    if name not in NAMES:
        raise ConfigError(f"{name} is not in the sample: choose one of {', '.join(NAMES)}")
    return Path(str(files(__name__))) / name

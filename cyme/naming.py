"""What may be a name, and how much is too much: the rules that everything shares (http-api.md, "Names").

Pure; what refuses something says so in its own words.
"""

from __future__ import annotations

import re

#: The longest name of a queue, in bytes of UTF-8: AMQP's short string.
QUEUE_NAME_MOST = 255
#: Where tasks of an app go that name no queue: what Celery calls its own.
DEFAULT_QUEUE = "celery"
#: The largest pool that can be declared.
CONCURRENCY_MOST = 10_000
#: The largest limit of memory that can be declared, in bytes: more than machines have.
MEMORY_MOST = 1 << 50
#: The longest time that can be declared, in seconds: three years.
SECONDS_MOST = 1e8
#: The branch's own files lie beside the folders of instances: branch.db, branch.lock and so on.
BRANCH_FILES = "branch."

#: What `is_plain_name` and `is_label` say, as regular expressions.
PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
LABEL = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[A-Za-z0-9._:/-]{1,63}"

_PLAIN = re.compile(PLAIN, re.ASCII)
_LABEL = re.compile(LABEL)


def is_plain_name(name: str) -> bool:
    """Whether an app, an instance or a branch may be called so: a folder, a node name, a routing key."""
    return _PLAIN.fullmatch(name) is not None


def is_queue_name(name: str) -> bool:
    """Whether a queue may be called so."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= QUEUE_NAME_MOST and name.isprintable() and "/" not in name

def is_label(text: object) -> bool:
    """Whether a text is a branch's label, `NAME=VALUE`."""
    return isinstance(text, str) and _LABEL.fullmatch(text) is not None

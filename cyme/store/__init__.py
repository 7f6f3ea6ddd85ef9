"""The store: one door to the database, in a thread of its own.

Transactions go in, frozen values come out; nothing of SQLAlchemy leaves this package. Functions
whose names begin with `thd_` run in the database's thread.

Note [Branches that share]
~~~~~~~~~~~~~~~~~~~~~~~~~~
Several branches may write to one database on a server. Each write first locks one row, as
SQLite's write lock would, and reads what is committed by then: without it MariaDB ended a third
of simultaneous saves as deadlocks, and two branches that named a new broker got in each other's
way. A load reads several tables and sees all of them as they were at one moment.

A branch may also be late: what it hears over the bus and saves, another has changed in the
database by then. So nothing takes the place of a higher version, and nothing of a higher version
is removed. (Otherwise the older row would look as if a person had written it, see Note [Changes
by hand] in `cyme.catalogue`, and would win.)

Events are read by the branch they happened on. A deduplication id is shared once its task is
confirmed; until then it is its branch's own, since others can't tell whether that one will ever
go on, and queue another task.
"""

from cyme.store.shrinking import SHRUNK_PAGES
from cyme.store.sqlstore import SQLStore

__all__ = ["SHRUNK_PAGES", "SQLStore"]

"""Who may do what: tokens, scopes, sessions of the pages, and the slowing of those who guess.

Nothing here knows of HTTP: `cyme.api.access` reads requests and asks here. A branch without a token
file lets everybody do everything, and so listens where only its own machine can reach it.

`principals` says who somebody is and what that allows; `tokens` reads the lines of a token file and
makes tokens; `tokenfile` keeps what the file says; `throttle` slows guessing and limits rates;
`sessions` remembers who has logged in to the pages, and their CSRF tokens.
"""

from cyme.access.principals import ANYBODY, Principal, Scope

__all__ = ["ANYBODY", "Principal", "Scope"]

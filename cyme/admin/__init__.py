"""The web pages under `/admin/`: what a person looks at, and changes, with a browser.

They are rendered here and live by themselves: with JavaScript a page fetches itself anew whenever
`/admin/live/` says that something may have changed (`live`), without it a reload does. Every change is
a form that is posted and answered with a redirection (`actions`, `editing`), so that both ways are one.

`site` puts it together; a page is a coroutine that takes a `visits.Visit` and answers with one of
`answers`; `routes` says where each is and who may see it. Nothing here knows more of a branch than
`cyme.interfaces.IController`.
"""

"""A small audiobook pipeline that shows what each guarantee looks like, and checks it.

    python -m gitstate.demo [--state FILE] [--keep]

It works in a temporary folder and with real processes. Exit status: 0 when every guarantee holds, 1 when one does not,
2 when the command line makes no sense. The states are not validated, so that any file will do for `--state`; only the
section about the schema uses one.
"""

"""The command line. One module a command; `main` imports only the one that is run.

Every command module has ``add_arguments(parser)`` and ``run(arguments) -> int``. Its work is done
by functions that return report dataclasses; printing is separate, in `output`.
"""

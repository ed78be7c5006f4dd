"""The password of a server that several users of a machine could reach, and the secrets that are for other servers."""

import os
import shlex
import stat
from pathlib import Path

from schemas.errors import UserError

AUTH = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
"""What the server asks for, and what its clients say: the same."""
FOREIGN = ("PREFECT_API_KEY", "PREFECT_CLIENT_CUSTOM_HEADERS")
"""Secrets of a server elsewhere; ours has no use for them."""
SHORTEST = 8


def read_password(file: Path | None) -> str | None:
    """The password in `file`: its only line.

    Raises:
        UserError: it cannot be read, others can read it, or it is no password.
    """
    if file is None:
        return None
    where = f"--password-file {file}"
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UserError("the password file is no plain file", where, "name a file with one line")
            text = opened.read(4096).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds a character beyond ASCII"
        raise UserError(f"the password file cannot be read: {reason}", where, make_one(file)) from None
    if found.st_mode & 0o077:
        fix = f"chmod 600 {shlex.quote(str(file))}, and change the password if others had the time to read it"
        raise UserError("other users of this machine can read the password file", where, fix)
    password = text.strip()
    if len(password) < SHORTEST or not password.isprintable():
        what = f"the password file must hold one line of at least {SHORTEST} characters"
        raise UserError(what, where, make_one(file))
    return password


def make_one(file: Path) -> str:
    """The command that makes such a file."""
    return f"make one: (umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > {shlex.quote(str(file))})"

"""Why a server's certificate was refused, and what helps."""

from __future__ import annotations

import ssl

# OpenSSL's X509_V_ERR_*
_DATES = (9, 10)  # not yet valid, expired
_NO_ISSUER = (2, 18, 19, 20, 21)
_OTHER_HOST = (62, 64)
_NOT_RFC_5280 = (
    78,
    *range(79, 95),
)  # looked for with VERIFY_X509_STRICT, Python's default since 3.13


def refusal_of_certificate(error: BaseException | None, verify: bool | str) -> str:
    """Return OpenSSL's reason and what helps; nothing if the error is another one.

    The text of the error itself holds the path too, and so a patient's code.

    :param verify: the setting of the connection.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message.rstrip('.')}. {_advice(error.verify_code, verify)}"
    within = (error.__cause__, error.__context__, *error.args) if error else ()
    errors = (each for each in within if isinstance(each, Exception))
    return next(filter(None, (refusal_of_certificate(each, verify) for each in errors)), "")


def _advice(code: int, verify: bool | str) -> str:
    if code in _NOT_RFC_5280:
        return (
            "It, or the certificate of its CA, does not follow RFC 5280, which Python 3.13 and newer "
            "check; `verify` does not change that. Have it issued again without this fault, or run "
            "this on Python 3.12."
        )
    if code in _OTHER_HOST:
        return "It belongs to another host: check the Base URL (Host) of the connection."
    if code in _DATES:
        return "Have it renewed, or check the clock of this machine."
    if code in _NO_ISSUER and isinstance(verify, str):
        return (
            "The CA that signed it is not in the file that `verify` names: add it there, and each "
            "intermediate CA that the server does not send."
        )
    return "If your own CA signed it, set `verify` in the connection to the file of that CA."

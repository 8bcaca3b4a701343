"""The grammar of HTTP/1.1: every pattern the protocol floor reads with, in one table.

All patterns are for `fullmatch`, unless their comment names `finditer`, which picks the members
out of a text that has matched as a whole, or `match` and `search`. Runs of one character class
are possessive (`*+`, `++`): no text can then be read in two ways, and a hostile one cannot make
matching take more than linear time.
"""

from __future__ import annotations

import re
from functools import reduce


def _wire(pattern: str) -> re.Pattern[bytes]:
    """Compile a pattern for bytes as received."""
    return re.compile(pattern.encode("ascii"))


def _list_of(element: str) -> str:
    """Return the pattern of a comma-separated list, empty elements allowed (RFC 9110 5.6.1.2)."""
    return rf"{_OWS}(?:{element})?(?:{_OWS},{_OWS}(?:{element})?)*{_OWS}"


def _so_far(*parts: str) -> str:
    """Return the pattern of every beginning of the parts in a row, the empty one included."""
    return reduce(lambda rest, part: f"(?:{part}{rest})?", reversed(parts), "")


# Character sets and the smallest elements, each for bytes and for text decoded as Latin-1.

CRLF = b"\r\n"
_OWS = r"[ \t]*+"  # RFC 9110 5.6.3; BWS and list white space are the same characters
_TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 5.6.2
_TOKEN = rf"{_TCHAR}++"
_TEXT = r"[\t\x20-\x7e\x80-\xff]"  # what a field value is made of, RFC 9110 5.5
_QUOTED = rf'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\{_TEXT})*"'  # RFC 9110 5.6.4
QUOTED_PAIR = re.compile(rf"\\({_TEXT})")  # for sub(), RFC 9110 5.6.4

# Parameters (RFC 9110 5.6.6). More is taken than is correct where clients in use send it: white
# space around "=" (RFC 2616 had it), and raw UTF-8, here as Latin-1, in a value without quotes.
_VALUE = r"[!#$%&'*+\-.^_`|~0-9A-Za-z\x80-\xff]++"
_PARAMETER = rf"({_TOKEN}){_OWS}={_OWS}({_VALUE}|{_QUOTED})"
_PARAMETERS = rf"(?:{_OWS};{_OWS}(?:{_TOKEN}{_OWS}={_OWS}(?:{_VALUE}|{_QUOTED}))?)*"
PARAMETER = re.compile(rf";{_OWS}{_PARAMETER}")  # finditer: name, value

# The request line (RFC 9112 3). No registered method is longer than 17 characters. In the target
# every visible character passes but "#", as a fragment is never sent (RFC 9112 3.2).
_METHOD = rf"{_TCHAR}{{1,64}}"
_TARGET_TEXT = r'[!"$-~]'
REQUEST_LINE = _wire(rf"({_METHOD}) ({_TARGET_TEXT}++) HTTP/([0-9])\.([0-9])")
REQUEST_LINE_SO_FAR = _wire(
    _so_far(_METHOD, " ", rf"{_TARGET_TEXT}++", *" HTTP/", "[0-9]", r"\.", "[0-9]", r"\r")
)
TARGET_SO_FAR = _wire(rf"{_METHOD} ({_TARGET_TEXT}++)")  # match
# At least one empty line before a request is to be borne (RFC 9112 2.2); four are. A lone CR at
# the end may yet become one.
EMPTY_LINES = _wire(r"(?:\r\n){1,3}(?:\r\n|\r\Z)?|\r\Z")  # match

# Where the request is for (RFC 9112 3.2, RFC 3986 3.2.2 and 3.2.3). An empty Host is correct where
# the target has no authority; user information is an error in http (RFC 9110 4.2.4).
_HOST_NAME = r"(?:\[[0-9A-Fa-f:.]++\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)"
HOST = re.compile(rf"(?:{_HOST_NAME}(?::[0-9]{{0,5}})?)?")
AUTHORITY_FORM = re.compile(rf"{_HOST_NAME}:[0-9]{{1,5}}")
ABSOLUTE_FORM = re.compile(rf"(?i:https?)://{_HOST_NAME}(?::[0-9]{{0,5}})?((?:[/?].*)?)")
BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")  # search, RFC 3986 2.1
ENCODED_SLASH = re.compile(r"%2[Ff]")  # search
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # search, RFC 5234 appendix B.1

# Field lines (RFC 9112 5). White space around the value is left to strip(): a pattern that did it
# would try every place where the value might end.
FIELD_LINE = _wire(rf"({_TOKEN}):({_TEXT}*+)")
FIELD_LINE_SO_FAR = _wire(r"\r|" + _so_far(_TOKEN, ":", rf"{_TEXT}*+", r"\r"))
FIELD_NAME = re.compile(_TOKEN)
FIELD_TEXT = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))  # _TEXT, for translate()

# Body framing (RFC 9112 6 and 7). Eighteen digits stay below 2**63, which is what a file may have.
CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")
TRANSFER_CODINGS = re.compile(rf"{_TOKEN}{_PARAMETERS}(?:{_OWS},{_OWS}{_TOKEN}{_PARAMETERS})*")
_EXTENSION = rf"{_OWS};{_OWS}{_TOKEN}(?:{_OWS}={_OWS}(?:{_TOKEN}|{_QUOTED}))?"
CHUNK_SIZE_LINE = _wire(rf"([0-9A-Fa-f]{{1,16}})((?:{_EXTENSION})*)\r\n")

# Negotiation (RFC 9110 12.4.2 and 12.5.1).
MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")  # 8.3.1, without parameters
_MEDIA_RANGE = rf"({_TOKEN}/{_TOKEN})({_PARAMETERS})"
MEDIA_RANGE = re.compile(_MEDIA_RANGE)  # finditer: type/subtype, parameters
ACCEPT = re.compile(_list_of(_MEDIA_RANGE))
WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

# Validators (RFC 9110 8.8.3, 13.1): in an entity-tag a backslash is an ordinary character.
_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
ENTITY_TAG = re.compile(_ENTITY_TAG)  # also finditer
ENTITY_TAGS = re.compile(_list_of(_ENTITY_TAG))

# Dates (RFC 9110 5.6.7): IMF-fixdate, then the obsolete RFC 850 and asctime formats.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_TIME = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_SHORT_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
HTTP_DATES = (
    re.compile(rf"{_SHORT_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"{_SHORT_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)

# Ranges (RFC 9110 14.1). Forty digits are more than any size has, and few for int().
_RANGE_SPEC = r"([0-9]{1,40})-([0-9]{0,40})|-([0-9]{1,40})"
RANGE_SPEC = re.compile(_RANGE_SPEC)  # finditer: first position, last position, suffix length
BYTE_RANGES = re.compile(rf"(?i:bytes)={_list_of(_RANGE_SPEC)}")

# Content-Disposition (RFC 6266 4.1) and extended values (RFC 8187 3.2.1).
DISPOSITION = re.compile(rf"{_TOKEN}({_PARAMETERS})")
EXTENDED_VALUE = re.compile(
    r"(?i:(utf-8|iso-8859-1))'[A-Za-z0-9\-]*'((?:%[0-9A-Fa-f]{2}|[!#$&+\-.^_`|~0-9A-Za-z])*)"
)
ATTR_CHARS = "!#$&+-.^_`|~"  # RFC 8187 3.2.1, beside letters and digits
# What neither a file name nor a text for a person ever carries out (sub): controls (C0, DEL, C1),
# the line separators, marks that reorder text on a screen ("gpj.exe" shown as "exe.jpg"), and
# surrogates, which UTF-8 has not.
UNSAFE_IN_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# What the plain `filename` does not show as it is (sub): other than ASCII, and what readers take
# for an escape, `"`, `\` and `%` (RFC 6266 appendix D).
UNSAFE_IN_FILENAME = re.compile(r'[^\x20-\x7e]|["\\%]')

# Structured dictionaries (RFC 9651 3.2; inner lists are no digest and are not read).
_SF_KEY = r"[a-z*][a-z0-9_\-.*]*+"
_SF_ITEM = (
    r":[A-Za-z0-9+/=]*+:"  # byte sequence
    r'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'  # string
    r"|-?[0-9]{1,15}(?:\.[0-9]{1,3})?"  # integer, decimal
    r"|\?[01]"  # boolean
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+"  # token
)
_SF_MEMBER = rf"({_SF_KEY})(?:=({_SF_ITEM}))?(?:; *+{_SF_KEY}(?:=(?:{_SF_ITEM}))?)*"
DICTIONARY_MEMBER = re.compile(_SF_MEMBER)  # finditer: key, item
DICTIONARY = re.compile(_list_of(_SF_MEMBER))

# Who has sent a request on (RFC 7239 4 and 6). X-Forwarded-For has no grammar of its own; where a
# port is given it is written as here, and an IPv6 address comes without brackets too.
_FORWARDED_PAIR = rf"{_TOKEN}=(?:{_TOKEN}|{_QUOTED})"
_FORWARDED_ELEMENT = rf"(?:{_FORWARDED_PAIR})?(?:{_OWS};{_OWS}(?:{_FORWARDED_PAIR})?)*"
FORWARDED = re.compile(_list_of(_FORWARDED_ELEMENT))
FORWARDED_ELEMENT = re.compile(_FORWARDED_ELEMENT)  # finditer
FORWARDED_PAIR = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")  # finditer: name, value
_OBFUSCATED = r"_[A-Za-z0-9._\-]{1,63}"  # RFC 7239 6.3; the length is our own bound
NODE = re.compile(  # address, or address without brackets and port, or obfuscated identifier
    rf"(?:\[([0-9A-Fa-f:.]++)\]|([0-9.]++)|({_OBFUSCATED}))(?::(?:[0-9]{{1,5}}|{_OBFUSCATED}))?"
    r"|([0-9A-Fa-f:.]++)"
)
